"""HTTP/1.x request heads, RFC 9112: bytes in, requests out, no socket.

httptools (llhttp) cuts the tokens and refuses most malformed framing; the rules that it does not
know stand here, each with its clause. This is the only file that knows which tokenizer is used.
After a ParseError nothing that follows on the connection can be trusted: answer, then close.
"""

from collections import deque
from typing import Final

import httptools

from edge.http.body import UNKNOWN_LENGTH
from edge.http.messages import Request
from edge.http.upload import Upload

# Limits of a request head. 8 KiB of target is what browsers and Squid pass; 32 KiB and 100 fields
# are what nginx and Varnish take by default, and more is either broken or hostile.
MAX_TARGET_BYTES: Final = 8 * 1024
MAX_HEAD_BYTES: Final = 32 * 1024
MAX_FIELDS: Final = 100
MAX_PIPELINED: Final = 64

KNOWN_METHODS: Final = frozenset(
    (b"GET", b"HEAD", b"OPTIONS", b"POST", b"PUT", b"DELETE", b"PATCH", b"PURGE", b"TRACE")
)
_BODILESS: Final = frozenset((b"GET", b"HEAD", b"PURGE"))

# RFC 9110 section 5.6.2.
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Printable ASCII but "#" and "\", which have no place in a request target (RFC 9112 section 3.2).
_TARGET: Final = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"#\\")
# A host name, an IPv4 address or an IPv6 literal, and a port (RFC 3986 section 3.2, no userinfo).
_AUTHORITY: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~%:[]"
_DIGITS: Final = b"0123456789"


