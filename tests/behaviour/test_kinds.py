"""Whole nodes before each kind of origin: an original becomes a thumbnail, and nothing leaks."""

import contextlib
import http.client
import http.server
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from tests.behaviour.conftest import draw
from tests.peers.node import Node, Reply, node, quote, until
from tests.peers.phpfpm import PROGRAM, php_fpm
from tests.peers.programs import make_program
from tests.peers.s3 import s3_server

SITE = '[[site]]\norigin = "app"\n'


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    draw(800, 400).save(folder / "wide.jpg", "JPEG", quality=90)
    os.utime(folder / "wide.jpg", (1_700_000_000, 1_700_000_000))  # old enough for a lifetime
    (folder.parent / "secret.jpg").write_bytes(b"secret")
    return folder


class Files(http.server.SimpleHTTPRequestHandler):
    """The standard library's own server: HTTP/1.1, lengths, conditional requests."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def web(pictures: Path) -> Iterator[str]:
    def handler(*args: object) -> Files:
        return Files(*args, directory=str(pictures))  # type: ignore[arg-type]

    with serving(handler) as url:  # type: ignore[arg-type]
        yield url.removeprefix("http://")


def size_of(reply: Reply) -> tuple[int, int]:
    assert reply.status == 200, (reply.status, reply.body[:200], reply.cache_status)
    with Image.open(io.BytesIO(reply.body)) as image:
        return image.size


def check(edge: Node, original: bytes) -> None:
    first = edge.get("/wide.jpg")
    assert (first.status, first.body) == (200, original)
    assert first.headers["content-type"] == "image/jpeg"
    assert edge.get("/wide.jpg").is_hit
    assert size_of(edge.get("/wide.jpg?w=100")) == (100, 50)
    assert edge.get("/missing.jpg").status == 404
    assert edge.get("/missing.jpg?w=100").status == 404


def test_http(tmp_path: Path, pictures: Path, web: str) -> None:
    origin = f'[[origin]]\nname = "app"\nkind = "http"\nhosts = ["{web}"]\nkeep_connections = 4\n'
    with node(tmp_path, origin + SITE) as edge:
        check(edge, (pictures / "wide.jpg").read_bytes())


def test_cgi_that_names_its_files(tmp_path: Path, pictures: Path) -> None:
    """The program sends no byte of a picture: X-Sendfile does."""
    program = make_program(tmp_path)
    shebang = program.read_text().partition("\n")[0]
    program.write_text(
        f"{shebang}\nimport os\n"
        f'print("X-Sendfile: {pictures}" + os.environ["DOCUMENT_URI"])\n'
        'print("Cache-Control: max-age=60\\nSurrogate-Key: a\\nX-Accel-Buffering: no\\n")\n'
    )
    origin = (
        f'[[origin]]\nname = "app"\nkind = "cgi"\nscript_filename = {quote(program)}\n'
        f"sendfile_roots = [{quote(pictures)}]\n"
    )
    with node(tmp_path, origin + SITE) as edge:
        check(edge, (pictures / "wide.jpg").read_bytes())
        reply = edge.get("/wide.jpg")
        told = {name for name in reply.headers if name.startswith(("x-send", "x-accel", "surr"))}
        assert told == set()
        assert reply.headers["etag"]


@pytest.mark.skipif(PROGRAM is None, reason="php-fpm8.2 is not installed")
def test_php_that_names_its_files(tmp_path: Path, pictures: Path) -> None:
    script = tmp_path / "send.php"
    script.write_text(
        "<?php $n = $_SERVER['DOCUMENT_URI'];\n"
        "header('Content-Type: image/jpeg');\n"
        f"$outside = '{pictures.parent}/secret.jpg';\n"
        "if ($n == '/outside.jpg') { header('X-Sendfile: ' . $outside); exit; }\n"
        f"if ($n == '/up.jpg') {{ header('X-Sendfile: {pictures}/../secret.jpg'); exit; }}\n"
        f"if ($n == '/accel.jpg') {{ header('X-Accel-Redirect: /in/wide.jpg'); exit; }}\n"
        "header('Cache-Control: no-cache'); header('X-Accel-Expires: 60');\n"
        f"header('X-Sendfile: {pictures}' . $n);\n"
    )
    with php_fpm(pictures, application=script) as php:
        origin = (
            f'[[origin]]\nname = "app"\nhosts = [{quote(php.address)}]\n'
            f"script_filename = {quote(php.script.filename)}\n"
            f'sendfile_roots = [{quote(pictures)}, "/in={pictures}"]\n'
        )
        with node(tmp_path, origin + SITE) as edge:
            check(edge, (pictures / "wide.jpg").read_bytes())
            assert edge.get("/accel.jpg").body == (pictures / "wide.jpg").read_bytes()
            for target in ("/outside.jpg", "/up.jpg"):
                reply = edge.get(target)
                assert (reply.status, b"secret" in reply.body) == (403, False)
            edge.wait_for("x-sendfile: .*below no root")
        # Without the setting nothing of the kind is obeyed.
        (tmp_path / "strict").mkdir()
        bare = origin.partition("sendfile_roots")[0]
        with node(tmp_path / "strict", bare + SITE) as edge:
            assert edge.get("/wide.jpg").status == 502


def test_s3(tmp_path: Path, pictures: Path) -> None:
    pytest.importorskip("obstore")
    data = (pictures / "wide.jpg").read_bytes()
    with s3_server() as storage:
        storage.put("pics")
        fields = {"content_type": "image/jpeg", "cache_control": "max-age=60"}
        storage.put("pics", "originals/wide.jpg", data, **fields)
        origin = (
            '[[origin]]\nname = "app"\nkind = "s3"\ns3 = { bucket = "pics", prefix = "originals",'
            f' endpoint = "{storage.endpoint}" }}\n'
        )
        keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}
        with node(tmp_path, origin + SITE, keys) as edge:
            check(edge, data)
            assert edge.get("/wide.jpg").headers["cache-control"] == "public, max-age=60"


class Bucket(http.server.BaseHTTPRequestHandler):
    """Storage that speaks S3, as far as a GET needs it; it breaks off in the middle of every whole
    object, and refuses when it is told to. No validator but the ETag."""

    protocol_version = "HTTP/1.1"
    version = 1
    is_changing = False
    refusal: tuple[int, str] | None = None
    asked: ClassVar[list[str]] = []

    @classmethod
    def body(cls) -> bytes:
        return bytes([cls.version]) * 600_000

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        cls = Bucket
        wanted, tag = self.headers["Range"], f'"{cls.version}"'
        cls.asked.append(wanted or "")
        if cls.refusal is not None:
            status, code = cls.refusal
            return self._send(status, f"<Error><Code>{code}</Code></Error>".encode())
        if self.headers["If-None-Match"] == tag:
            return self._send(304, b"", f"ETag: {tag}", "Cache-Control: max-age=0")
        if self.headers["If-Match"] not in (None, tag):
            return self._send(412, b"")
        body = cls.body()
        fields = [f"ETag: {tag}", "Accept-Ranges: bytes", "Cache-Control: max-age=0"]
        if wanted is None:
            self._send(200, body, *fields, sends=300_000)
            cls.version += cls.is_changing
            self.close_connection = True
            return None
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        told = f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}"
        return self._send(206, body[start:], *fields, told)

    def _send(self, status: int, body: bytes, *fields: str, sends: int | None = None) -> None:
        self.send_response(status)
        for field in (*fields, f"Content-Length: {len(body)}"):
            self.send_header(*field.split(": ", 1))
        self.end_headers()
        self.wfile.write(body[:sends])


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_s3_that_breaks_off_and_refuses(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    with serving(Bucket) as endpoint:
        origin = (
            '[[origin]]\nname = "app"\nkind = "s3"\ns3 = { bucket = "pics", access_key = "id",'
            f' secret_key = "key", endpoint = "{endpoint}" }}\n'
        )
        with node(tmp_path, origin + SITE) as edge:

            def resumptions(result: str) -> float:
                name = f'halftone_origin_resumptions_total{{origin="app",result="{result}"}}'
                return edge.metrics()[name]

            # It goes on where it broke off, and is kept.
            first = edge.get("/a.bin")
            assert (first.status, first.body) == (200, bytes([1]) * 600_000)
            assert Bucket.asked == ["", "bytes=300000-"]
            assert (resumptions("resumed"), resumptions("failed")) == (1, 0)
            kept = 'halftone_arrivals_total{result="ended"}'
            until(lambda: edge.metrics()[kept] == 1, "the original is stored")
            again = edge.get("/a.bin")
            assert (again.body == first.body, again.headers["etag"]) == (True, '"1"')
            assert Bucket.asked[2:] == [""]  # with If-None-Match
            # Another version is not its rest: who has the beginning is cut off.
            Bucket.is_changing = True
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                edge.get("/b.bin")
            edge.wait_for("cut off after 300000 bytes.*not resumed: status 412")
            assert resumptions("failed") == 1
            # A key that is not ours is no answer: what was kept serves on, and somebody is told.
            Bucket.is_changing, Bucket.refusal = False, (403, "InvalidAccessKeyId")
            Bucket.version = 1
            stale = edge.get("/a.bin")
            assert (stale.status, stale.body) == (200, first.body)
            assert "stale-if-error" in stale.cache_status
            assert edge.get("/c.bin").status == 502
            edge.wait_for("403 InvalidAccessKeyId: access_key, or AWS_ACCESS_KEY_ID, is not known")
            # Nor is too much.
            Bucket.refusal = (503, "SlowDown")
            busy = edge.get("/d.bin")
            assert (busy.status, "retry-after" in busy.headers) == (503, True)
            # What may not be seen is.
            Bucket.refusal = (403, "AccessDenied")
            assert edge.get("/e.bin").status == 403
            edge.wait_for("/e.bin.: 403 AccessDenied: it may not be read")
