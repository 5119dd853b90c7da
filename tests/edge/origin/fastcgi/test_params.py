import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.origin.errors import OriginBroken, UnsendableRequest
from edge.origin.fastcgi.params import (
    MAX_PARAMS_BYTES,
    Pairs,
    Script,
    build_pairs,
    build_params,
    cgi_variables,
    parse_pairs,
)
from edge.origin.messages import Headers
from tests.edge.origin.asking import GET, POST, SCRIPT

WIRES: list[tuple[bytes, Pairs]] = [
    (b"", ()),
    (b"\1\2ab!", ((b"a", b"b!"),)),
    (b"\0\0", ((b"", b""),)),
    (b"\x7f\0" + b"n" * 127, ((b"n" * 127, b""),)),
    (b"\1\x80\0\0\x80n" + b"v" * 128, ((b"n", b"v" * 128),)),
    (b"\1\x80\0\0\1nv", ((b"n", b"v"),)),  # four bytes for a small length: wasteful, legal
]


@pytest.mark.parametrize(("wire", "pairs"), WIRES)
def test_parses(wire: bytes, pairs: Pairs) -> None:
    assert parse_pairs(wire) == pairs
    for cut in range(1, len(wire)):
        with pytest.raises(OriginBroken):
            parse_pairs(wire[:cut])


@given(st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=300))))
def test_round_trip(pairs: list[tuple[bytes, bytes]]) -> None:
    assert parse_pairs(build_pairs(pairs)) == tuple(pairs)


def variables(headers: Headers = (), **changes: object) -> dict[str, str]:
    request = dataclasses.replace(GET, headers=headers, **changes)
    pairs = cgi_variables(request, SCRIPT)
    assert len({name for name, _ in pairs}) == len(pairs)
    return {name.decode(): value.decode("latin-1") for name, value in pairs}


def test_all_variables() -> None:
    request = dataclasses.replace(
        POST, scheme="https", headers=(("Accept", "a"), ("Content-Type", "text/plain"))
    )
    script = Script("/srv/app/index.php", extra=(("ORIGINALS", "/srv/originals"),))
    assert [(name.decode(), value.decode()) for name, value in cgi_variables(request, script)] == [
        ("CONTENT_LENGTH", "3"),
        ("QUERY_STRING", "v=1"),
        ("REQUEST_URI", "/a/b.jpg?v=1"),
        ("DOCUMENT_URI", "/a/b.jpg"),
        ("REQUEST_METHOD", "POST"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "https"),
        ("HTTPS", "on"),
        ("SERVER_PORT", "8080"),
        ("SERVER_ADDR", "192.0.2.2"),
        ("SERVER_NAME", "img.example.org"),
        ("REMOTE_ADDR", "192.0.2.1"),
        ("REMOTE_PORT", "50000"),
        ("HTTP_HOST", "img.example.org:8080"),
        ("HTTP_ACCEPT", "a"),
        ("CONTENT_TYPE", "text/plain"),
        ("REDIRECT_STATUS", "200"),
        ("SCRIPT_NAME", "/index.php"),
        ("PATH_INFO", ""),
        ("SCRIPT_FILENAME", "/srv/app/index.php"),
        ("DOCUMENT_ROOT", "/srv/app"),
        ("SERVER_SOFTWARE", "halftone"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("ORIGINALS", "/srv/originals"),
    ]
    assert build_params(request, script) == build_pairs(cgi_variables(request, script))


def test_plain_get() -> None:
    found = variables(query="", target="/")
    assert found["QUERY_STRING"] == ""
    assert found["CONTENT_LENGTH"] == "0"
    assert "HTTPS" not in found
    assert "CONTENT_TYPE" not in found


@pytest.mark.parametrize(
    ("host", "name"),
    [("a", "a"), ("a:1", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "192.0.2.2")],
)
def test_server_name(host: str, name: str) -> None:
    assert variables(host=host)["SERVER_NAME"] == name


HEADERS: list[tuple[Headers, dict[str, str]]] = [
    # usual
    ((("If-None-Match", '"a"'),), {"HTTP_IF_NONE_MATCH": '"a"'}),
    ((("X-A", "1"), ("x-a", "2")), {"HTTP_X_A": "1, 2"}),
    ((("Cookie", "a=1"), ("cookie", "b=2")), {"HTTP_COOKIE": "a=1; b=2"}),
    ((("X_A", "1"),), {"HTTP_X_A": "1"}),
    # edge
    ((("X-A", "caf\xe9"),), {"HTTP_X_A": "caf\xe9"}),
    ((("X-A", ""),), {"HTTP_X_A": ""}),
    ((("x.a", "1"),), {"HTTP_X_A": "1"}),
    # hostile: httpoxy, hop-by-hop, what has another variable
    ((("Proxy", "http://evil"),), {}),
    ((("PROXY", "http://evil"), ("proxy", "x")), {}),
    ((("Host", "evil"),), {}),
    ((("Connection", "close, X-Secret"), ("X-Secret", "1"), ("TE", "trailers")), {}),
    ((("Transfer-Encoding", "chunked"), ("Upgrade", "h2c"), ("Expect", "100-continue")), {}),
    ((("Content-Length", "9"),), {}),
]


@pytest.mark.parametrize(("headers", "expected"), HEADERS)
def test_http_variables(headers: Headers, expected: dict[str, str]) -> None:
    found = variables(headers)
    assert found.pop("HTTP_HOST") == GET.host
    assert {name: value for name, value in found.items() if name.startswith("HTTP_")} == expected


@pytest.mark.parametrize(
    "headers",
    [
        (("X-Real-IP", "1"), ("X_Real_IP", "2")),
        (("X_Real-IP", "1"), ("X-Real-IP", "2")),
        (("a.b", "1"), ("a-b", "2")),
        (("Content-Type", "a"), ("Content_Type", "b")),
        (("Content-Type", "a"), ("Content-Type", "b")),
        (("Proxy-Connection", "1"), ("Proxy_Connection", "2")),
    ],
)
def test_collisions_are_refused(headers: Headers) -> None:
    with pytest.raises(UnsendableRequest):
        variables(headers)


def test_bound() -> None:
    def of(size: int) -> bytes:
        return build_params(dataclasses.replace(GET, headers=(("X-A", "x" * size),)), SCRIPT)

    room = MAX_PARAMS_BYTES - len(of(1000)) + 1000
    assert len(of(room)) == MAX_PARAMS_BYTES
    with pytest.raises(UnsendableRequest):
        of(room + 1)


@pytest.mark.parametrize(
    "bad",
    [
        {"filename": "index.php"},
        {"filename": "/a", "name": "index.php"},
        {"filename": "/a", "extra": (("HTTP_PROXY", "x"),)},
        {"filename": "/a", "extra": (("SCRIPT_FILENAME", "x"),)},
    ],
)
def test_script_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|comes from"):
        Script(**bad)  # type: ignore[arg-type]


def test_script_filename_owes_nothing_to_the_request() -> None:
    hostile = (("Script-Filename", "/etc/passwd"), ("SCRIPT_FILENAME", "/etc/passwd"))
    for header in hostile:
        found = variables((header,), target="/x.php/../../etc/passwd", path="/etc/passwd")
        assert found["SCRIPT_FILENAME"] == SCRIPT.filename
