"""The shared home of the index: Redis 7.0 or Valkey.

For a source whose digest is D in hexadecimal, all in one hash slot:

    halftone:{D}:gen      "EPOCH:GENERATION:APPLIED"; the first two are the token, compared as text
    halftone:{D}:record   the source record
    halftone:{D}:keys     hash: digest of an entry -> its size
    halftone:{D}:fails    hash: digest of a key and a version -> failure
    halftone:{D}:urls     list: URLs that were handed out
    halftone:{D}:lease:N  who leads the flight N; N the lease's name in hexadecimal
    halftone:{D}:parcel:N what a leader left for those who wait

For all of the farm the log of orders, in another slot (see lua/announce.lua):

    halftone:{orders}:state, :wide, :single, :down

And for a site or a tag whose digests are S and T, in the site's slot, sorted sets of paths. A month
P begins new ones and the last two are read, so what nobody asks for is not listed for ever:

    halftone:{S}:paths:P, halftone:{S}:tag:T:P

The epoch is drawn at the first sight of a source and lives in the same value as its generation. So
a flush, an eviction by Redis or a failover to an empty server shows as another epoch, in the same
atomic step that reads the generation; there is no epoch key that could get lost alone.
"""

import hashlib
import importlib.resources
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Final

from redis.asyncio.connection import AbstractConnection

from cache.errors import IndexUnavailable
from cache.index.hints import Hints, Tell
from cache.index.interface import (
    BOUNDS,
    EPOCH_DIGITS,
    MAX_FAILURES,
    MAX_LISTED_TAGS,
    MAX_MEMBERS,
    MAX_SPELLINGS,
    SETTLE_MS,
    Bounds,
    CatalogueStats,
    Delivery,
    Failure,
    HintStats,
    Known,
    Member,
    OrderPage,
    Overtaken,
    Purged,
    Sight,
    SourceRecord,
    Surveyed,
    Token,
    catalogue_of,
    check_parcel,
    keepable,
    too_many_takedowns,
)
from cache.index.link import BUDGET_S, Link, Stats
from cache.index.listing import named
from cache.index.news import CHANNEL, News
from cache.index.record import (
    maybe_failure,
    maybe_order,
    maybe_record,
    maybe_source,
    pack_failure,
    pack_order,
    pack_record,
    pack_source,
)
from cache.index.server import Part, Reply
from cache.key import SourceId
from cache.orders import Act, Order, Scope

# A source that nobody asked for in a month starts afresh: its entries become misses.
KEEP_MS: Final = 30 * 86_400_000
_TOKEN: Final = re.compile(rb"([0-9a-f]{16}):([0-9]{1,16})")

# What a purge and an order wait for a replica, beyond the budget.
WAIT_S: Final = 0.05
_AWAITED: Final = ("announce", "purge")
_SCRIPTS: Final = (
    *("open", "put", "publish", "purge", "fail", "announce", "orders"),
    *("lease", "renew_lease", "end_lease", "delivery", "spell", "register", "overtake"),
)
# Among the members of a source: something was published under its generation; see publish.lua.
_PUBLISHED: Final = b"+"
# What a hint holds on to, beside the bytes that it carries.
_SIZE: Final = 600
_LOG_KEYS: Final = tuple(
    f"halftone:{{orders}}:{name}" for name in ("state", "wide", "single", "down")
)
# Orders of each kind, paths, take-downs that one command answers at most.
_PAGE: Final = 250


