"""A folder of originals behind a whole node: hits, misses, restarts, wrong input."""

import io
import re
import socket
from pathlib import Path

import pytest
from PIL import Image

from tests.peers.node import Node, node, quote


def site(root: Path, more: str = "") -> str:
    return f"[[site]]\nroot = {quote(root)}\n{more}"


def size_of(body: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(body)) as image:
        image.load()
        return image.size


PICTURES = [
    # target, size, media type
    ("/photo.jpg", (1600, 900), "image/jpeg"),
    ("/photo.jpg?w=220", (220, 124), "image/jpeg"),
    ("/photo.jpg?w=220&fm=webp", (220, 124), "image/webp"),
    ("/photo.jpg?w=100&h=100&fit=crop", (100, 100), "image/jpeg"),
    ("/thumb/photo.jpg/220px-photo.jpg", (220, 124), "image/jpeg"),
    ("/thumb/logo.png/60px-logo.png", (60, 40), "image/png"),
    ("/vi/photo/hqdefault.jpg", (480, 360), "image/jpeg"),
    ("/vi_webp/tall/mqdefault.webp", (320, 180), "image/webp"),
    ("/photo.jpg?w=5000", (1600, 900), "image/jpeg"),  # never enlarged
]


def test_pictures_are_made_once_and_survive_a_restart(tmp_path, originals):
    with node(tmp_path, site(originals)) as edge:
        for target, size, media_type in PICTURES:
            reply = edge.get(target)
            assert (reply.status, reply.headers["content-type"]) == (200, media_type)
            assert size_of(reply.body) == size
            again = edge.get(target)
            assert again.is_hit
            assert again.body == reply.body
            assert again.headers["etag"] == reply.headers["etag"]
        # /photo.jpg?w=220 and the thumbnail of 220 pixels are one entry.
        rendered = edge.renders()
        assert rendered == len(PICTURES) - 2
    with node(tmp_path, site(originals)) as edge:
        for target, _, _ in PICTURES:
            reply = edge.get(target)
            assert reply.is_hit, (target, reply.cache_status)
        assert edge.renders() == 0


def test_heads_and_preconditions(tmp_path, originals):
    with node(tmp_path, site(originals)) as edge:
        for target in ("/photo.jpg", "/photo.jpg?w=300"):
            whole = edge.get(target)
            headers = whole.headers
            assert re.fullmatch('"[^"]+"', headers["etag"])
            assert headers["accept-ranges"] == "bytes"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "public, max-age=3600"
            assert int(headers["content-length"]) == len(whole.body)
            head = edge.get(target, "HEAD")
            assert head.body == b""
            assert head.headers["content-length"] == headers["content-length"]

            def asked(target: str = target, **fields: str) -> tuple[int, bytes]:
                reply = edge.get(
                    target, headers={name.replace("_", "-"): text for name, text in fields.items()}
                )
                return reply.status, reply.body

            assert asked(if_none_match=headers["etag"]) == (304, b"")
            assert asked(if_none_match="*") == (304, b"")
            assert asked(if_modified_since=headers["last-modified"]) == (304, b"")
            assert asked(if_none_match='"other"') == (200, whole.body)
            assert asked(if_match='"other"') == (412, b"")
            assert asked(range="bytes=0-99") == (206, whole.body[:100])
            assert asked(range="bytes=-7") == (206, whole.body[-7:])
            assert asked(range="bytes=99999999-") == (416, b"")
            assert asked(range="bytes=2-1") == (200, whole.body)
            assert asked(range="bytes=5-9", if_range=headers["etag"]) == (206, whole.body[5:10])
            assert asked(range="bytes=5-9", if_range='"other"') == (200, whole.body)
            status, body = asked(range="bytes=0-9,500-509")
            assert status == 206
            assert whole.body[:10] in body
            assert whole.body[500:510] in body


