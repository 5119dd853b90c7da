"""What dies at 3 a.m.: the origin, Redis, the index, a resizer, the disk, the node itself."""

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.behaviour.test_origin import SITE, TALL, WIDE, size_of
from tests.peers.application import application, picture, said
from tests.peers.node import Node, Reply, node, quote, running, until
from tests.peers.redis import RedisServer

TARGETS = ("/photo.jpg", "/photo.jpg?w=220", "/thumb/logo.png/60px-logo.png")


def folder_site(originals: Path) -> str:
    return f"[[site]]\nroot = {quote(originals)}\n"


def ask_all(edge: Node) -> list[bytes]:
    replies = [edge.get(target) for target in TARGETS]
    assert [reply.status for reply in replies] == [200] * len(TARGETS)
    return [reply.body for reply in replies]


def entries(folder: Path) -> list[Path]:
    """The files that hold a body, see cache/disk.py."""
    return list((folder / "cache").glob("?/??/*"))


def asked_behind(threads: ThreadPoolExecutor, edge: Node, target: str) -> "Future[Reply]":
    """A miss that is under way, as the node's counter tells."""
    before = edge.metrics()["halftone_cache_misses_total"]
    reply = threads.submit(edge.get, target)
    until(lambda: edge.metrics()["halftone_cache_misses_total"] > before, "the miss is counted")
    return reply


# The origin


def test_a_dead_origin(tmp_path):
    with application() as app:
        app.answers["/long.jpg"] = picture(WIDE, '"l"', "max-age=3600")
        app.answers["/short.jpg"] = picture(WIDE, '"s"', "max-age=1")
        app.answers["/strict.jpg"] = picture(WIDE, '"m"', "max-age=1, must-revalidate")
        app.answers["/shared.jpg"] = picture(WIDE, '"m"', "s-maxage=1")
        with node(tmp_path, app.configuration + SITE) as edge:
            for target in app.answers:
                assert edge.get(target).status == 200
                assert size_of(edge.get(f"{target}?w=100")) == (100, 50)
            app.stop()
            until(lambda: "stale-if-error" in edge.get("/short.jpg").cache_status, "stale")
            for target in ("/short.jpg", "/short.jpg?w=100"):
                reply = edge.get(target)
                assert reply.status == 200
                assert re.search(r"; hit; ttl=(0|-\d+); detail=stale-if-error", reply.cache_status)
                assert reply.headers["cache-control"] == "max-age=10"
                assert int(reply.headers["age"]) >= 1
            # What was not rendered before can be made of the stale original.
            assert size_of(edge.get("/short.jpg?w=50")) == (50, 25)
            assert edge.get("/long.jpg").is_hit
            assert edge.get("/long.jpg").headers["cache-control"] == "public, max-age=3600"
            for target in ("/strict.jpg", "/shared.jpg"):
                until(lambda target=target: edge.get(target).status != 200, "over its lifetime")
                for size in ("", "?w=100"):
                    reply = edge.get(target + size)
                    assert reply.status in (502, 503)
                    assert reply.headers["cache-control"] == "no-store"
                    assert ("retry-after" in reply.headers) == (reply.status == 503)
            assert edge.get("/never.jpg").status in (502, 503)
            app.start()
            until(lambda: edge.get("/strict.jpg").status == 200, "the origin is back")
            assert edge.get("/strict.jpg?w=100").status == 200
            assert edge.renders() == 5


def test_a_removed_picture_does_not_come_back_stale(tmp_path):
    with application() as app:
        app.answers["/gone.jpg"] = app.answers["/secret.jpg"] = picture(WIDE, '"g"', "max-age=1")
        with node(tmp_path, app.configuration + SITE) as edge:
            for target in app.answers:
                assert edge.get(f"{target}?w=100").status == 200
            del app.answers["/gone.jpg"]
            app.answers["/secret.jpg"] = said(body=TALL, fields=["Cache-Control: no-store"])
            until(lambda: edge.get("/gone.jpg").status == 404, "the origin was asked")
            until(lambda: edge.get("/secret.jpg").body == TALL, "the origin was asked")
            app.stop()
            for target in ("/secret.jpg", "/secret.jpg?w=100"):
                assert edge.get(target).status in (502, 503), target
            for target in ("/gone.jpg", "/gone.jpg?w=100"):  # or it is known to be gone
                assert edge.get(target).status in (404, 502, 503), target