class _Script:
    """wait_s: after it, wait so long for a replica to have what it wrote. Its result is a list
    then, whose last element turns from how many replicas are connected into how many have it."""

    def __init__(self, name: str) -> None:
        self.wait_s = WAIT_S if name in _AWAITED else 0.0
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
        bounds: Bounds = BOUNDS,
    ) -> None:
        self.link = Link(url, monotonic=monotonic, random=random, budget_s=budget_s)
        self.catalogue = CatalogueStats()
        self.on_news: Callable[[], None] = _nobody_listens
        self._hints = Hints()
        self._news = News(self._connected, self._heard, random)
        self._bounds = bounds
        self._last_seq = 0  # of an order, as far as is known here
        self._clock = clock
        self._random = random
        self._scripts = {name: _Script(name) for name in _SCRIPTS}

    @property
    def hints(self) -> HintStats:
        return self._hints.stats

    @property
    def times_degraded(self) -> int:
        return self.link.times_degraded

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
        # Also while some server of a cluster is away: hints for the others can be told.
        self._hints.wake()

    async def start(self) -> None:
        await self.link.start()
        self._news.start()

    async def stop(self) -> None:
        await self._news.stop()
        await self._hints.stop()
        await self.link.stop()

    async def open_source(
        self, source: SourceId, *, barrier: int = 0, head: int = 0, settled: int = 0
    ) -> Sight:
        keys = _keys(source, "gen", "record", "keys", "fails", "urls")
        now = self._now_ms()
        first = f"{self._new_epoch()}:{now & ~1}"
        # Whatever raises or makes a generation leaves nothing that is older than all of head.
        head = max(barrier, head)
        arguments = (first, now, barrier, head, KEEP_MS, settled, SETTLE_MS)
        reply = await self._script("open", keys, *arguments)
        match reply:
            case [bytes() as token, applied, bytes() | None as packed, list() as failed, renewed]:
                record = maybe_record(packed)
                if renewed == 2 or (renewed == 1 and record is not None and record.tags):
                    self._renew_listing(source, () if record is None else record.tags)
                failures = self._failures(failed)
                return Sight(_parse_token(token), record, _number(applied), failures)
        raise IndexUnavailable("redis answered open.lua with something else")

    async def put_source(self, source: SourceId, token: Token, record: SourceRecord) -> bool:
        packed = pack_record(record)
        keys = _keys(source, "gen", "record")

        async def tell(asked_at: Part = "") -> bool:
            return await self._script("put", keys, _text(token), packed, KEEP_MS, asked_at) == 1

        is_stored = await self._told(
            ("record", source.digest),
            tell,
            # What others have learned in the meantime stays.
            lambda: tell(record.stored_at),
            _SIZE + len(packed),
            token,
        )
        if is_stored and record.tags:
            await self._register(source, record.tags)
        return is_stored

    async def publish(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool:
        keys = _keys(source, "gen", "keys")

        async def tell() -> bool:
            arguments = (_text(token), digest, size, MAX_MEMBERS, KEEP_MS)
            return await self._script("publish", keys, *arguments) == 1

        return await self._told(("entry", source.digest, digest), tell, tell, _SIZE, token)

    def publish_now(self, source: SourceId, token: Token, digest: bytes, size: int) -> bool | None:
        del source, token, digest, size
        return None  # the connections are the loop's

    async def forget(self, source: SourceId, digest: bytes) -> None:
        async def tell() -> bool:
            await self._call("HDEL", *_keys(source, "keys"), digest)
            return True

        await self._told(("entry", source.digest, digest), tell, tell, _SIZE)

    async def members(self, source: SourceId) -> tuple[bytes, ...]:
        return _digests(await self._call("HKEYS", *_keys(source, "keys")))

    async def look_up(self, source: SourceId) -> Known | None:
        # Two commands: a purge in between makes the token newer than the entries, as if it had
        # come after both.
        digests = await self.members(source)
        token = await self._call("GET", *_keys(source, "gen"))
        if token is None:
            return None
        if not isinstance(token, bytes):
            raise IndexUnavailable("redis answered GET with something else")
        return Known(_parse_token(token.rpartition(b":")[0]), digests)

    async def listed(self, after: bytes, limit: int) -> None:
        """Of a hundred million entries of the farm a few are this node's."""
        del after, limit

    async def unlist(self, members: Sequence[Member]) -> None:
        for member in members:
            await self._call("HDEL", f"halftone:{{{member.source.hex()}}}:keys", member.digest)

    async def purge(self, source: SourceId) -> Purged:
        keys = _keys(source, "gen", "record", "keys", "fails")
        reply = await self._script("purge", keys, self._new_epoch(), self._now_ms(), KEEP_MS)
        match reply:
            case [bytes() as token, list() as digests, int() as replicas]:
                return Purged(_parse_token(token), _digests(digests), replicas)
        raise IndexUnavailable("redis answered purge.lua with something else")

    async def overtake(self, source: SourceId) -> Overtaken:
        keys = _keys(source, "gen", "record", "keys", "fails")
        match await self._script("overtake", keys, self._new_epoch(), self._now_ms(), KEEP_MS):
            case None:
                return Overtaken(is_bare=False)
            case bytes() as token:
                return Overtaken(is_bare=True, token=_parse_token(token))
        raise IndexUnavailable("redis answered overtake.lua with something else")

    async def put_failure(
        self, source: SourceId, token: Token, digest: bytes, failure: Failure
    ) -> bool:
        now = self._clock()
        left_ms = max(0, int((failure.until - now) * 1000))
        arguments = (_text(token), digest, pack_failure(failure), left_ms, int(now), MAX_FAILURES)
        return await self._script("fail", _keys(source, "gen", "fails"), *arguments) == 1

    def _failures(self, reply: list[Reply]) -> dict[bytes, Failure]:
        now = self._clock()
        found = {}
        for digest, packed in zip(reply[::2], reply[1::2], strict=False):
            if isinstance(digest, bytes) and isinstance(packed, bytes):
                failure = maybe_failure(packed, now)
                if failure is not None:
                    found[digest] = failure
        return found

    # The log of orders

    async def announce(self, order: Order) -> int:
        is_single = order.scope is Scope.SOURCE
        marks: tuple[Part, ...] = ("", "", "")
        if order.act in (Act.TAKE_DOWN, Act.LIFT):
            marks = (order.act, order.source.digest, pack_source(order.source))
        reply = await self._script(
            "announce",
            _LOG_KEYS,
            *(self._new_epoch(), max(self._last_seq, order.seq), pack_order(order)),
            *(3 if is_single else 2, self._bounds.orders, *marks, self._bounds.takedowns, CHANNEL),
        )
        match reply:
            case [b"", int()]:
                raise too_many_takedowns(self._bounds)
            case [bytes() as text, int()]:
                seq = _number(text)
                self._last_seq = max(self._last_seq, seq)
                return seq
        raise IndexUnavailable("redis answered announce.lua with something else")

    async def orders(self, after: int) -> OrderPage:
        found: list[Order] = []
        while True:
            page, is_whole = await self._orders(after)
            found += page.orders
            if is_whole:
                self._last_seq = max(self._last_seq, page.head)
                return replace(page, orders=tuple(found))
            after = page.head

    async def _orders(self, after: int) -> tuple[OrderPage, bool]:
        """As far as one command answers, True when that is all; else head is how far."""
        reply = await self._script("orders", _LOG_KEYS, self._new_epoch(), after, _PAGE)
        match reply:
            case [bytes() as epoch, head, horizon, forgotten, list() as wide, list() as single]:
                pass
            case _:
                raise IndexUnavailable("redis answered orders.lua with something else")
        logs = [[_parse_order(text) for text in packed] for packed in (wide, single)]
        # Each is cut at a length of its own: what the other one lacks comes with the next.
        cuts = [log[-1][0] for log in logs if len(log) == _PAGE]
        last = min(cuts, default=max(_number(head), after))
        # What cannot be read may have been anything: it counts as dropped.
        unread = [max((seq for seq, order in log if order is None), default=0) for log in logs]
        orders = (order for log in logs for seq, order in log if order is not None and seq <= last)
        page = OrderPage(
            tuple(sorted(orders, key=lambda order: order.seq)),
            last if cuts else _number(head),
            max(_number(horizon), unread[0]),
            epoch.decode("latin-1"),
            max(_number(forgotten), unread[1]),
        )
        return page, not cuts

    async def takedowns(self) -> frozenset[SourceId]:
        found: set[SourceId] = set()
        cursor: Part = 0
        while True:
            reply = await self._call("HSCAN", _LOG_KEYS[3], cursor, "COUNT", _PAGE)
            match reply:
                case [bytes() as cursor, list() as names]:
                    found.update(filter(None, map(maybe_source, _texts(names[1::2]))))
                case _:
                    raise IndexUnavailable("redis answered HSCAN with something else")
            if cursor == b"0":
                return frozenset(found)

    # Leases

    async def lease(self, source: SourceId, name: bytes, owner: str, ttl_s: float) -> bool:
        return await self._script("lease", _lease(source, name), owner, _ms(ttl_s)) == 1

    async def renew_lease(self, source: SourceId, name: bytes, owner: str, ttl_s: float) -> bool:
        return await self._script("renew_lease", _lease(source, name), owner, _ms(ttl_s)) == 1

    async def end_lease(self, source: SourceId, name: bytes, owner: str) -> bool:
        return await self._script("end_lease", _lease(source, name), owner) == 1

    async def put_parcel(self, source: SourceId, name: bytes, parcel: bytes, ttl_s: float) -> None:
        check_parcel(parcel)
        (key,) = _keys(source, f"parcel:{name.hex()}")
        await self._call("SET", key, parcel, "PX", _ms(ttl_s))

    async def delivery(self, source: SourceId, name: bytes) -> Delivery:
        keys = _keys(source, f"lease:{name.hex()}", f"parcel:{name.hex()}")
        match await self._script("delivery", keys):
            case [int() as is_led, bytes() | None as parcel]:
                return Delivery(is_led == 1, parcel)
        raise IndexUnavailable("redis answered delivery.lua with something else")

    # URLs and catalogues

    async def add_spellings(self, source: SourceId, urls: Sequence[str]) -> None:
        kept = keepable(urls)
        self.catalogue.urls_dropped += len(urls) - len(kept)
        await self._register(source, ())
        for at in range(0, len(kept), _PAGE):
            await self._spell(source, kept[at : at + _PAGE])

    async def _spell(self, source: SourceId, urls: Sequence[str]) -> None:
        async def tell() -> bool:
            reply = await self._script(
                "spell", _keys(source, "urls"), MAX_SPELLINGS, KEEP_MS, *urls
            )
            self.catalogue.urls_dropped += _number(reply)
            return True

        name = ("urls", source.digest, *urls)
        await self._told(name, tell, tell, _SIZE + sum(map(len, urls)))

    async def spellings(self, source: SourceId) -> tuple[str, ...]:
        return _urls(await self._call("LRANGE", *_keys(source, "urls"), 0, -1))

    async def survey(self, sources: Sequence[SourceId]) -> tuple[Surveyed, ...]:
        questions: list[tuple[str, tuple[Part, ...]]] = []
        for source in sources:
            members, urls = _keys(source, "keys", "urls")
            questions.append((members, ("HKEYS", members)))
            questions.append((urls, ("LRANGE", urls, 0, -1)))
        replies = await self.link.call_each(questions)
        pairs = zip(replies[::2], replies[1::2], strict=True)
        return tuple(Surveyed(len(_digests(found)), _urls(urls)) for found, urls in pairs)

    async def _register(self, source: SourceId, tags: Sequence[str]) -> None:
        """List the source in its site and under these tags, now or when Redis answers again."""
        name = ("listing", source.digest, *tags)
        tell = self._listing(source, tags)
        with suppress(IndexUnavailable):  # it waits to be told; what led here has taken place
            await self._told(name, tell, tell, _SIZE + sum(map(len, tags)))

    def _renew_listing(self, source: SourceId, tags: Sequence[str]) -> None:
        """As _register(), but nobody waits."""
        name = ("listing", source.digest, *tags)
        self._hints.add(name, self._listing(source, tags), _SIZE + sum(map(len, tags)))

    def _listing(self, source: SourceId, tags: Sequence[str]) -> Tell:
        async def tell() -> bool:
            kept = tuple(dict.fromkeys(tags))[:MAX_LISTED_TAGS]
            period = self._now_ms() // KEEP_MS
            keys = [_catalogue(source.site, None, period)]
            keys += [_catalogue(source.site, tag, period) for tag in kept]
            path, keep_ms = source.path.encode(), 2 * KEEP_MS
            reply = await self._script("register", keys, path, self._bounds.paths, keep_ms)
            self.catalogue.paths_dropped += _number(reply) + len(set(tags)) - len(kept)
            return True

        return tell

    async def sources_of(
        self, scope: Scope, site: str, value: str, limit: int
    ) -> tuple[SourceId, ...]:
        if scope is Scope.SOURCE:
            return (SourceId(site, value),)[:limit]
        start, tag = (b"", value) if scope is Scope.TAG else (value.encode(), None)
        found: dict[bytes, None] = {}
        period = self._now_ms() // KEEP_MS
        for key in (_catalogue(site, tag, period), _catalogue(site, tag, period - 1)):
            after = b"[" + start
            while len(found) < limit:
                # No byte of UTF-8 is 255.
                span = (after, b"(" + start + b"\xff", "LIMIT", 0, min(_PAGE, limit))
                page = _texts(await self._call("ZRANGEBYLEX", key, *span))
                found |= dict.fromkeys(page)
                if len(page) < min(_PAGE, limit):
                    break
                after = b"(" + page[-1]
        return await named(site, [path.decode("utf-8", "replace") for path in list(found)[:limit]])

    # Commands

    async def _told(
        self,
        name: tuple[object, ...],
        tell: Tell,
        tell_late: Tell,
        size: int,
        token: Token | None = None,
    ) -> bool:
        """tell(), and if there is no answer, tell_late() when there are answers again."""
        try:
            is_true = await tell()
        except IndexUnavailable:
            if token is None or not token.is_unknown:
                self._hints.add(name, tell_late, size)
            raise
        self._hints.overtake(name)
        return is_true

    async def _script(self, name: str, keys: Sequence[str], *arguments: Part) -> Reply:
        script = self._scripts[name]
        parts = (len(keys), *keys, *arguments)
        reply = await self._call("EVALSHA", script.sha, *parts, script=script)
        self._hints.wake()
        return reply

    def _heard(self) -> None:
        self.on_news()

    async def _connected(self) -> AbstractConnection:
        """A connection for somebody else's use, to where the log is."""
        return await self.link.connect(_LOG_KEYS[0])

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


def _lease(source: SourceId, name: bytes) -> list[str]:
    return _keys(source, f"lease:{name.hex()}")


def _catalogue(site: str, tag: str | None, period: int) -> str:
    slot = catalogue_of(site).hex()
    of_tag = "paths" if tag is None else f"tag:{catalogue_of(site, tag).hex()}"
    return f"halftone:{{{slot}}}:{of_tag}:{period}"


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


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


def _texts(reply: Reply) -> tuple[bytes, ...]:
    if not isinstance(reply, list):
        raise IndexUnavailable("redis answered something else than a list")
    return tuple(text for text in reply if isinstance(text, bytes))


def _urls(reply: Reply) -> tuple[str, ...]:
    return tuple(url.decode("utf-8", "replace") for url in _texts(reply))


def _digests(reply: Reply) -> tuple[bytes, ...]:
    """Of members, without the field that says that there were some."""
    return tuple(text for text in _texts(reply) if text != _PUBLISHED)


def _number(reply: Reply) -> int:
    try:
        if isinstance(reply, int | bytes):
            return int(reply)
    except ValueError:
        pass
    raise IndexUnavailable("redis answered something else than a number")


def _parse_order(text: Reply) -> tuple[int, Order | None]:
    if not isinstance(text, bytes):
        raise IndexUnavailable("redis answered something else than orders")
    digits, _, packed = text.partition(b":")
    seq = _number(digits)
    return seq, maybe_order(packed, seq)


def _nobody_listens() -> None:
    pass
