"""The head of a request to an HTTP/1.1 origin, RFC 9112 section 3. Pure.

The fields are those of the request, in its order and spelling; ours are Host, which stands first
(RFC 9110 section 7.2), the length of a body, TE where trailers are wanted, and Connection.
"""

from typing import Final

from edge.origin.errors import UnsendableRequest
from edge.origin.messages import HOP_BY_HOP, OriginRequest, named_by_connection

# Origins take 8 KiB and more of a line, and this much of a head at the least.
MAX_HEAD_BYTES: Final = 64 * 1024
# Ours to say, or our side's of the exchange. Nobody waits for a 100 here: a body is whole before it
# is put to an origin, and as a gateway we have answered the expectation (section 10.1.1).
_OWN: Final = HOP_BY_HOP | {"host", "content-length", "expect"}
# RFC 9110 section 8.6: a length also where the body is empty.
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


def build_head(request: OriginRequest, *, is_kept: bool, host: str) -> bytes:
    """Raises UnsendableRequest."""
    dropped = _OWN | named_by_connection(request.headers)
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in request.headers if name.lower() not in dropped]
    if len(request.body) or request.method in _WITH_BODY:
        lines.append(f"Content-Length: {len(request.body)}")
    options = [] if is_kept else ["close"]
    if request.aside is not None and request.aside.takes_trailers:
        lines.append("TE: trailers")
        options.append("TE")  # section 10.1.4: whoever sends it names it here
    if options:
        lines.append(f"Connection: {', '.join(options)}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if len(head) > MAX_HEAD_BYTES:
        raise UnsendableRequest(f"head is {len(head)} bytes, limit {MAX_HEAD_BYTES}")
    return head
