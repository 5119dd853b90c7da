"""The shared home of the index: Redis 7.0 or Valkey.

For a source whose digest is D in hexadecimal, all in one hash slot:

    halftone:{D}:gen      "EPOCH:GENERATION", compared as text
    halftone:{D}:record   the source record
    halftone:{D}:keys     hash: digest of an entry -> its size

The epoch is drawn at the first sight of a source and lives in the same value as its generation. So
a flush, an eviction by Redis or a failover to an empty server shows as another epoch, in the same
atomic step that reads the generation; there is no epoch key that could get lost alone.
"""

import hashlib
import importlib.resources
import re
from collections.abc import Callable
from random import Random
from typing import Final

from cache.errors import IndexUnavailable
from cache.index.interface import (
    EPOCH_DIGITS,
    MAX_MEMBERS,
    Purged,
    SourceRecord,
    Token,
)
from cache.index.link import BUDGET_S, Link, Stats
from cache.index.record import maybe_record, pack_record
from cache.index.server import Part, Reply
from cache.key import SourceId

# A source that nobody asked for in a month starts afresh: its entries become misses.
KEEP_MS: Final = 30 * 86_400_000
_TOKEN: Final = re.compile(rb"([0-9a-f]{16}):([0-9]{1,16})")


class _Script:
    def __init__(self, name: str) -> None:
        self.wait_s = 0.0
        folder = importlib.resources.files("cache.index") / "lua"
        self.text = (folder / f"{name}.lua").read_text("utf-8")
        # Redis names scripts by SHA-1; nothing here depends on its strength.
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class RedisIndex:
    """clock: seconds since 1970. monotonic: seconds. random: a source of epochs and jitter."""

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        random: Random,
        budget_s: float = BUDGET_S,
    ) -> None:
        self.link = Link(url, monotonic=monotonic, random=random, budget_s=budget_s)
        self._clock = clock
        self._random = random
        self._scripts = {name: _Script(name) for name in ("open", "put", "publish", "purge")}

    @property
    def exclusive(self) -> bool:
        return False

    @property
    def is_degraded(self) -> bool:
        return self.link.is_degraded

    @property
    def stats(self) -> Stats:
        return self.link.stats

    async def probe(self) -> None:
        await self.link.probe()

    async def start(self) -> None:
        await self.link.start()

    async def stop(self) -> None:
        await self.link.stop()

    async def open_source(self, source: SourceId) -> tuple[Token, SourceRecord | None]:
        first = f"{self._new_epoch()}:{self._now_ms()}"
        reply = await self._script("open", _keys(source, "gen", "record", "keys"), first, KEEP_MS)
        match reply:
            case [bytes() as token, (bytes() | None) as record]:
                return _parse_token(token), maybe_record(record)
        raise IndexUnavailable("redis answered open.lua with something else")

    async def put_source(self, source: SourceId, token: Token, record: SourceRecord) -> bool:
        packed = pack_record(record)
        keys = _keys(source, "gen", "record")
        return await self._script("put", keys, _text(token), packed, KEEP_MS) == 1

    async def publish(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool:
        keys = _keys(source, "gen", "keys")
        arguments = (_text(token), digest, size, MAX_MEMBERS, KEEP_MS)
        return await self._script("publish", keys, *arguments) == 1

    async def forget(self, source: SourceId, digest: bytes) -> None:
        await self._call("HDEL", *_keys(source, "keys"), digest)

    async def members(self, source: SourceId) -> tuple[bytes, ...]:
        return _digests(await self._call("HKEYS", *_keys(source, "keys")))

    async def purge(self, source: SourceId) -> Purged:
        keys = _keys(source, "gen", "record", "keys")
        reply = await self._script("purge", keys, self._new_epoch(), self._now_ms(), KEEP_MS)
        match reply:
            case [bytes() as token, list() as digests]:
                return Purged(_parse_token(token), _digests(digests))
        raise IndexUnavailable("redis answered purge.lua with something else")

    async def _script(self, name: str, keys: list[str], *arguments: Part) -> Reply:
        script = self._scripts[name]
        parts = (len(keys), *keys, *arguments)
        return await self._call("EVALSHA", script.sha, *parts, script=script)

    async def _call(self, *command: Part, script: _Script | None = None) -> Reply:
        """One command, within the budget. Raises IndexUnavailable."""
        return await self.link.call(_first_key(command), *command, script=script)

    def _new_epoch(self) -> str:
        return f"{self._random.getrandbits(4 * EPOCH_DIGITS):0{EPOCH_DIGITS}x}"

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _first_key(command: tuple[Part, ...]) -> str | bytes:
    """EVALSHA sha count key ..., or COMMAND key ...; "" where there is none."""
    key = command[3:4] if command[0] == "EVALSHA" else command[1:2]
    match key:
        case ((str() | bytes()) as text,):
            return text
    return ""


def _keys(source: SourceId, *names: str) -> list[str]:
    # The digest, not the path: no text of a client ever becomes part of a key.
    digest = source.digest.hex()
    return [f"halftone:{{{digest}}}:{name}" for name in names]


def _text(token: Token) -> str:
    return f"{token.epoch}:{token.generation}"


def _parse_token(text: bytes) -> Token:
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise IndexUnavailable("the stored token is none of ours")
    try:
        return Token(match[1].decode(), int(match[2]))
    except ValueError as error:
        raise IndexUnavailable(f"the stored token is none of ours: {error}") from error


def _digests(reply: Reply) -> tuple[bytes, ...]:
    if not isinstance(reply, list):
        raise IndexUnavailable("redis answered something else than a list")
    return tuple(digest for digest in reply if isinstance(digest, bytes))