class ParseError(Exception):
    """A head that no rule allows, with the status that answers it. The text is for the log."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RequestParser:
    """Feed it what the socket gave with receive_data(); take requests with next_request().

    Bytes of a head, or of trailers, that are not complete yet are kept by the tokenizer. error
    holds a ParseError met after the requests that are still to be taken, so pipelined good requests
    are answered first.
    """

    __slots__ = (
        "_field_bytes",
        "_fields",
        "_fields_seen",
        "_in_head",
        "_in_message",
        "_kept_bytes",
        "_target",
        "_tokenizer",
        "_trailer_bytes",
        "_upload",
        "error",
        "requests",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests: deque[Request] = deque()
        self.error: ParseError | None = None
        self._tokenizer = httptools.HttpRequestParser(self)
        self._upload: Upload | None = None
        self.on_message_begin()
        self._in_message = self._in_head = False

    @property
    def is_between_requests(self) -> bool:
        """True when no byte of a further request has been seen, and more may come."""
        return not self._in_message and self.error is None

    def receive_data(self, data: bytes) -> None:
        """Cut data into requests. A rule broken in it is told by error, not raised."""
        if self.error is not None:
            return
        if self._in_message:
            # The tokenizer keeps a name or value that has not ended, of trailers, too, so what it
            # was fed without a byte of a body counts. A receive in which a head begins may hold
            # others before it, and counts from the next on.
            self._kept_bytes += len(data)
            if self._kept_bytes > 2 * MAX_HEAD_BYTES:
                doing = "head does" if self._in_head else "trailers do"
                self.error = ParseError(431, f"{doing} not end")
                return
        while data and self.error is None:
            data = self._cut(data)

    def _cut(self, data: bytes) -> bytes:
        """Feed the tokenizer; what it left behind a head that asks for another protocol."""
        try:
            self._tokenizer.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # We switch to no other protocol, and RFC 9110 section 7.8 lets a server ignore the
            # request to. llhttp stops behind such a head; go on with a fresh one, and not from
            # here: an error met while another is handled hides its cause.
            offset: int = upgrade.args[0]
            self._tokenizer = httptools.HttpRequestParser(self)
            self._in_message = False
            return data[offset:]
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, ParseError):
                raise
            self.error = cause
        except httptools.HttpParserInvalidMethodError as error:
            self.error = ParseError(501, f"method not known: {error}")
        except httptools.HttpParserError as error:
            # llhttp gives this case no class of its own, only this constant text.
            status = 505 if str(error) == "Invalid HTTP version" else 400
            self.error = ParseError(status, f"refused by the tokenizer: {error}")
        return b""

    # Called by the tokenizer. An exception from here reaches receive_data as a callback error.

    def on_message_begin(self) -> None:
        self._in_message = self._in_head = True
        self._target = b""
        self._fields: dict[bytes, bytes] = {}
        self._fields_seen = 0
        self._field_bytes = 0
        self._kept_bytes = 0
        self._trailer_bytes = 0
        self._upload = None

    def on_url(self, part: bytes) -> None:
        self._target += part
        if len(self._target) > MAX_TARGET_BYTES:
            raise ParseError(414, f"more than {MAX_TARGET_BYTES} bytes of target")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # Trailers may only be merged where their meaning is known to allow it (RFC 9110 section
            # 6.5.1), and nothing here needs any: they are dropped.
            self._trailer_bytes += len(name) + len(value) + 4
            if self._trailer_bytes > MAX_HEAD_BYTES:
                raise ParseError(431, f"more than {MAX_HEAD_BYTES} bytes of trailers")
            return
        self._fields_seen += 1
        if self._fields_seen > MAX_FIELDS:
            raise ParseError(431, f"more than {MAX_FIELDS} fields")
        self._field_bytes += len(name) + len(value) + 4  # a colon, a space and the line's end
        if self._field_bytes > MAX_HEAD_BYTES:
            raise ParseError(431, f"more than {MAX_HEAD_BYTES} bytes of fields")
        # RFC 9110 section 5.5: white space around a value is none of it. llhttp drops what leads.
        value = value.rstrip(b" \t")
        name = name.lower()
        if name in self._fields:
            # RFC 9110 section 5.3 joins lists; section 7.2 and RFC 9112 section 6.3 forbid these.
            if name in (b"host", b"content-length", b"transfer-encoding"):
                raise ParseError(400, f"field repeated: {name.decode()}")
            value = self._fields[name] + b", " + value
        self._fields[name] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._kept_bytes = 0
        self.requests.append(self._head())

    def on_body(self, data: bytes) -> None:
        self._kept_bytes = 0
        if self._upload is not None:
            self._upload.feed(data)

    def on_message_complete(self) -> None:
        if self._upload is not None:
            self._upload.end()
        if len(self.requests) > MAX_PIPELINED:
            raise ParseError(400, f"more than {MAX_PIPELINED} requests without waiting for answers")
        self._in_message = False

    def _head(self) -> Request:
        method: bytes = self._tokenizer.get_method()
        version: str = self._tokenizer.get_http_version()
        if version not in ("1.1", "1.0"):
            raise ParseError(505, "version is neither HTTP/1.1 nor HTTP/1.0")
        if method not in KNOWN_METHODS:
            raise ParseError(501, "method not known")
        minor = 1 if version == "1.1" else 0
        fields = self._fields
        length = self._check_framing(method, minor)
        target, authority = self._check_target(method, minor)
        if b"expect" in fields and not _is_continue(fields[b"expect"]):
            raise ParseError(417, "expects what we do not know")
        keep_alive = _is_persistent(minor, fields.get(b"connection", b""))
        if length == 0:
            return Request(method, target, minor, fields, authority, keep_alive)
        # The last of its connection: where a body ends is what smuggling is about.
        request = Request(method, target, minor, fields, authority, keep_alive=False)
        request.upload = self._upload = Upload(length)
        return request

    def _check_framing(self, method: bytes, minor: int) -> int:
        """The length of the body that follows, UNKNOWN_LENGTH in chunks. RFC 9112 section 6."""
        coding = self._fields.get(b"transfer-encoding")
        length = self._fields.get(b"content-length")
        if coding is not None:
            if minor == 0:
                raise ParseError(400, "Transfer-Encoding in HTTP/1.0")
            if length is not None:
                raise ParseError(400, "Transfer-Encoding beside Content-Length")
            if method in _BODILESS:
                raise ParseError(400, f"Transfer-Encoding on {method.decode()}")
            if coding.lower() != b"chunked":
                raise ParseError(501, "transfer coding not known")
            return UNKNOWN_LENGTH
        if length is None:
            return 0
        if not length or length.translate(None, _DIGITS) or len(length) > 18:
            raise ParseError(400, "Content-Length is not a number")
        if length.strip(b"0") and method in _BODILESS:
            # A body on GET has no meaning and is how requests are smuggled past a cache.
            raise ParseError(400, f"Content-Length on {method.decode()}")
        return int(length)

    def _check_target(self, method: bytes, minor: int) -> tuple[bytes, bytes]:
        """The target in origin form and the authority. RFC 9112 section 3.2."""
        target = self._target
        authority = self._fields.get(b"host")
        if authority is None:
            if minor == 1:
                raise ParseError(400, "no Host field")
            authority = b""
        # Also where an absolute target stands for it: a later head may have the same line without.
        if authority.translate(None, _AUTHORITY):
            raise ParseError(400, "Host is not an authority")
        if target.translate(None, _TARGET):
            raise ParseError(400, "target holds a byte that has no place there")
        is_asterisk = target == b"*" and method == b"OPTIONS"
        if target[:1] != b"/" and not is_asterisk:
            scheme, _, rest = target.partition(b"://")
            if scheme.lower() not in (b"http", b"https"):
                raise ParseError(400, "target is neither a path nor an absolute URL")
            # Section 3.2.2: the authority of an absolute target replaces Host.
            end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=-1)
            authority = rest if end < 0 else rest[:end]
            target = b"/" if end < 0 else rest[end:]
            if target[:1] == b"?":
                target = b"/" + target
            if not authority:
                raise ParseError(400, "absolute target without an authority")
            if authority.translate(None, _AUTHORITY):
                raise ParseError(400, "absolute target with what is no authority")
        return target, authority


def is_plain_target(target: bytes) -> bool:
    """True for a target in origin form that the parser would take (section 3.2.1)."""
    return (
        target[:1] == b"/"
        and len(target) <= MAX_TARGET_BYTES
        and not target.translate(None, _TARGET)
    )


def _is_continue(expect: bytes) -> bool:
    """RFC 9110 section 10.1.1. The 100 is sent when somebody begins to take the body (upload.py);
    else the final answer comes at once."""
    members = {member.strip(b" \t") for member in expect.lower().split(b",")}
    return members <= {b"100-continue", b""}


def _is_persistent(minor: int, connection: bytes) -> bool:
    """RFC 9112 section 9.3; options are case-insensitive and in any list position."""
    if not connection:
        return minor == 1
    options = [option.strip(b" \t") for option in connection.lower().split(b",")]
    if b"close" in options:
        return False
    return minor == 1 or b"keep-alive" in options
