"""Originals in storage that speaks S3, by obstore (the extra s3). A Client.

An object is an answer: its bytes, its ETag, its date, and of its metadata what describes it. A path
of the site, below the prefix, is the key. Only GET and HEAD are there. obstore keeps connections,
signs, and knows the environment's credentials (AWS_ACCESS_KEY_ID and kin). It has no deadline of
its own but for connecting, and tries once more: it does not tell a kept connection that was dead
from a storage that is.

The text of its errors holds the storage's whole answer, so a line of it is all that is logged.
"""

import asyncio
import datetime
import logging
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from edge.http.date import format_date, parse_date
from edge.origin.address import Address
from edge.origin.connect import open_stream
from edge.origin.errors import (
    OriginBroken,
    OriginError,
    OriginTimeout,
    OriginTruncated,
    Phase,
)
from edge.origin.exchange import Connections, Deadlines, Result, Watcher, result_of
from edge.origin.messages import FIELD_VALUE, Headers, OriginRequest
from edge.origin.names import Names

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import S3Config, S3Store

# Metadata that are header fields; what else an object carries is its owner's business.
_DESCRIBING: Final = (
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Type",
)
# One range; a list of them, or what is malformed, is answered by the whole (RFC 9110 section 14.2).
_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.ASCII)
# reqwest has one for the whole answer, also while a slow client holds it up; ours are below it.
_NO_TIMEOUT: Final = datetime.timedelta(days=1)
_PAUSE: Final = datetime.timedelta(milliseconds=20)
_STREAM_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Bucket:
    """endpoint is "" for Amazon's own. Without keys the environment's count."""

    name: str
    prefix: str = ""
    region: str = "us-east-1"
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    is_anonymous: bool = False


@dataclass(frozen=True, slots=True)
class _Range:
    """of the object: from start to before stop (None: its end), or its last suffix bytes."""

    start: int = 0
    stop: int | None = None
    suffix: int | None = None


