"""Requests and responses as values, RFC 9110 section 6.

Field names are lower-case bytes, field values bytes without surrounding white space: what came from
the wire stays bytes until one place checks and decodes it.
"""

from collections.abc import Callable, Sequence

from edge.http.body import FileSlice, Stretch
from edge.http.upload import Upload


class Request:
    """One parsed request head. Plain slots and no freezing: one is made per request on the loop.

    fields maps a lower-case name to its value; repeated field lines are joined by ", " in order
    (RFC 9110 section 5.3). target is in origin form, starting with "/", or b"*". authority is the
    Host, or what an absolute target named in its place, or b"" in HTTP/1.0 without Host.
    """

    __slots__ = (
        "authority", "block", "fields", "keep_alive", "lines", "method", "minor", "route",
        "send_interim", "target", "upload", "whole",
    )  # fmt: skip

    def __init__(
        self,
        method: bytes,
        target: bytes,
        minor: int,
        fields: dict[bytes, bytes],
        authority: bytes,
        keep_alive: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.authority = authority
        self.keep_alive = keep_alive
        # The request line, the Host line and the Accept line or b"", where the head was recognised
        # by its lines.
        self.lines: tuple[bytes, bytes, bytes] | None = None
        self.upload: Upload | None = None  # its body, where one follows
        # Sends a 1xx, complete, ahead of the answer; False where that is out already, or the client
        # gone. None: it may get none (RFC 9110 section 15.2).
        self.send_interim: Callable[[bytes], bool] | None = None
        # The bytes that it was parsed from, where these hold it and nothing else; and the lines
        # below its request line, where they were met before (repeats.py).
        self.whole = b""
        self.block = b""
        # What the handler made of its target, where it looked already.
        self.route: object = None

    def field(self, name: bytes) -> str | None:
        """A field's value as text (latin-1 keeps every byte apart), None when absent."""
        value = self.fields.get(name)
        return None if value is None else value.decode("latin-1")


# What follows a head on the wire, in order: bytes in memory, slices of open files, and stretches of
# what is still arriving.
Body = Sequence[bytes | FileSlice | Stretch]


class Response:
    """A head, complete but for what belongs to the connection, and the slices of its body.

    head ends with the last field's CRLF: the connection adds "Connection: close" where it closes,
    and the empty line. length counts the body bytes on the wire, 0 where nobody knows them before
    the last is sent. For the access line: status, and cache, one word such as "HIT" or "MISS".
    """

    __slots__ = ("body", "cache", "close", "head", "length", "status")

    def __init__(
        self,
        status: int,
        head: bytes,
        body: Body = (),
        length: int = 0,
        *,
        cache: str = "-",
        close: bool = False,
    ) -> None:
        self.status = status
        self.head = head
        self.body = body
        self.length = length
        self.cache = cache
        self.close = close