WRONG = [
    # target, statuses that fit
    ("/missing.jpg", {404}),
    ("/missing.jpg?w=100", {404}),
    ("/vi/missing/hqdefault.jpg", {404}),
    ("/thumb/missing.jpg/100px-missing.jpg", {404}),
    ("/notes.txt?w=100", {404, 415}),
    ("/notes.jpg?w=100", {415}),
    ("/thumb/notes.jpg/100px-notes.jpg", {415}),
    ("/half.jpg?w=100", {422}),
    ("/photo.jpg?w=0", {400}),
    ("/photo.jpg?w=-5", {400}),
    ("/photo.jpg?w=99999999999999999999", {400}),
    ("/photo.jpg?w=1e3", {400}),
    ("/photo.jpg?w=%D9%A3", {400}),
    ("/thumb/photo.jpg/0px-photo.jpg", {400}),
    ("/thumb/photo.jpg/100px-other.jpg", {400}),
    ("/huge.png?w=100", {413, 422}),
    ("/folder.jpg", {403, 404}),
    ("/", {404}),
    ("/../halftone.toml", {400, 404}),
    ("/%2e%2e/halftone.toml", {400}),
    ("/..%2fhalftone.toml", {400}),
    ("/photo.jpg%00", {400}),
    ("/link.jpg", {403, 404}),
]


