"""Going on with a transfer that broke in its middle: when that is right, what is asked for, and
whether the answer is the rest of the same bytes. Pure.

    200  ETag: "a"  Accept-Ranges: bytes  Content-Length: 1000      600 bytes came
    GET  Range: bytes=600-  If-Range: "a"  If-Match: "a"
    206  ETag: "a"  Content-Range: bytes 600-999/1000

A strong ETag stands for these very bytes (RFC 9110 section 8.8.1), also at another host. Without
one, without a length, or where the origin does not say that it knows ranges, nothing is asked. An
answer that differs in anything is none: a transfer that stays broken is better than two that do not
belong together.
"""

import dataclasses
import functools
import re
from dataclasses import dataclass
from typing import Final

from edge.origin.messages import REMEMBERED, Headers, OriginRequest, OriginResponse

# RFC 9110 section 8.8.3, without W/.
_STRONG: Final = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
# Ours to say, of the rest; those of the first request have had their answer.
_CONDITIONS: Final = frozenset(
    {
        *("if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"),
        "range",
    }
)


@dataclass(frozen=True, slots=True)
class Resumption:
    """What of a 200 is known of the whole: bytes of etag, length of them, in these codings."""

    etag: str
    length: int
    codings: tuple[str, ...] = ()

    def rest_from(self, request: OriginRequest, start: int) -> OriginRequest:
        """Asks for what of request's answer has not come. If-Range alone would have an origin whose
        version is another send all of it; not every one knows If-Match."""
        own = (field for field in request.headers if field[0].lower() not in _CONDITIONS)
        asked = (("Range", f"bytes={start}-"), ("If-Range", self.etag), ("If-Match", self.etag))
        return dataclasses.replace(request, headers=(*own, *asked))

    def fault_of(self, response: OriginResponse, start: int) -> str:
        """Why it is not the rest from start on; "" where it is."""
        if response.status != 206:
            return f"status {response.status}"
        tags = _values(response.headers, "etag")
        if tags != (self.etag,):
            return f"ETag {', '.join(tags)!a:.100} instead of {self.etag!a:.100}"
        ranges = _values(response.headers, "content-range")
        if ranges != (f"bytes {start}-{self.length - 1}/{self.length}",):
            told = ", ".join(ranges)
            return f"Content-Range {told!a:.100} for bytes {start} to the end of {self.length}"
        if response.content_length not in (None, self.length - start):
            return f"Content-Length {response.content_length} for {self.length - start} bytes"
        if _values(response.headers, "content-encoding") != self.codings:
            return "another Content-Encoding"
        return ""


def maybe_resumption(request: OriginRequest, response: OriginResponse) -> Resumption | None:
    """How to go on, should the body of this answer break off; None where it cannot be."""
    if request.method != "GET" or response.status != 200 or not response.content_length:
        return None
    etag = _strong_etag(response.headers)
    if etag is None:
        return None
    codings = _values(response.headers, "content-encoding")
    return Resumption(etag, response.content_length, codings)


# Of most answers it is asked in vain, and they are alike.
@functools.lru_cache(maxsize=REMEMBERED)
def _strong_etag(headers: Headers) -> str | None:
    """Of what may be asked for in ranges."""
    told = _values(headers, "accept-ranges")
    if "bytes" not in (unit.strip(" \t") for unit in ",".join(told).lower().split(",")):
        return None
    tags = _values(headers, "etag")
    return tags[0] if len(tags) == 1 and _STRONG.fullmatch(tags[0]) else None


def _values(headers: Headers, name: str) -> tuple[str, ...]:
    return tuple(value for field, value in headers if field == name)
