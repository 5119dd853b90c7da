"""Warming: what is asked of the node, how answers are counted, and what ends it."""

import contextlib
import http.client
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge import cli
from edge.warm import read_names


class Edge(http.server.BaseHTTPRequestHandler):
    """Knows what is asked a second time; /404 it never does, /end ends the connection."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()

    def do_GET(self) -> None:
        server = self.server
        where = (self.headers["Host"], self.path)
        with self.lock:
            is_hit = where in server.asked  # type: ignore[attr-defined]
            scheme = self.headers.get("X-Forwarded-Proto", "http")
            server.asked.append(where)  # type: ignore[attr-defined]
            server.schemes.append(scheme)  # type: ignore[attr-defined]
        body = b"x" * 1000
        self.send_response(404 if self.path == "/404" else 200)
        self.send_header("Cache-Status", "edge1; hit; ttl=9" if is_hit else "edge1; fwd=uri-miss")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/end":
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def edge() -> Iterator[tuple[str, http.server.ThreadingHTTPServer]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Edge)
    server.asked, server.schemes = [], []  # type: ignore[attr-defined]
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", server
        server.shutdown()
        thread.join()


def warm(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(cli.main, ["warm", *arguments], input=given)


@pytest.mark.parametrize("jobs", [1, 8])
def test_hits_misses_and_errors(tmp_path: Path, jobs: int) -> None:
    urls = [f"/{number}.jpg?w=10" for number in range(20)]
    file = tmp_path / "urls"
    file.write_text("# of the front page\n\n" + "\n".join(urls) + "\n")
    with edge() as (address, server):
        options = ("--listen", address, "--jobs", str(jobs))
        result = warm(str(file), *options)
        assert (result.exit_code, result.stdout) == (0, "0 hits, 20 misses, 0 errors\n")
        assert sorted(server.asked) == sorted(("localhost", url) for url in urls)
        result = warm("-", *options, given="\n".join([*urls, "/404", "/new"]))
        assert (result.exit_code, result.stdout) == (1, "20 hits, 1 misses, 1 errors\n")
        assert result.stderr == "halftone: /404: 404\n"


def test_hosts_schemes_and_what_is_no_url() -> None:
    lines = ["http://a.example/x y", "https://b.example:8443/z?q", "/p", "ftp://x/", "picture.jpg"]
    with edge() as (address, server):
        result = warm(
            "-", "--jobs", "1", "--site", "s", "--listen", address, given="\n".join(lines)
        )
    assert server.asked == [("a.example", "/x%20y"), ("b.example:8443", "/z?q"), ("s", "/p")]
    assert server.schemes == ["http", "https", "http"]
    assert (result.exit_code, result.stdout) == (1, "0 hits, 3 misses, 2 errors\n")
    assert all("is neither http://HOST/PATH nor a path" in ln for ln in result.stderr.splitlines())
    assert len(result.stderr.splitlines()) == 2


def test_a_connection_that_the_node_ended_is_made_anew() -> None:
    with edge() as (address, server):
        result = warm("-", "--jobs", "1", "--listen", address, given="/end\n/end\n/end\n/a")
        assert (result.exit_code, result.stdout) == (0, "2 hits, 2 misses, 0 errors\n")
        assert len(server.asked) == 4


def test_nobody_answers() -> None:
    with edge() as (address, _):
        pass
    result = warm("-", "--listen", address, given="/a\n/\x1b[2Jb\n")
    assert (result.exit_code, result.stdout) == (1, "0 hits, 0 misses, 2 errors\n")
    assert "halftone: /a: Connection refused" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_bytes(b"/a\n\xff\xfe\n")
    with edge() as (address, _):
        result = warm(str(file), "--listen", address)
    assert (result.exit_code, result.stdout) == (1, "0 hits, 1 misses, 1 errors\n")
    assert warm(str(tmp_path / "none"), "--listen", address).exit_code == 2


def test_nothing_to_ask() -> None:
    assert warm("-", "--listen", "127.0.0.1:1", given="#\n\n").stdout == (
        "0 hits, 0 misses, 0 errors\n"
    )


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Through rich; what a URL has of its markup is no markup."""
    file = tmp_path / "urls"
    file.write_text("/[red]404\n/a\n")
    with edge() as (address, _), monkeypatch.context() as patch:
        patch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
        result = warm(str(file), "--jobs", "1", "--listen", address)
    assert result.exit_code == 0
    assert "2/2" in result.stderr


def test_names() -> None:
    assert list(read_names(["/a\n", "\n", "  # no\n", " /b#c \n"])) == ["/a", "/b#c"]
    assert http.client.BAD_REQUEST == 400