class S3Client:
    """address, of the pool's one host, is where the storage listens."""

    def __init__(
        self,
        bucket: Bucket,
        deadlines: Deadlines,
        logger: logging.Logger,
        *,
        names: Names | None = None,
    ) -> None:
        """Raises ImportError without obstore, ValueError for what it does not take."""
        self._deadlines = deadlines
        self._logger = logger
        self._names = names or Names(logger)
        self._store = _open_store(bucket, deadlines)
        self.connections = Connections(lookups=self._names.stats)

    async def aclose(self) -> None:
        await self._names.aclose()

    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> "S3Response":
        """The answer, its metadata known. Raises OriginError."""
        if request.method not in ("GET", "HEAD"):
            watcher.closed(Result.ANSWERED)
            return _said(405, (("allow", "GET, HEAD"),))
        # obstore would take "//a" and "a/" for "a": one spelling an object.
        if any(segment in ("", ".", "..") for segment in request.path[1:].split("/")):
            watcher.closed(Result.ANSWERED)
            return _said(404)
        try:
            response = await self._get(address, request, watcher)
        except OriginError as failed:
            watcher.closed(result_of(failed))
            raise
        except BaseException:
            watcher.closed(Result.ABANDONED)
            raise
        if response.is_over:
            watcher.closed(Result.ANSWERED)
        return response

    async def _get(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> "S3Response":
        import obstore
        from obstore import exceptions

        deadlines, loop = self._deadlines, asyncio.get_running_loop()
        wanted = _wanted_range(request)
        began_at = loop.time()
        late_s = min(deadlines.first_byte_s, deadlines.total_s)
        try:
            async with asyncio.timeout(late_s) as timer:
                try:
                    result = await obstore.get_async(
                        self._store, request.path[1:], options=_options(request, wanted)
                    )
                except exceptions.GenericError:
                    if wanted is None:
                        raise
                    # The text alone says whether it was the range; the size says it, too.
                    head = await obstore.head_async(self._store, request.path[1:])
                    if wanted.suffix is None and wanted.start < head["size"]:
                        raise
                    watcher.connected()
                    return _said(416, (("content-range", f"bytes */{head['size']}"),))
        except TimeoutError as late:
            if not timer.expired():
                raise OriginBroken(f"{address}: {late}", has_begun=False) from late
            phase = Phase.TOTAL if late_s < deadlines.first_byte_s else Phase.FIRST_BYTE
            raise OriginTimeout(f"{address}: no answer in {late_s:g} s", phase) from late
        except (FileNotFoundError, ValueError):  # the latter for what can be no key
            watcher.connected()
            return _said(404)
        except exceptions.NotModifiedError:
            watcher.connected()
            return _said(304)
        except exceptions.PermissionDeniedError as failed:
            watcher.connected()
            self._logger.warning("origin %s: %a: %s", address, request.path, _brief(failed))
            return _said(403)
        except (exceptions.BaseError, OSError) as failed:
            raise await self._why(address, failed) from failed
        watcher.connected()
        return S3Response(
            result,
            is_head=request.method == "HEAD",
            is_part=wanted is not None,
            address=address,
            deadlines=deadlines,
            budget_s=deadlines.total_s - (loop.time() - began_at),
            watcher=watcher,
        )

    async def _why(self, address: Address, failed: Exception) -> OriginError:
        """obstore does not tell a storage that is dead from one that answers nonsense; the pool
        has to know, and a connect tells."""
        try:
            _, writer = await open_stream(address, self._deadlines.connect_s, self._names)
        except OriginError as dead:
            return dead
        writer.transport.abort()
        return OriginBroken(f"{address}: {_brief(failed)}", has_begun=False)


def _open_store(bucket: Bucket, deadlines: Deadlines) -> "S3Store":
    from obstore.store import S3Store

    config: S3Config = {"region": bucket.region}
    if bucket.endpoint:
        config["endpoint"] = bucket.endpoint
    if bucket.access_key:
        config["access_key_id"] = bucket.access_key
        config["secret_access_key"] = bucket.secret_key
    if bucket.is_anonymous:
        config["skip_signature"] = True
    return S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        config=config,
        client_options={
            "allow_http": bucket.endpoint.startswith("http://"),
            "connect_timeout": datetime.timedelta(seconds=deadlines.connect_s),
            "timeout": _NO_TIMEOUT,
        },
        retry_config={
            "max_retries": 1,
            "retry_timeout": datetime.timedelta(seconds=deadlines.first_byte_s),
            "backoff": {"init_backoff": _PAUSE, "max_backoff": _PAUSE, "base": 2},
        },
    )


def _wanted_range(request: OriginRequest) -> _Range | None:
    values = _values(request, "range")
    # Whether If-Range holds is known too late; the whole is always right.
    if len(values) != 1 or request.method != "GET" or _values(request, "if-range"):
        return None
    match = _RANGE.fullmatch(values[0])
    if match is None:
        return None
    if match[3]:
        return _Range(suffix=int(match[3]))
    start, stop = int(match[1]), int(match[2]) + 1 if match[2] else None
    return _Range(start, stop) if stop is None or start < stop else None


def _options(request: OriginRequest, wanted: _Range | None) -> "GetOptions":
    options: GetOptions = {}
    if request.method == "HEAD":
        options["head"] = True
    if tags := _values(request, "if-none-match"):
        options["if_none_match"] = ", ".join(tags)
    elif (since := _maybe_date(_values(request, "if-modified-since"))) is not None:
        options["if_modified_since"] = since
    if wanted is None:
        return options
    if wanted.suffix is not None:
        options["range"] = {"suffix": wanted.suffix}
    elif wanted.stop is None:
        options["range"] = {"offset": wanted.start}
    else:
        options["range"] = (wanted.start, wanted.stop)
    return options


def _values(request: OriginRequest, name: str) -> list[str]:
    return [value for field_name, value in request.headers if field_name.lower() == name]


