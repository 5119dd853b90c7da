"""Originals in storage that speaks S3. A Client.

An object is an answer: its bytes, its ETag, its date, and of its metadata what describes it. A path
of the site, below the prefix, is the key. Only GET and HEAD are there.

The exchange itself is that of a client of HTTP/1.1, for a URL that signing.py has signed, so it
has our deadlines, and is put once: whether once more is the pool's to say. Of the request's fields
preconditions and Range go with it and nothing else; what is no object is told by refusal.py. No URL
is ever logged: who has one can read.
"""

import dataclasses
import logging
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import SplitResult, urlsplit

from edge.http.date import parse_date
from edge.http.media_types import media_type_of
from edge.origin.address import Address
from edge.origin.errors import OriginError, UnsendableRequest
from edge.origin.exchange import Client, Connections, Deadlines, Result, Watcher, result_of
from edge.origin.messages import Headers, OriginRequest, OriginResponse
from edge.origin.s3.bucket import Bucket
from edge.origin.s3.refusal import MAX_DOCUMENT_BYTES, Answer, Said, meaning_of
from edge.origin.s3.signing import Signer

# What goes further of an object's fields. Not Vary: storage has it for CORS, and the bytes are the
# same for all; not x-amz-*, which is its owner's business.
_DESCRIBING: Final = frozenset(
    {
        *("accept-ranges", "age", "cache-control", "content-disposition", "content-encoding"),
        *("content-language", "content-range", "content-type", "etag", "expires"),
        "last-modified",
    }
)
_CONDITIONS: Final = (
    ("if-match", "if-unmodified-since"),
    ("if-none-match", "if-modified-since"),
)
# One range; a list of them, or what is malformed, is answered by the whole (RFC 9110 section 14.2).
_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-[0-9]{1,18})", re.ASCII)
# Amazon's word for an object that was put without a type.
_UNTYPED: Final = "binary/octet-stream"


class S3Client:
    """Around a client of HTTP/1.1. address, of the pool's one host, is the bucket's."""

    def __init__(
        self, client: Client, bucket: Bucket, deadlines: Deadlines, logger: logging.Logger
    ) -> None:
        """Raises ImportError without obstore, ValueError for what it does not take."""
        self._client = client
        self._bucket = bucket
        self._logger = logger
        self._signer = Signer(bucket, deadlines)

    @property
    def connections(self) -> Connections:
        return self._client.connections

    async def aclose(self) -> None:
        await self._client.aclose()

    async def fetch(
        self, address: Address, request: OriginRequest, watcher: Watcher
    ) -> "S3Response":
        """Raises OriginError, UnsendableRequest."""
        if request.method not in ("GET", "HEAD"):
            watcher.closed(Result.ANSWERED)
            return _said(405, (("allow", "GET, HEAD"),))
        end = _End(watcher)
        try:
            response = await self._fetch(address, request, end)
        except OriginError as failed:
            end.settle(result_of(failed))
            raise
        except UnsendableRequest:
            end.settle(Result.UNSENDABLE)
            raise
        except BaseException:
            end.settle(Result.ABANDONED)
            raise
        end.settle()
        return response

    async def _fetch(self, address: Address, request: OriginRequest, end: "_End") -> "S3Response":
        key = self._bucket.maybe_key(request.path)
        url = None if key is None else await self._sign(address, request.method, key)
        if url is None:
            end.closed(Result.ANSWERED)
            return _said(404)
        response = await self._client.fetch(address, _asked(request, url), end)
        if response.status in (200, 206):
            return S3Response(response.status, _described(request.path, response), response)
        meaning = meaning_of(
            Said(response.status, response.headers, await _document(response), url.query)
        )
        if isinstance(meaning, Answer):
            if meaning.why:
                self._logger.warning("origin %s: %a: %s", address, request.path, meaning.why)
            return _said(meaning.status, _kept(meaning.headers))
        raise _at(address, meaning)

    async def _sign(self, address: Address, method: str, key: str) -> SplitResult | None:
        try:
            url = await self._signer.maybe_url(method, key)
        except OriginError as failed:
            raise _at(address, failed) from failed
        return None if url is None else urlsplit(url)


def _asked(request: OriginRequest, url: SplitResult) -> OriginRequest:
    return dataclasses.replace(
        request,
        target=f"{url.path}?{url.query}" if url.query else url.path,
        query=url.query,
        headers=(("User-Agent", "halftone"), *_conditions(request)),
        host=url.netloc,
        scheme=url.scheme,
        body=b"",
    )


def _conditions(request: OriginRequest) -> Iterator[tuple[str, str]]:
    """Preconditions and Range, without what has no meaning beside another (RFC 9110 section 13.2.2)
    or none at all: storage is apt to answer that with an error."""
    asked = {name.lower(): value for name, value in request.headers}
    for tag, date in _CONDITIONS:
        if tag in asked:
            yield tag, asked[tag]
        elif date in asked and parse_date(asked[date]) is not None:
            yield date, asked[date]
    match = _RANGE.fullmatch(asked.get("range", ""))
    if match is None or request.method != "GET" or (match[2] and int(match[2]) < int(match[1])):
        return
    # Storage does not know If-Range; the whole is always right. But where If-Match is there, too,
    # nothing else than that very version is an answer.
    if "if-range" not in asked or asked.get("if-match") == asked["if-range"]:
        yield "range", match[0]


async def _document(response: OriginResponse) -> str:
    """Of an answer that is no object, as far as it comes; its status alone says what it is."""
    document = b""
    try:
        while len(document) < MAX_DOCUMENT_BYTES and (piece := await response.read()):
            document += piece
    except OriginError:
        pass
    finally:
        await response.aclose()
    return document[:MAX_DOCUMENT_BYTES].decode("utf-8", "replace")


def _at(address: Address, failed: OriginError) -> OriginError:
    failed.args = (f"{address}: {failed}", *failed.args[1:])
    return failed


def _kept(headers: Headers) -> Headers:
    return tuple(field for field in headers if field[0] in _DESCRIBING)


def _described(path: str, response: OriginResponse) -> Headers:
    return tuple(
        (name, media_type_of(path) if (name, value) == ("content-type", _UNTYPED) else value)
        for name, value in _kept(response.headers)
    )


def _said(status: int, headers: Headers = ()) -> "S3Response":
    return S3Response(status, headers, None)


class S3Response:
    """An OriginResponse; without an answer behind it all is said."""

    local_redirect = None
    controls: Headers = ()

    def __init__(self, status: int, headers: Headers, response: OriginResponse | None) -> None:
        self.status = status
        self.headers = headers
        self.content_length = None if status == 304 else 0
        if response is not None:
            self.content_length = response.content_length
        self._response = response

    @property
    def is_cacheable(self) -> bool:
        return self._response is None or self._response.is_cacheable

    def maybe_all(self) -> bytes | None:
        return b"" if self._response is None else self._response.maybe_all()

    async def read(self) -> bytes:
        return b"" if self._response is None else await self._response.read()

    async def aclose(self) -> None:
        if self._response is not None:
            await self._response.aclose()


class _End:
    """A Watcher in between: how an exchange ended is told when it is known what it meant."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._result: Result | None = None
        self._is_settled = False

    def connected(self) -> None:
        self._watcher.connected()

    def closed(self, result: Result) -> None:
        if self._is_settled:
            self._watcher.closed(result)
        else:
            self._result = result

    def settle(self, result: Result | None = None) -> None:
        """None: as it ended, or will end."""
        self._is_settled = True
        result = result or self._result
        if result is not None:
            self._watcher.closed(result)
