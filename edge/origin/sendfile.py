"""Files in place of an origin's body, by X-Sendfile, X-Accel-Redirect and kin. A Client around
another one, and the only place where such commands are obeyed (commands.py lists them).

The application says which file, and its host and this one see the same folders: below a root and
nowhere else is a file sent, opened as the docroot opens its own (files.py). What lies outside, or
is no regular file, is 403 and a line in the log; what is missing is 404. The rest of the answer
stays as the application made it, but for what only its own body had: length, ranges. Validators are
the file's where the application gave none; preconditions and Range, as far as the request has them,
are evaluated here, as of a file in a docroot.

Order of effects: the exchange with the origin ends before the file is opened, so that no place at
the origin is held while a file is read.
"""

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from edge.http.body import Descriptor
from edge.http.conditional import Preconditions, Verdict, evaluate
from edge.http.date import format_date, parse_date
from edge.http.etag import original_etag
from edge.http.media_types import media_type_of
from edge.http.range import (
    UNSATISFIABLE,
    ByteRange,
    content_range,
    if_range_holds,
    select_ranges,
    unsatisfied_range,
)
from edge.origin.address import Address
from edge.origin.commands import (
    Commands,
    Part,
    SendfileRoot,
    parse_commands,
    with_charset,
    with_lifetime,
    without,
)
from edge.origin.errors import (
    DocrootFailed,
    NotAllowed,
    OriginBroken,
    OriginError,
    OriginTruncated,
    Refusal,
)
from edge.origin.exchange import Client, Connections, Watcher
from edge.origin.files import Docroot, FileStatus
from edge.origin.messages import Headers, OriginRequest, OriginResponse

PIECE_BYTES: Final = 256 * 1024
# What an application writes beside such a command is read, so that its exchange ends cleanly, but
# not for long: with a length that speaks of the file, the end may never come.
DRAIN_S: Final = 0.25
DRAIN_BYTES: Final = 64 * 1024
_OF_THE_BODY: Final = ("accept-ranges", "content-range")
_BODILESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class _Slice:
    """Bytes of one file, which is closed with the last slice of it."""

    file: Descriptor
    status: FileStatus
    start: int
    stop: int


class SendfileClient:
    """roots: each with its folder, opened. wall gives seconds since 1970."""

    def __init__(
        self,
        client: Client,
        roots: Mapping[SendfileRoot, Docroot],
        *,
        threads: Executor,
        wall: Callable[[], int],
        logger: logging.Logger,
    ) -> None:
        self._client = client
        self._roots = roots
        self._threads = threads
        self._wall = wall
        self._logger = logger

    @property
    def connections(self) -> Connections:
        return self._client.connections

    async def aclose(self) -> None:
        await self._client.aclose()
        for docroot in self._roots.values():
            docroot.close()

    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> OriginResponse:
        response = await self._client.fetch(address, request, watcher)
        if not response.controls:
            return response
        try:
            commands = parse_commands(response.controls)
            if commands.parts and not self._roots:
                # Sending the (empty) body instead would cache an empty picture.
                raise OriginBroken(f"{commands.name} without sendfile_roots for this origin")
        except OriginBroken as failed:
            await response.aclose()
            raise OriginBroken(f"{address}: {failed}") from failed
        headers = with_lifetime(response.headers, commands.expires, self._wall())
        headers = tuple(
            (name, with_charset(value, commands.charset) if name == "content-type" else value)
            for name, value in headers
        )
        if not commands.parts:
            return response if headers == response.headers else _Retold(response, headers)
        await _drain(response)
        return await self._send(address, request, response.status, headers, commands)

    async def _send(
        self,
        address: Address,
        request: OriginRequest,
        status: int,
        headers: Headers,
        commands: Commands,
    ) -> OriginResponse:
        loop = asyncio.get_running_loop()
        try:
            slices = await loop.run_in_executor(self._threads, self._open, commands.parts)
        except NotAllowed as refused:
            self._logger.warning("origin %s: %s: %s", address, commands.name, refused)
            return _refusal(403)
        except DocrootFailed as failed:
            raise OriginBroken(f"{address}: {commands.name}: {failed}") from failed
        if slices is None:
            missing = ", ".join(ascii(part.path)[:200] for part in commands.parts)
            self._logger.info("origin %s: %s: missing: %s", address, commands.name, missing)
            return _refusal(404)
        headers = _described(headers, commands, slices)
        status = 200 if status == 206 else status
        if status == 200:
            status = _STATUSES[_evaluate(request, headers)]
        if status == 200:
            status, headers, slices = _ranged(request, headers, slices, self._wall())
        length = sum(one.stop - one.start for one in slices)
        has_body = status not in _BODILESS and status not in (412, 416)
        return FileResponse(
            status,
            headers,
            slices if has_body and request.method != "HEAD" else (),
            content_length=length if has_body else 0 if status == 416 else None,
            threads=self._threads,
        )

    def _open(self, parts: Sequence[Part]) -> Sequence[_Slice] | None:
        """Blocks on the disk. None where a file is missing. Raises NotAllowed, DocrootFailed."""
        slices: list[_Slice | None] = []
        try:
            slices.extend(map(self._maybe_open, parts))
        except BaseException:
            slices.clear()  # or the traceback keeps them open
            raise
        found = [one for one in slices if one is not None]
        return found if len(found) == len(slices) else None

    def _maybe_open(self, part: Part) -> _Slice | None:
        place = part.maybe_place(self._roots)
        if place is None:
            raise NotAllowed(f"{part.path!a:.200}: below no root", Refusal.ESCAPE)
        root, path = place
        opened = self._roots[root].open(path)
        if opened is None:
            return None
        stop = opened.size if part.stop is None else min(part.stop, opened.size)
        return _Slice(Descriptor(opened.fd), opened, min(part.start, stop), stop)