def a_bomb() -> bytes:
    """A PNG of some 100 bytes whose head claims 16,000 x 16,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 16000, 16000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_wrong_input_gets_a_fixed_sentence_and_nothing_is_kept(tmp_path, originals):
    (originals / "huge.png").write_bytes(a_bomb())
    (originals / "link.jpg").symlink_to("/etc/passwd")
    with node(tmp_path, site(originals)) as edge:
        for _ in range(2):
            for target, statuses in WRONG:
                reply = edge.get(target)
                assert reply.status in statuses, (target, reply.status)
                assert reply.headers["cache-control"] == "no-store"
                assert re.fullmatch(rb"[A-Z][^\n]{10,90} \(request [0-9a-f]{16}\)\n", reply.body)
                assert reply.headers["x-request-id"].encode() in reply.body
                # What no resizer can read is not tried again at once.
                assert not reply.is_hit or reply.status in (413, 415, 422)
                for word in target.strip("/").split("/"):
                    assert len(word) < 6 or word.encode() not in reply.body
        assert edge.get("/photo.jpg?w=220").status == 200
        kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        assert (
            sum(1 for path in kept if "index" not in path.name and path.stat().st_size > 512) == 1
        )


def test_other_methods(tmp_path, originals):
    with node(tmp_path, site(originals)) as edge:
        for method in ("POST", "PUT", "DELETE", "PATCH", "PURGE", "TRACE"):
            reply = edge.get("/photo.jpg", method)
            assert reply.status == 405
            assert reply.headers["allow"] == "GET, HEAD, OPTIONS"
        assert edge.get("/photo.jpg", "OPTIONS").status == 204


def test_a_changed_original_is_rendered_anew(tmp_path, originals):
    with node(tmp_path, site(originals)) as edge:
        before = edge.get("/photo.jpg?w=300")
        replaced = originals / "new.jpg"
        with Image.open(originals / "tall.jpg") as tall:
            tall.save(replaced, quality=90)
        replaced.rename(originals / "photo.jpg")
        # The file is looked at again within a second; the etag then tells.
        after = before
        while after.headers["etag"] == before.headers["etag"]:
            after = edge.get("/photo.jpg?w=300")
        assert size_of(after.body) == (300, 533)
        assert (
            edge.get("/photo.jpg?w=300", headers={"If-None-Match": before.headers["etag"]}).status
            == 200
        )
        (originals / "photo.jpg").unlink()
        while edge.get("/photo.jpg?w=300").status == 200:
            pass
        assert edge.get("/photo.jpg?w=300").status == 404


@pytest.mark.parametrize(
    ("off_step", "expected"), [("round", 250), ("redirect", 250), ("reject", None), ("allow", 220)]
)
def test_steps(tmp_path, originals, off_step, expected):
    steps = f'steps = [120, 250]\noff_step = "{off_step}"\n'
    with node(tmp_path, site(originals, steps)) as edge:
        reply = edge.get("/thumb/photo.jpg/220px-photo.jpg")
        if off_step == "redirect":
            assert reply.status == 302
            assert reply.headers["location"] == "/thumb/photo.jpg/250px-photo.jpg"
            reply = edge.get(reply.headers["location"])
        if expected is None:
            assert reply.status == 400
            return
        assert size_of(reply.body)[0] == expected
        assert edge.get("/vi/photo/hqdefault.jpg").status == 200  # a named size is no step


def test_hosts_and_prefix(tmp_path, originals):
    other = tmp_path / "other"
    other.mkdir()
    (other / "only-here.txt").write_text("here")
    configuration = site(originals, 'hosts = ["a.example"]\nprefix = "/img"\n') + site(
        other, 'hosts = ["b.example"]\n'
    )
    with node(tmp_path, configuration) as edge:

        def status(host: str, target: str) -> int:
            return edge.get(target, headers={"Host": host}).status

        assert status("a.example", "/img/photo.jpg") == 200
        assert status("A.Example:8080", "/img/thumb/photo.jpg/99px-photo.jpg") == 200
        assert status("a.example", "/photo.jpg") == 404
        assert status("a.example", "/img/only-here.txt") == 404
        assert status("b.example", "/only-here.txt") == 200
        assert status("c.example", "/only-here.txt") == 404


def test_a_cold_thumbnail_is_rendered_once_for_many(tmp_path, originals):
    from concurrent.futures import ThreadPoolExecutor

    with node(tmp_path, site(originals)) as edge, ThreadPoolExecutor(40) as threads:
        replies = list(threads.map(lambda _: edge.get("/photo.jpg?w=700"), range(40)))
        assert {reply.status for reply in replies} == {200}
        assert len({reply.body for reply in replies}) == 1
        assert edge.renders() == 1


def test_admin(tmp_path, originals):
    with node(tmp_path, site(originals)) as edge:
        from tests.peers.node import ask

        assert ask(edge.admin, "/healthz").body == b"ok\n"
        assert ask(edge.admin, "/readyz").status == 200
        assert ask(edge.admin, "/nothing").status == 404
        edge.get("/photo.jpg?w=220")
        edge.get("/photo.jpg?w=220")
        edge.get("/missing.jpg")
        numbers = edge.metrics()
        assert numbers['halftone_requests_total{status="200"}'] == 2
        assert numbers['halftone_requests_total{status="404"}'] == 1
        assert numbers["halftone_cache_misses_total"] == 1
        assert numbers['halftone_cache_hits_total{tier="memory"}'] == 1
        assert numbers['halftone_renders_total{result="rendered"}'] == 1
        assert numbers['halftone_cache_disk_bytes{kind="derivative"}'] % 4096 == 0
        assert numbers['halftone_cache_disk_bytes{kind="derivative"}'] > 0
        assert (
            numbers['halftone_cache_disk_bytes{kind="original"}'] == 0
        )  # a docroot's are not kept
        assert numbers['halftone_cache_evictions_total{kind="derivative"}'] == 0
        open_metrics = ask(
            edge.admin, "/metrics", headers={"Accept": "application/openmetrics-text"}
        )
        assert open_metrics.body.endswith(b"# EOF\n")


def test_what_hits_and_misses_weigh(tmp_path, originals):
    with node(tmp_path, site(originals)) as edge:
        target = "/photo.jpg?w=220"
        picture = edge.get(target)
        size = len(picture.body)

        def weighed() -> list[int]:
            numbers = edge.metrics()
            return [
                int(numbers[f"halftone_cache_{name}_total"])
                for name in (
                    *("hit_bytes", "miss_bytes", "saved_milliseconds", "spent_milliseconds"),
                )
            ]

        hit, miss, saved, spent = weighed()
        assert (hit, miss, saved) == (0, size, 0)
        assert spent > 0
        # Through the handler first, then ready; a part and a 304 save the whole.
        edge.get(target, headers={"Range": "bytes=0-9"})
        assert edge.get(target, headers={"If-None-Match": picture.headers["etag"]}).status == 304
        for _ in range(10):
            edge.get(target)
        assert weighed() == [12 * size, size, 12 * spent, spent]
        # An original of the docroot weighs bytes and costs nothing.
        original = len(edge.get("/photo.jpg").body)
        assert weighed() == [12 * size + original, size, 12 * spent, spent]


def test_the_access_log(tmp_path, originals):
    log = tmp_path / "access.log"
    configuration = f"[log]\naccess = {quote(log)}\n" + site(originals)
    with node(tmp_path, configuration) as edge:
        edge.get("/photo.jpg?w=220", headers={"User-Agent": 'quo"te', "Referer": "http://x/y"})
        edge.get("/missing.jpg")
    lines = log.read_text().splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
        r'"GET /photo\.jpg\?w=220 HTTP/1\.1"'
        r' 200 \d+ "http://x/y" "quo\\x22te" MISS \d+\.\d',
        lines[0],
    )
    assert '"GET /missing.jpg HTTP/1.1" 404' in lines[1]


def test_zero_configuration(tmp_path, originals):
    from tests.peers.node import running

    arguments = [str(originals), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    arguments += ["--cache", str(tmp_path / "cache")]
    with running(arguments) as edge:
        assert isinstance(edge, Node)
        assert edge.get("/vi/photo/hqdefault.jpg").status == 200


def lines_of(log: Path) -> list[str]:
    return log.read_text().splitlines()


def test_the_client_behind_a_trusted_proxy(tmp_path, originals):
    log = tmp_path / "access.log"
    head = f'trusted_proxies = ["127.0.0.1"]\n[log]\naccess = {quote(log)}\n'
    with node(tmp_path, head + site(originals)) as edge:
        # Often enough that the last of them are answered from a ready piece.
        for number in range(6):
            forwarded = f"203.0.113.{number}, 198.51.100.{number}"
            reply = edge.get("/photo.jpg?w=220", headers={"X-Forwarded-For": forwarded})
            assert reply.status == 200
    assert [line.split()[0] for line in lines_of(log)] == [f"198.51.100.{n}" for n in range(6)]


@pytest.mark.parametrize(
    ("field", "client"), [("x-forwarded-for", "203.0.113.1"), ("forwarded", "203.0.113.2")]
)
def test_one_field_names_the_client(tmp_path, originals, field, client):
    log = tmp_path / "access.log"
    head = f'trusted_proxies = ["127.0.0.1"]\nforwarded = "{field}"\n'
    both = {"X-Forwarded-For": "203.0.113.1", "Forwarded": "for=203.0.113.2"}
    other = {name: text for name, text in both.items() if name.lower() != field}
    with node(tmp_path, f"{head}[log]\naccess = {quote(log)}\n" + site(originals)) as edge:
        # Often enough for the heads to be familiar.
        for headers in (*[both] * 3, *[other] * 3):
            assert edge.get("/photo.jpg?w=220", headers=headers).status == 200
    assert [line.split()[0] for line in lines_of(log)] == [client] * 3 + ["127.0.0.1"] * 3


def test_nobody_believes_a_stranger(tmp_path, originals):
    log = tmp_path / "access.log"
    with node(tmp_path, f"[log]\naccess = {quote(log)}\n" + site(originals)) as edge:
        edge.get("/photo.jpg?w=220", headers={"X-Forwarded-For": "203.0.113.1"})
    assert lines_of(log)[0].split()[0] == "127.0.0.1"


def test_a_proxy_preamble(tmp_path, originals):
    log = tmp_path / "access.log"
    head = (
        'trusted_proxies = ["127.0.0.1"]\n[connection]\nproxy_protocol = true\n'
        f"[log]\naccess = {quote(log)}\n"
    )
    request = b"GET /photo.jpg?w=220 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with node(tmp_path, head + site(originals)) as edge:
        host, port = edge.public.split(":")

        def answer(*pieces: bytes) -> bytes:
            with socket.create_connection((host, int(port))) as client:
                for piece in pieces:
                    client.sendall(piece)
                return b"".join(iter(lambda: client.recv(65536), b""))

        preamble = b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\r\n"
        assert answer(preamble + request).startswith(b"HTTP/1.1 200")
        assert answer(preamble[:9], preamble[9:], request).startswith(b"HTTP/1.1 200")
        assert answer(request) == b""
        assert answer(b"PROXY TCP4 nonsense\r\n" + request) == b""
    assert [line.split()[0] for line in lines_of(log)] == ["203.0.113.7", "203.0.113.7"]


def test_renders_are_timed(tmp_path, originals):
    with node(tmp_path, site(originals)) as edge:
        reply = edge.get("/photo.jpg?w=220")
        numbers = edge.metrics()
        assert numbers["halftone_render_seconds_count"] == 1
        assert numbers['halftone_render_seconds_bucket{le="+Inf"}'] == 1
        told = re.search(r"render;dur=([0-9.]+)", reply.headers["server-timing"])
        assert told is not None
        assert numbers["halftone_render_seconds_sum"] == pytest.approx(float(told[1]) / 1000, 0.1)
        for name in ("halftone_resize_queue_depth", "halftone_access_log_dropped_total"):
            assert numbers[name] == 0
        assert numbers['halftone_index_failures_total{kind="failed"}'] == 0
        assert numbers['halftone_connections_closed_early_total{reason="refused"}'] == 0
