"""What a site sends through, over a whole node: php-fpm for what real applications do, an
application of the test for what was put to it."""

import contextlib
import hashlib
import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.test_origin import WIDE
from tests.peers.application import Application, application, said
from tests.peers.node import Node, ask, node, quote
from tests.peers.phpfpm import php_fpm
from tests.peers.squid import PROGRAM, squid
from tests.peers.squid import SITE as NAME

SITE = '[[site]]\norigin = "app"\n'

# Every answer says how often the script has run, so visits can be read off the bodies.
SCRIPT = r"""<?php
$counter = dirname(__FILE__) . '/count';
$lock = fopen($counter, 'c+'); flock($lock, LOCK_EX);
$n = (int) stream_get_contents($lock) + 1;
rewind($lock); fwrite($lock, (string) $n); fclose($lock);
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
header('X-Visit: ' . $n);
switch ($path) {
case '/form':
    $body = file_get_contents('php://input');
    header('Content-Type: text/plain');
    echo $_SERVER['REQUEST_METHOD'], ' ', strlen($body), ' ', md5($body), ' ',
        $_SERVER['CONTENT_TYPE'] ?? '-', ' ', $_POST['a'] ?? '-';
    break;
case '/session':
    session_save_path(dirname(__FILE__)); session_start();
    $_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1;
    echo 'yours: ', $_SESSION['n'];
    break;
case '/login':
    header('Set-Cookie: who=' . $n); header('Cache-Control: max-age=600');
    echo 'hello ', $n;
    break;
case '/hello':
    header('Vary: Accept-Language'); header('Cache-Control: max-age=600');
    echo str_starts_with($_SERVER['HTTP_ACCEPT_LANGUAGE'] ?? '', 'de') ? 'Hallo' : 'Hello';
    break;
case '/article/':
    header('Cache-Control: max-age=600');
    if ($_SERVER['REQUEST_METHOD'] === 'POST') header('Location: /article/', true, 303);
    echo 'version ', $n;
    break;
default:
    http_response_code(404);
    echo 'nothing at ', $path;
}
"""


@pytest.fixture(scope="module")
def edge(tmp_path_factory) -> Iterator[Node]:
    # Readable by the user that php-fpm's children run as.
    folder = Path(tmp_path_factory.mktemp("php"))
    script = folder / "app.php"
    script.write_text(SCRIPT)
    for each in (folder, *folder.parents[:3]):
        with contextlib.suppress(PermissionError):
            each.chmod(0o777)
    with php_fpm(folder) as php:
        configuration = (
            f'[[origin]]\nname = "app"\nhosts = [{quote(php.address)}]\n'
            f"script_filename = {quote(script)}\n{SITE}"
        )
        with node(tmp_path_factory.mktemp("edge"), configuration) as started:
            yield started