_STATUSES: Final = {
    Verdict.PROCEED: 200,
    Verdict.NOT_MODIFIED: 304,
    Verdict.PRECONDITION_FAILED: 412,
}


async def _drain(response: OriginResponse) -> None:
    """Reads what is left of an answer whose body nobody wants, and gives its connection up."""
    try:
        async with asyncio.timeout(DRAIN_S):
            left = DRAIN_BYTES
            while left > 0 and (data := await response.read()):
                left -= len(data)
    except (OriginError, TimeoutError):
        pass  # shorter than the file, say
    finally:
        await response.aclose()


def _described(headers: Headers, commands: Commands, slices: Sequence[_Slice]) -> Headers:
    """headers, made true of the file."""
    headers = without(headers, _OF_THE_BODY)
    names = {name for name, _ in headers}
    validators = [f"{one.status.validator} {one.start}-{one.stop}" for one in slices]
    is_whole = len(slices) == 1 and slices[0].stop - slices[0].start == slices[0].status.size
    tag = slices[0].status.validator if is_whole else ",".join(validators)
    modified = max(one.status.mtime_ns for one in slices) // 1_000_000_000
    own = {
        "content-type": with_charset(media_type_of(commands.parts[0].path), commands.charset),
        "etag": original_etag(tag),
        "last-modified": format_date(max(modified, 0)),
    }
    return (*headers, *((name, value) for name, value in own.items() if name not in names))


def _maybe(name: str, fields: Headers) -> str | None:
    values = [value for field, value in fields if field.lower() == name]
    return ", ".join(values) if values else None


def _evaluate(request: OriginRequest, headers: Headers) -> Verdict:
    if request.method not in ("GET", "HEAD"):
        return Verdict.PROCEED
    asked = request.headers
    modified = _maybe("last-modified", headers)
    return evaluate(
        Preconditions(
            if_match=_maybe("if-match", asked),
            if_none_match=_maybe("if-none-match", asked),
            if_modified_since=_maybe("if-modified-since", asked),
            if_unmodified_since=_maybe("if-unmodified-since", asked),
        ),
        is_safe=True,
        etag=_maybe("etag", headers),
        last_modified=None if modified is None else parse_date(modified),
    )


