"""Trailers: who takes them, and which are passed on. RFC 9110 sections 6.5.1 and 10.1.4."""

import pytest

from edge.http.trailers import is_passed, passed_trailers, takes_trailers

TE = [
    ("trailers", True),
    ("Trailers", True),
    ("gzip;q=0.5, trailers", True),
    (" trailers\t,deflate", True),
    (",,trailers,", True),
    # no
    (None, False),
    ("", False),
    ("gzip", False),
    ("chunked", False),
    ("trailer", False),
    ("xtrailers", False),
    ("trailers;q=0", False),  # it has no weight in the grammar
    ("gzip;x=trailers", False),
]


@pytest.mark.parametrize(("te", "expected"), TE)
def test_te(te, expected):
    assert takes_trailers(te) is expected


PASSED = [
    *("server-timing", "x-checksum", "grpc-status", "grpc-message", "etag", "digest", "link"),
    *("content-digest", "repr-digest", "expect-ct", "x", "contentx", "x-content-length"),
]
LEFT_OUT = {
    "framing": ["transfer-encoding", "content-length", "trailer", "te", "connection", "upgrade"],
    "routing": ["host", "location", "max-forwards", "via", "cdn-loop", "x-forwarded-for"],
    "authentication": [
        *("authorization", "www-authenticate", "proxy-authenticate", "proxy-authorization"),
        *("proxy-anything", "set-cookie", "cookie", "authentication-info"),
    ],
    "modifiers": ["expect", "range", "if-match", "if-none-match", "if-range", "pragma"],
    "control": [
        *("cache-control", "cdn-cache-control", "surrogate-control", "expires", "age", "date"),
        *("vary", "warning", "retry-after", "surrogate-key", "cache-status"),
    ],
    "content": ["content-type", "content-encoding", "content-range", "content-language"],
    "rights of pages": [
        *("content-security-policy", "access-control-allow-origin", "x-frame-options"),
        *("cross-origin-opener-policy", "sec-websocket-accept", "strict-transport-security"),
    ],
    "commands": ["x-sendfile", "x-accel-redirect", "x-lighttpd-send-file", "x-accel-expires"],
}


@pytest.mark.parametrize("name", PASSED)
def test_passed(name):
    assert is_passed(name)
    assert passed_trailers(((name, "a"), ("host", "b"), (name, "c"))) == ((name, "a"), (name, "c"))


@pytest.mark.parametrize("name", [name for names in LEFT_OUT.values() for name in names])
def test_left_out(name):
    assert not is_passed(name)
    assert passed_trailers(((name, "a"), ("x", "b"))) == (("x", "b"),)