def test_a_confirmation_without_fields_keeps_must_revalidate(tmp_path):
    with application() as app:

        def answer(seen):
            if "HTTP_IF_NONE_MATCH" in seen.params:
                return said("304 Not Modified", None)
            return said(
                body=WIDE, fields=['ETag: "m"', "Cache-Control: max-age=1, must-revalidate"]
            )

        app.answers["/a.jpg"] = answer
        with node(tmp_path, app.configuration + SITE) as edge:
            assert edge.get("/a.jpg").status == 200
            until(lambda: "fwd-status=304" in edge.get("/a.jpg").cache_status, "confirmed")
            app.stop()
            until(lambda: edge.get("/a.jpg").status != 200, "never stale")
            assert edge.get("/a.jpg").status in (502, 503)


# The index


def test_redis_stops_stands_still_and_is_emptied(tmp_path, originals):
    with contextlib.closing(RedisServer().start()) as server:
        configuration = f"[cache]\nindex = {quote(server.url)}\n{folder_site(originals)}"
        number = 100
        with node(tmp_path, configuration) as edge:
            bodies = ask_all(edge)
            made = edge.renders()

            def flush() -> None:
                server.command("FLUSHALL")

            outages = (
                (server.stop, server.start),
                (server.pause, server.resume),
                (flush, lambda: None),
            )
            for begin, end in outages:
                begin()
                for _ in range(30):
                    assert ask_all(edge) == bodies
                    assert all(edge.get(target).is_hit for target in TARGETS)
                number += 1
                fresh = f"/photo.jpg?w={number}"
                assert size_of(edge.get(fresh))[0] == number
                made += 1
                if begin is flush:
                    # Where its fill began with a token that is forgotten, it was not kept: for all
                    # we know there was a purge. The node hears within a second that it is.
                    assert size_of(edge.get(fresh))[0] == number
                    assert made <= edge.renders() <= made + 1
                    made = edge.renders()
                assert edge.get(fresh).is_hit
                end()
                assert ask_all(edge) == bodies
                assert edge.get(fresh).is_hit
                assert edge.renders() == made
        # A new process remembers no token; the files have those of several epochs.
        flush()
        for begin in (lambda: None, server.stop):
            begin()
            with node(tmp_path, configuration) as edge:
                assert ask_all(edge) == bodies
                for width in range(101, number + 1):
                    assert edge.get(f"/photo.jpg?w={width}").is_hit
                assert edge.renders() == 0


def test_a_lost_index_loses_nothing(tmp_path, originals):
    with node(tmp_path, folder_site(originals)) as edge:
        bodies = ask_all(edge)
    lost = list((tmp_path / "cache").glob("index*"))
    assert lost
    for file in lost:
        file.unlink()
    with node(tmp_path, folder_site(originals)) as edge:
        assert ask_all(edge) == bodies
        assert edge.renders() == 0


def test_an_index_lost_while_the_origin_lives(tmp_path):
    with application() as app:
        app.answers["/a.jpg"] = picture(WIDE, '"a"', "max-age=3600")
        with node(tmp_path, app.configuration + SITE) as edge:
            assert edge.get("/a.jpg?w=100").status == 200
        for file in (tmp_path / "cache").glob("index*"):
            file.unlink()
        with node(tmp_path, app.configuration + SITE) as edge:
            assert edge.get("/a.jpg?w=100").is_hit
            assert edge.renders() == 0
            assert app.visits("/a.jpg") == 2  # purges may have been forgotten: it was asked


# The disk


def test_nothing_fits_a_tiny_cache(tmp_path, originals):
    with application() as app:
        app.answers["/a.jpg"] = picture(WIDE, '"a"', "max-age=3600")
        configuration = f'[cache]\nsize = "64KiB"\n{app.configuration}{SITE}'
        with node(tmp_path, f"{configuration}root = {quote(originals)}\n") as edge:
            for _ in range(2):
                ask_all(edge)
                assert size_of(edge.get("/photo.jpg?w=1500"))[0] == 1500
                assert edge.get("/a.jpg").body == WIDE
                assert size_of(edge.get("/a.jpg?w=100")) == (100, 50)
        assert sum(path.stat().st_size for path in entries(tmp_path)) <= 64 * 1024