def send(
    edge: Node, target: str, body: bytes | Iterator[bytes], method: str = "POST", **fields: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(edge.public, timeout=30)
    named = {name.replace("_", "-"): text for name, text in fields.items()}
    is_chunked = not isinstance(body, bytes)
    connection.request(method, target, body, named, encode_chunked=is_chunked)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, answer


def form(body: bytes, method: str = "POST", kind: str = "-", a: str = "-") -> bytes:
    return f"{method} {len(body)} {hashlib.md5(body).hexdigest()} {kind} {a}".encode()


SIZES = [0, 1, 8 * 1024, 64 * 1024, 64 * 1024 + 1, 700_000, 1024 * 1024]


@pytest.mark.parametrize("size", SIZES)
def test_a_post_passes_with_its_body(edge, size):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    kind = "application/octet-stream"
    assert send(edge, "/form", body, Content_Type=kind) == (200, form(body, kind=kind))
    pieces = (body[at : at + 10_000] for at in range(0, size, 10_000))
    chunked = send(edge, "/form", pieces, Content_Type=kind, Transfer_Encoding="chunked")
    assert chunked == (200, form(body, kind=kind))


def test_forms_are_read(edge):
    kind = "application/x-www-form-urlencoded"
    assert send(edge, "/form", b"a=7", Content_Type=kind)[1] == form(b"a=7", kind=kind, a="7")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_pass(edge, method):
    assert send(edge, "/form", b"x", method)[1] == form(b"x", method)


def test_a_body_beyond_the_bound_is_refused(edge):
    assert send(edge, "/form", b"", Content_Length=str(1024 * 1024 + 1))[0] == 413
    pieces = (b"x" * 65_536 for _ in range(17))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        assert send(edge, "/form", pieces, Transfer_Encoding="chunked")[0] == 413
    assert edge.get("/hello").status == 200


def test_sessions_are_never_shared(edge):
    first = edge.get("/session")
    cookie = first.headers["set-cookie"].partition(";")[0]
    assert first.body == b"yours: 1"
    assert edge.get("/session").body == b"yours: 1"
    assert edge.get("/session", headers={"Cookie": cookie}).body == b"yours: 2"
    assert edge.get("/session", headers={"Cookie": cookie}).body == b"yours: 3"


def test_an_answer_with_set_cookie_is_never_shared(edge):
    seen = {edge.get("/login").headers["set-cookie"] for _ in range(5)}
    assert len(seen) == 5


def test_vary(edge):
    german = {"Accept-Language": "de-AT, en;q=0.5"}
    for _ in range(3):
        assert edge.get("/hello", headers=german).body == b"Hallo"
        assert edge.get("/hello", headers={"Accept-Language": "en"}).body == b"Hello"
    assert edge.get("/hello", headers={"Accept-Language": "en;q=0.5,  DE-at"}).is_hit
    assert edge.get("/hello", headers={"Accept-Language": "en"}).is_hit


def test_a_familiar_head_chooses_as_any_other(edge):
    """Heads that are recognised by their lines lose fields on the way; not where they count."""
    for _ in range(4):
        for language, body in (("de", b"Hallo"), ("fr", b"Hello")):
            reply = edge.get("/hello?f", headers={"Accept-Language": language, "Cookie": "a=1"})
            assert reply.body == body
    with contextlib.closing(http.client.HTTPConnection(edge.public, timeout=10)) as kept:
        for language, body in (("de", b"Hallo"), ("fr", b"Hello"), ("de", b"Hallo")):
            kept.request("GET", "/hello?f", headers={"Accept-Language": language})
            assert kept.getresponse().read() == body


def test_what_a_post_changes_is_asked_for_again(edge):
    version = edge.get("/article/").body
    assert edge.get("/article/").body == version
    assert send(edge, "/article/", b"x")[0] == 303
    again = edge.get("/article/")
    assert again.body not in (version, b"")
    assert edge.get("/article/").body == again.body


def test_expect_100_continue(edge):
    host, _, port = edge.public.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as sock:
        head = (
            b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        sock.sendall(head)
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        answer = b""
        while piece := sock.recv(1000):
            answer += piece
        assert form(b"hello") in answer
    with socket.create_connection((host, int(port)), 10) as sock:
        sock.sendall(head.replace(b"Content-Length: 5", b"Content-Length: 5000000"))
        assert sock.recv(1000).startswith(b"HTTP/1.1 413 ")


BROKEN = [
    (b"Content-Length: 5\r\n\r\nabc", b""),  # the client left in the middle
    (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nZZ\r\n", b"400"),
    (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n", b"400"),
]


@pytest.fixture(scope="module")
def scripted(tmp_path_factory) -> Iterator[tuple[Application, tuple[str, int]]]:
    """An application that tells what it was sent, behind a node without patience."""
    with application() as app:
        app.answers["/form"] = said(body=b"done", kind="text/plain")
        configuration = f'{app.configuration}{SITE}[connection]\nsend = "1s"\n'
        with node(tmp_path_factory.mktemp("edge"), configuration) as edge:
            host, _, port = edge.public.rpartition(":")
            yield app, (host, int(port))


@pytest.mark.parametrize(("rest", "status"), BROKEN)
def test_a_broken_body_reaches_no_origin(scripted, rest, status):
    app, address = scripted
    app.seen.clear()
    with socket.create_connection(address, 10) as sock:
        sock.sendall(b"POST /form HTTP/1.1\r\nHost: a\r\n" + rest)
        if not status:
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert status in sock.recv(1000)
    # The next one is answered, and was the only one.
    with socket.create_connection(address, 10) as sock:
        sock.sendall(b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        assert b"done" in sock.recv(1000)
    assert app.visits("/form") == 1


def test_trailers_and_smuggled_fields_are_dropped(scripted):
    app, address = scripted
    with socket.create_connection(address, 10) as sock:
        sock.sendall(
            b"POST /form HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
            b"X-Own: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n"
            b"3\r\nabc\r\n0\r\nX-Trailer: 1\r\nX-Own: 2\r\n\r\n"
        )
        assert b"done" in sock.recv(1000)
    params = app.seen[-1].params
    assert params["HTTP_X_OWN"] == b"1"
    assert "HTTP_X_TRAILER" not in params
    assert "HTTP_X_HOP" not in params
    assert params["CONTENT_LENGTH"] == b"3"
    assert app.seen[-1].stdin == b"abc"
    assert params["HTTP_VIA"] == b"1.1 edge1"


def test_a_slow_body_has_a_deadline(scripted):
    app, address = scripted
    app.seen.clear()
    began = time.monotonic()
    with socket.create_connection(address, 10) as sock:
        sock.sendall(b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        assert b"408" in sock.recv(1000)
    assert time.monotonic() - began < 8
    assert app.visits("/form") == 0


def test_our_own_requests_are_a_loop(edge):
    assert edge.get("/hello?loop", headers={"Via": "1.1 edge1"}).status == 508
    assert edge.metrics()["halftone_shared_loops_total"] >= 1


@pytest.mark.skipif(PROGRAM is None, reason="squid is not installed")
def test_a_post_past_squid_empties_squid_of_what_it_changed(tmp_path):
    """As of another Squid beside it: the node tells this one. Originals, renderings, variants. By
    HTCP, since to a PURGE of what varies Squid 5.7 answers 404, and may keep it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    folder = tmp_path / "node"
    folder.mkdir()
    more = (
        f"htcp_port {port}\nudp_incoming_address 127.0.0.1\n"
        "htcp_access allow all\nhtcp_clr_access allow all\n"
    )
    with application() as app:
        head = f'downstream = ["htcp://127.0.0.1:{port}"]\n'
        kept = ("Cache-Control: max-age=600",)
        varied = (*kept, "Vary: X-Kind")
        app.answers["/a.jpg"] = said(body=WIDE, fields=kept)
        app.answers["/page"] = said(body=b"old", fields=varied)
        app.answers["/stays"] = said(body=b"old", fields=varied)
        with (
            node(folder, head + app.configuration + SITE) as edge,
            squid(edge.public, more) as front,
        ):
            targets = ["/a.jpg", "/a.jpg?w=60", "/page", "/stays"]
            for target in targets:
                ask(front.public, target)
                assert ask(front.public, target).headers["x-cache"].startswith("HIT"), target
            app.answers["/page"] = said(body=b"new", fields=varied)
            for target in ("/a.jpg", "/page"):
                host, _, number = edge.public.partition(":")
                connection = http.client.HTTPConnection(host, int(number), timeout=20)
                connection.request("POST", target, b"x=1", {"Host": NAME})
                assert connection.getresponse().status == 200
                connection.close()
            for target in targets:
                reply = ask(front.public, target)
                is_hit = reply.headers["x-cache"].startswith("HIT")
                assert is_hit == (target == "/stays"), target
            assert ask(front.public, "/page").body == b"new"
            numbers = edge.metrics()
            assert numbers['halftone_shared_invalidated_total{result="purged"}'] == 2