def _ranged(
    request: OriginRequest, headers: Headers, slices: Sequence[_Slice], now: int
) -> tuple[int, Headers, Sequence[_Slice]]:
    """What Range makes of a 200. Of several ranges the whole, which is always right."""
    wanted, if_range = _maybe("range", request.headers), _maybe("if-range", request.headers)
    whole = (200, headers, slices)
    if wanted is None or request.method != "GET":
        return whole
    modified = _maybe("last-modified", headers)
    if if_range is not None and not if_range_holds(
        if_range, _maybe("etag", headers), None if modified is None else parse_date(modified), now
    ):
        return whole
    length = sum(one.stop - one.start for one in slices)
    ranges = select_ranges(wanted, length)
    if ranges is UNSATISFIABLE:
        refused = (("content-range", unsatisfied_range(length)), ("cache-control", "no-store"))
        return 416, refused, ()
    if ranges is None or len(ranges) > 1:
        return whole
    [one] = ranges
    told = content_range(one.first, one.last, length)
    return 206, (*headers, ("content-range", told)), _cut(slices, one)


def _cut(slices: Sequence[_Slice], wanted: ByteRange) -> Sequence[_Slice]:
    """What of the slices, one behind the other, lies in a range of them."""
    found, at = [], 0
    for one in slices:
        start = one.start + max(wanted.first - at, 0)
        stop = min(one.stop, one.start + wanted.last + 1 - at)
        if start < stop:
            found.append(dataclasses.replace(one, start=start, stop=stop))
        at += one.stop - one.start
    return found


def _refusal(status: int) -> "FileResponse":
    """Ours, so nothing of the application's answer holds for it."""
    return FileResponse(status, (("content-type", "text/plain"),), (), content_length=0)


class FileResponse:
    """An OriginResponse whose body is made of files. Without slices nothing is read."""

    local_redirect = None
    controls: Headers = ()

    def __init__(
        self,
        status: int,
        headers: Headers,
        slices: Sequence[_Slice],
        *,
        content_length: int | None,
        threads: Executor | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.content_length = content_length
        self._threads = threads
        self._slices = list(slices)
        self._at = slices[0].start if slices else 0
        self._is_closed = False
        self._has_changed = False

    def maybe_all(self) -> bytes | None:
        return None

    @property
    def is_cacheable(self) -> bool:
        """Read to its end, and no file was written to meanwhile."""
        return not self._slices and not self._is_closed and not self._has_changed

    async def read(self) -> bytes:
        while self._slices:
            one = self._slices[0]
            size = min(PIECE_BYTES, one.stop - self._at)
            loop = asyncio.get_running_loop()
            piece = await loop.run_in_executor(self._threads, self._read, one, size)
            self._at += len(piece)
            if self._at >= one.stop:
                self._slices.pop(0)
                self._at = self._slices[0].start if self._slices else 0
            if piece:
                return piece
        return b""

    def _read(self, one: _Slice, size: int) -> bytes:
        """Blocks on the disk."""
        try:
            piece = os.pread(one.file.fd, size, self._at)
            found = os.fstat(one.file.fd)
        except OSError as failed:
            raise OriginTruncated(f"file ended at byte {self._at}: {failed.strerror}") from failed
        if len(piece) < size:
            raise OriginTruncated(f"file ended at byte {self._at + len(piece)} of {one.stop}")
        if (found.st_mtime_ns, found.st_size) != (one.status.mtime_ns, one.status.size):
            self._has_changed = True
        return piece

    async def aclose(self) -> None:
        self._is_closed = bool(self._slices)
        self._slices.clear()


class _Retold:
    """An answer with other fields."""

    local_redirect = None

    def __init__(self, response: OriginResponse, headers: Headers) -> None:
        self._response = response
        self.controls = response.controls
        self.status = response.status
        self.headers = headers
        self.content_length = response.content_length

    @property
    def is_cacheable(self) -> bool:
        return self._response.is_cacheable

    def maybe_all(self) -> bytes | None:
        return self._response.maybe_all()

    async def read(self) -> bytes:
        return await self._response.read()

    async def aclose(self) -> None:
        await self._response.aclose()