@pytest.mark.parametrize("limits", ["size=256k", "nr_inodes=18"])
def test_a_full_disk(tmp_path, originals, limits):
    mount = f'mount -t tmpfs -o {limits} tmpfs {tmp_path}/cache && exec "$@"'
    under = ("unshare", "-Urm", "sh", "-c", mount, "sh")
    (tmp_path / "cache").mkdir()
    if subprocess.run([*under, "true"], capture_output=True).returncode:
        pytest.skip("no mounts in a user namespace here")
    big = WIDE + bytes(300_000)
    with application() as app:
        app.answers["/a.jpg"] = picture(WIDE, '"a"', "max-age=3600")
        app.answers["/big.jpg"] = picture(big, '"b"', "max-age=3600")
        app.answers["/told.jpg"] = said(body=big, fields=["Cache-Control: no-store"])
        configuration = app.configuration + SITE + f"root = {quote(originals)}\n"
        with node(tmp_path, configuration, under=under) as edge:
            for _ in range(2):
                for width in range(400, 1600, 100):
                    assert size_of(edge.get(f"/photo.jpg?w={width}"))[0] == width
                for _ in range(2):
                    assert edge.get("/a.jpg").body == WIDE
                    assert size_of(edge.get("/a.jpg?w=100")) == (100, 50)
                    for target in ("/big.jpg", "/told.jpg"):
                        assert edge.get(target).body == big
                        assert size_of(edge.get(f"{target}?w=100")) == (100, 50)


def test_files_damaged_behind_our_back_are_made_anew(tmp_path, originals):
    with node(tmp_path, folder_site(originals)) as edge:
        bodies = ask_all(edge)
        made = edge.renders()
    files = entries(tmp_path)
    assert len(files) == made
    for number, file in enumerate(files):
        content = file.read_bytes()
        file.write_bytes(
            content[: len(content) // 2] if number % 2 else content[:-9] + b"123456789"
        )
    with node(tmp_path, folder_site(originals)) as edge:
        assert ask_all(edge) == bodies
        assert edge.renders() == made


def test_the_docroot_disappears(tmp_path, originals):
    with node(tmp_path, folder_site(originals)) as edge:
        ask_all(edge)
        shutil.rmtree(originals)
        until(lambda: edge.get("/photo.jpg?w=220").status == 404, "it is gone")


# Processes


def test_a_killed_node_comes_back_warm(tmp_path, originals):
    with node(tmp_path, folder_site(originals)) as edge:
        bodies = ask_all(edge)
        edge.kill()
    with node(tmp_path, folder_site(originals)) as edge:
        assert ask_all(edge) == bodies
        assert all(edge.get(target).is_hit for target in TARGETS)
        assert edge.renders() == 0


def test_a_node_killed_during_a_render(tmp_path, originals):
    with ThreadPoolExecutor(1) as threads, node(tmp_path, folder_site(originals)) as edge:
        workers = edge.resizers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        reply = asked_behind(threads, edge, "/photo.jpg?w=220")
        edge.kill()
        assert reply.exception(30) is not None
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    with node(tmp_path, folder_site(originals)) as edge:
        assert size_of(edge.get("/photo.jpg?w=220")) == (220, 124)
        until(lambda: not list((tmp_path / "cache").rglob(".tmp-*")), "swept by the scan")


def until_replaced(edge: Node, dead: list[int]) -> None:
    """A job whose worker ends before it took it goes to another one, once: so the node gets the
    time to see who is dead."""

    def is_replaced() -> bool:
        edge.metrics()
        now = edge.resizers()
        return len(now) == len(dead) and not set(now) & set(dead)

    until(is_replaced, "the resizers are replaced")


def test_killed_resizers(tmp_path, originals):
    with node(tmp_path, folder_site(originals)) as edge, ThreadPoolExecutor(1) as threads:
        assert edge.get("/photo.jpg?w=100").status == 200
        before = edge.resizers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert edge.get("/photo.jpg?w=100").is_hit
        until_replaced(edge, before)
        until(lambda: edge.get("/photo.jpg?w=101").status == 200, "rendered by the new ones")
        workers = edge.resizers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        reply = asked_behind(threads, edge, "/tall.jpg?w=102")
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        failed = reply.result(30)
        assert failed.status in (200, 500, 503)
        until_replaced(edge, workers)
        until(lambda: edge.get("/tall.jpg?w=103").status == 200, "rendered by the new ones")


def test_a_drain_waits_for_a_render(tmp_path, originals):
    with ThreadPoolExecutor(1) as threads, node(tmp_path, folder_site(originals)) as edge:
        workers = edge.resizers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        reply = asked_behind(threads, edge, "/photo.jpg?w=220")
        edge.process.send_signal(signal.SIGTERM)
        until(lambda: is_refused(edge.public), "the listener is closed")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert size_of(reply.result(30)) == (220, 124)
        assert edge.process.wait(30) == 0
        edge.is_killed = True  # it has ended, as it should


def is_refused(where: str) -> bool:
    host, _, port = where.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True  # the second: it was in the queue of the listener that closed
    return False


# Logs


def test_rotation(tmp_path, originals):
    log, old = tmp_path / "access.log", tmp_path / "access.log.1"
    configuration = f"[log]\naccess = {quote(log)}\n{folder_site(originals)}"
    with node(tmp_path, configuration) as edge:
        edge.get("/photo.jpg?before")
        log.rename(old)
        edge.process.send_signal(signal.SIGUSR1)
        until(lambda: edge.get("/photo.jpg").status == 200 and log.exists(), "reopened")
        edge.get("/photo.jpg?after")
        # A folder in the file's place: the log goes on where it was.
        kept = tmp_path / "access.log.2"
        log.rename(kept)
        log.mkdir()
        edge.process.send_signal(signal.SIGUSR1)
        until(
            lambda: (
                edge.get("/photo.jpg").status == 200
                and any("access log" in line for line in edge.log)
            ),
            "told",
        )
        edge.get("/photo.jpg?last")
    assert "?before " in old.read_text()
    assert "?after " not in old.read_text()
    assert "?after " in kept.read_text()
    assert "?last " in kept.read_text()


def test_a_reader_of_the_log_that_stands_still(tmp_path, originals):
    """Standard output is a pipe that nobody empties: more lines than it holds cost lines only."""
    file = tmp_path / "halftone.toml"
    file.write_text(
        f'listen = ["127.0.0.1:0"]\nadmin = "127.0.0.1:0"\n'
        f"[cache]\npath = {quote(tmp_path / 'cache')}\n{folder_site(originals)}"
    )
    command = [sys.executable, "-m", "edge.cli", "serve", "--config", str(file)]
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)  # Popen alone would wait for it
        assert process.stderr is not None
        public = ""
        for line in process.stderr:
            if "listening on" in line:
                public = line.split("http://")[1].split()[0]
                break
        client = http.client.HTTPConnection(public, timeout=10)
        with contextlib.closing(client):
            for _ in range(400):
                client.request("GET", "/notes.txt", headers={"User-Agent": "x" * 1000})
                response = client.getresponse()
                assert response.status == 200
                response.read()
            # Time enough for the log to be written, in which the node answers.
            for _ in range(2000):
                client.request("HEAD", "/notes.txt")
                response = client.getresponse()
                response.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