def _maybe_date(values: list[str]) -> datetime.datetime | None:
    seconds = parse_date(values[0]) if len(values) == 1 else None
    if seconds is None or seconds < 0:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _headers_of(result: "GetResult") -> Headers:
    meta, attributes = result.meta, result.attributes
    described: Mapping[str, Any] = dict(attributes)
    fields = [(name.lower(), described[name]) for name in _DESCRIBING if name in described]
    modified = int(meta["last_modified"].timestamp())
    if modified > 0:  # 0 where the storage said nothing
        fields.append(("last-modified", format_date(modified)))
    if (tag := meta["e_tag"]) is not None:
        fields.append(("etag", tag))
    return tuple(
        (name, value)
        for name, value in fields
        if isinstance(value, str) and FIELD_VALUE.fullmatch(value)
    )


def _brief(failed: Exception) -> str:
    """The first line, without the document behind it."""
    line = str(failed).partition("\n")[0].partition("<")[0]
    return f"{type(failed).__name__}: {line.encode('unicode_escape').decode():.200}"


def _said(status: int, headers: Headers = ()) -> "S3Response":
    return S3Response(None, status=status, headers=headers)


class S3Response:
    """An OriginResponse; without a result it is all said."""

    local_redirect = None
    controls: Headers = ()

    def __init__(
        self,
        result: "GetResult | None",
        *,
        status: int = 200,
        headers: Headers = (),
        is_head: bool = False,
        is_part: bool = False,
        address: Address | None = None,
        deadlines: Deadlines | None = None,
        budget_s: float = 0.0,
        watcher: Watcher | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.content_length: int | None = None if status == 304 else 0
        self._address = address
        self._deadlines = deadlines or Deadlines()
        self._budget_s = budget_s
        self._watcher = watcher
        self._left = 0
        self._pieces: AsyncIterator[Any] | None = None
        self._failure: OriginError | None = None
        self._is_closed = result is None
        if result is None:
            return
        size = result.meta["size"]
        start, stop = result.range if is_part else (0, size)
        self.headers = _headers_of(result)
        if is_part:
            self.status = 206
            self.headers += (("content-range", f"bytes {start}-{stop - 1}/{size}"),)
        self.content_length = stop - start
        if not is_head:
            self._left = stop - start
            self._pieces = aiter(result.stream(min_chunk_size=_STREAM_BYTES))

    @property
    def is_over(self) -> bool:
        return self._is_closed

    @property
    def is_cacheable(self) -> bool:
        return not self._left and self._failure is None

    def maybe_all(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        if not self._left:
            self._close(Result.ANSWERED)
            return b""
        try:
            piece = await self._next_piece()
        except OriginError as failed:
            self._failure = failed
            self._close(result_of(failed))
            raise
        except BaseException:
            self._close(Result.ABANDONED)
            raise
        self._left -= len(piece)
        return piece

    async def _next_piece(self) -> bytes:
        assert self._pieces is not None, "there is more to come"
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        late_s = min(self._deadlines.progress_s, self._budget_s)
        try:
            async with asyncio.timeout(late_s) as timer:
                piece = bytes(await anext(self._pieces))
        except StopAsyncIteration:
            piece = b""
        except TimeoutError as late:
            if not timer.expired():
                raise OriginTruncated(f"{self._address}: {late}") from late
            phase = Phase.TOTAL if late_s == self._budget_s else Phase.PROGRESS
            raise OriginTimeout(f"{self._address}: no more of the body", phase) from late
        except Exception as failed:  # of obstore's own, whatever they are
            raise OriginTruncated(f"{self._address}: {_brief(failed)}") from failed
        finally:
            self._budget_s -= loop.time() - began_at
        if not 0 < len(piece) <= self._left:
            raise OriginTruncated(f"{self._address}: body is not as long as it was said to be")
        return piece

    async def aclose(self) -> None:
        self._close(Result.ABANDONED if self._left else Result.ANSWERED)

    def _close(self, result: Result) -> None:
        self._pieces = None  # obstore closes, or keeps, the connection
        if self._is_closed:
            return
        self._is_closed = True
        if self._left and self._failure is None:
            self._failure = OriginTruncated(f"{self._address}: closed before the end")
        if self._watcher is not None:
            self._watcher.closed(result)
