"""Heads that have deceived servers, for the tests that must agree on them.

Each is followed by SMUGGLED: a parser that ends the head or its body elsewhere than the sender
meant takes it as a request of its own.
"""

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def head(line: bytes, *fields: bytes) -> bytes:
    return line + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def get(*fields: bytes) -> bytes:
    return head(b"GET / HTTP/1.1", b"Host: a", *fields)


def post(*fields: bytes) -> bytes:
    return head(b"POST / HTTP/1.1", b"Host: a", *fields)


CHUNKED = b"Transfer-Encoding: chunked"

# What the head itself is refused for, by the status that answers it.
REFUSED = [
    # two lengths, or a length that parsers read differently (RFC 9112 section 6.3)
    ("CL and TE", post(b"Content-Length: 5", CHUNKED) + b"0\r\n\r\n", 400),
    ("TE and CL", post(CHUNKED, b"Content-Length: 5") + b"0\r\n\r\n", 400),
    ("CL and TE on GET", get(b"Content-Length: 5", CHUNKED) + b"0\r\n\r\n", 400),
    ("CL twice", post(b"Content-Length: 5", b"Content-Length: 5") + b"abcde", 400),
    ("two CL", post(b"Content-Length: 5", b"Content-Length: 0"), 400),
    ("CL list", post(b"Content-Length: 5, 5") + b"abcde", 400),
    *(
        (f"CL {text!r}", post(b"Content-Length: " + text), 400)
        for text in (
            *(b"+5", b"-1", b"0x5", b"1_0", b"+1_0", b"5 5", b"5,", b"5;", b"5.0", b"0b1", b"\xb2"),
            *(b"", b"9" * 19, b"9" * 40, b"5\x00", b"\x005", b"5\r5", b"\x0b5", b"5\x0c"),
        )
    ),
    ("CL on GET", get(b"Content-Length: 5") + b"abcde", 400),
    ("CL on HEAD", head(b"HEAD / HTTP/1.1", b"Host: a", b"Content-Length: 1") + b"a", 400),
    ("CL on PURGE", head(b"PURGE / HTTP/1.1", b"Host: a", b"Content-Length: 1") + b"a", 400),
    # transfer codings (section 6.1)
    ("TE on GET", get(CHUNKED) + b"0\r\n\r\n", 400),
    ("TE on 1.0", head(b"POST / HTTP/1.0", b"Host: a", CHUNKED) + b"0\r\n\r\n", 400),
    ("TE twice", post(CHUNKED, CHUNKED) + b"0\r\n\r\n", 400),
    ("TE identity, then chunked", post(b"Transfer-Encoding: identity", CHUNKED), 400),
    *(
        (f"TE {text!r}", post(b"Transfer-Encoding: " + text) + b"0\r\n\r\n", status)
        for text, status in (
            (b"gzip, chunked", 501),
            (b"chunked, identity", 400),
            (b"chunked, chunked", 400),
            (b"xchunked", 501),
            (b"identity", 501),
            (b"chunked;x=1", 501),
            (b'"chunked"', 501),
            (b"chunked,", 400),
            (b"chunked\x0b", 400),
            (b"chunked\x00", 400),
            (b"\rchunked", 400),
        )
    ),
    # lines and names (sections 2.2, 5 and 5.1)
    ("space before the colon", get(b"X : a"), 400),
    ("CL with a space before the colon", post(b"Content-Length : 5"), 400),
    ("TE with a tab before the colon", post(b"Transfer-Encoding\t: chunked"), 400),
    ("folded value", get(b"X: a", b" b"), 400),
    ("folded TE", post(b"Transfer-Encoding:", b" chunked"), 400),
    ("folded by a tab", get(b"X: a", b"\tb"), 400),
    ("space before the first field", head(b"GET / HTTP/1.1", b" Host: a"), 400),
    ("space line first", head(b"GET / HTTP/1.1", b" ", b"Host: a"), 400),
    ("no colon", get(b"X"), 400),
    ("no name", get(b": a"), 400),
    ("8-bit name", get(b"X\xef: a"), 400),
    ("NUL in a name", get(b"X\x00: a"), 400),
    ("parenthesis in a name", get(b"X(: a"), 400),
    ("NUL in a value", get(b"X: a\x00b"), 400),
    ("CR in a value", get(b"X: a\rb"), 400),
    ("CR before the line's end", get(b"X: a\r"), 400),
    ("LF in a value", get(b"X: a\nContent-Length: 5"), 400),
    ("0x01 in a value", get(b"X: a\x01b"), 400),
    ("DEL in a value", get(b"X: a\x7fb"), 400),
    ("bare LF", b"GET / HTTP/1.1\nHost: a\n\n", 400),
    ("bare LF once", b"GET / HTTP/1.1\r\nHost: a\nX: a\r\n\r\n", 400),
    ("bare LF at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    ("bare CR at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\rX: a\r\n\r\n", 400),
    ("bare CRs", b"GET / HTTP/1.1\rHost: a\r\r", 400),
    # request line (section 3)
    ("LF in the request line", b"GET /\nHTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("HTTP/1.2", head(b"GET / HTTP/1.2", b"Host: a"), 505),
    ("HTTP/1.32", head(b"GET / HTTP/1.32", b"Host: a"), 505),
    ("HTTP/01.1", head(b"GET / HTTP/01.1", b"Host: a"), 400),
    ("HTTP/2.0", head(b"GET / HTTP/2.0", b"Host: a"), 505),
    ("HTTP/1.", head(b"GET / HTTP/1.", b"Host: a"), 400),
    ("HTTP/1.1 and a space", head(b"GET / HTTP/1.1 ", b"Host: a"), 400),
    ("lower-case http", head(b"GET / http/1.1", b"Host: a"), 400),
    ("HTTP/0.9", b"GET /\r\n", 400),
    ("tab for a space", head(b"GET\t/ HTTP/1.1", b"Host: a"), 501),
    ("unknown method", head(b"BAN / HTTP/1.1", b"Host: a"), 501),
    ("lower-case method", head(b"get / HTTP/1.1", b"Host: a"), 501),
    ("CONNECT", head(b"CONNECT a:80 HTTP/1.1", b"Host: a:80"), 501),
    ("space before the method", b" " + get(), 501),
    # target (section 3.2)
    ("fragment", head(b"GET /a#b HTTP/1.1", b"Host: a"), 400),
    ("backslash", head(b"GET /a\\b HTTP/1.1", b"Host: a"), 400),
    ("8-bit target", head(b"GET /\xe4 HTTP/1.1", b"Host: a"), 400),
    ("space in the target", head(b"GET /a b HTTP/1.1", b"Host: a"), 400),
    ("asterisk on GET", head(b"GET * HTTP/1.1", b"Host: a"), 400),
    ("relative target", head(b"GET a HTTP/1.1", b"Host: a"), 400),
    ("long target", head(b"GET /" + b"a" * 8192 + b" HTTP/1.1", b"Host: a"), 414),
    # Host (section 3.2, RFC 9110 section 7.2)
    ("no Host", head(b"GET / HTTP/1.1"), 400),
    ("Host twice", get(b"Host: a"), 400),
    ("two Hosts", get(b"host: b"), 400),
    ("Host with a path", head(b"GET / HTTP/1.1", b"Host: a/b"), 400),
    ("Host with a user", head(b"GET / HTTP/1.1", b"Host: u@a"), 400),
    ("Host list", head(b"GET / HTTP/1.1", b"Host: a, b"), 400),
    ("Host with a space", head(b"GET / HTTP/1.1", b"Host: a b"), 400),
    # sizes
    ("64 KiB of a value", get(b"X: " + b"a" * 65_536), 431),
    ("5,000 fields", get(*[b"X: a"] * 5_000), 431),
]

# A body that one parser ends where another goes on. The head is good, and such a request is the
# last of its connection: what follows is never looked at as a request.
BODIES = [
    ("chunks", post(CHUNKED) + b"1\r\na\r\n0\r\n\r\n"),
    ("length", post(b"Content-Length: 5") + b"abcde"),
    ("length with zeroes", post(b"Content-Length: 005") + b"abcde"),
    ("longer than its length", post(b"Content-Length: 1") + b"a\r\n"),
    ("chunk size with a sign", post(CHUNKED) + b"+1\r\na\r\n0\r\n\r\n"),
    ("chunk size 0_2e", post(CHUNKED) + b"0_2e\r\n"),
    ("chunk size 0x1", post(CHUNKED) + b"0x1\r\na\r\n0\r\n\r\n"),
    ("chunk size over 64 bits", post(CHUNKED) + b"10000000000000000\r\n0\r\n\r\n"),
    ("chunk size empty", post(CHUNKED) + b"\r\n\r\n"),
    ("chunk size with spaces", post(CHUNKED) + b" 0 \r\n\r\n"),
    ("chunk with a bare LF", post(CHUNKED) + b"0\n\n"),
    ("chunk that ends without CRLF", post(CHUNKED) + b"1\r\naXX0\r\n\r\n"),
    ("LF in a chunk extension", post(CHUNKED) + b"0;a\nb\r\n\r\n"),
    ("trailer with CL", post(CHUNKED) + b"0\r\nContent-Length: 40\r\n\r\n"),
    ("trailer with TE", post(CHUNKED) + b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
]