# Starting

WRONG = [
    # configuration, line, what the message says
    ("[cache]\nsize = 'big'\n", 2, "cache.size"),
    ("colour = 1\n", 1, "colour"),
    ("[cache\n", 1, ""),
    ("[[site]]\norigin = 'nobody'\n", 2, "origin"),
    ("[[site]]\nroot = '/does/not/exist'\n", 2, "root"),
    ("[[site]]\nroot = '/tmp'\nkeys = ['a']\n", 3, "keys"),
]


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_wrong_configuration_is_named(tmp_path, command):
    file = tmp_path / "halftone.toml"
    for text, line, word in WRONG:
        file.write_text(text)
        ended = subprocess.run(
            [sys.executable, "-m", "edge.cli", command, "--config", str(file)],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert ended.returncode == 78, (text, ended.stderr)
        message = ended.stderr + ended.stdout
        assert f"{file}:{line}:" in message, message
        assert word in message
        assert "Traceback" not in message


def test_what_cannot_start_says_why(tmp_path, originals):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        live = f"127.0.0.1:{taken.getsockname()[1]}"
        with socket.socket(socket.AF_UNIX) as listening:
            path = tmp_path / "socket"
            listening.bind(str(path))
            listening.listen()
            plain = tmp_path / "plain"
            plain.write_text("not a socket")
            alien = tmp_path / "alien"
            alien.mkdir()
            (alien / "layout").write_text("halftone cache 99\n")
            cases = [
                (["--listen", live], "is another node running"),
                (["--listen", f"unix:{path}"], "is another node running"),
                (["--listen", f"unix:{plain}"], "cannot listen"),
                (["--cache", str(alien)], "cache"),
            ]
            for options, sentence in cases:
                defaults = {
                    "--listen": "127.0.0.1:0",
                    "--admin": "127.0.0.1:0",
                    "--cache": str(tmp_path / "cache"),
                } | dict([options])
                arguments = [word for pair in defaults.items() for word in pair]
                ended = subprocess.run(
                    [sys.executable, "-m", "edge.cli", "serve", str(originals), *arguments],
                    capture_output=True,
                    text=True,
                    timeout=30,
                )
                assert ended.returncode == 1, ended.stderr
                assert sentence in ended.stderr
                assert "Traceback" not in ended.stderr
            assert path.is_socket()
            assert plain.read_text() == "not a socket"


def test_a_dead_nodes_socket_is_taken_over(tmp_path, originals):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    arguments = [str(originals), "--listen", f"unix:{path}", "--admin", "127.0.0.1:0"]
    arguments += ["--cache", str(tmp_path / "cache")]
    with running(arguments), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /notes.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
