"""Master, workers and the next run of the program: real processes, real signals, under load."""

import contextlib
import grp
import os
import pwd
import re
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import edge as package
from edge.pid_file import maybe_running
from tests.peers.load import load, wait_until
from tests.peers.nobody import nobodys_folder
from tests.peers.node import END_S, Node, ask, children_of, node, quote, running
from tests.peers.redis import RedisServer

IN_EFFECT = "is in effect"
SUCCESSFUL = "halftone_config_last_reload_successful"


def write(folder: Path, originals: Path, more: str = "", top: str = "") -> Path:
    """A configuration on free ports, quiet, with a pid file."""
    file = folder / "halftone.toml"
    file.write_text(
        f"""listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
pid_file = {quote(folder / "pid")}
{top}
[cache]
path = {quote(folder / "cache")}
[log]
access = "off"
[resizer]
processes = 1
[[site]]
root = {quote(originals)}
{more}
"""
    )
    return file


def pid_of(folder: Path) -> int:
    return int((folder / "pid").read_text())


def family_of(pid: int) -> list[int]:
    """Children and their children, and so on."""
    found = children_of(pid)
    return found + [below for child in found for below in family_of(child)]


@contextlib.contextmanager
def ending(pids: list[int]) -> Iterator[None]:
    """These processes end, whoever's children they are."""
    watched = [os.pidfd_open(pid) for pid in pids]
    try:
        yield
        for fd in watched:
            assert select.select([fd], [], [], END_S)[0], "a process is still there"
    finally:
        for fd in watched:
            os.close(fd)


def replace(edge: Node, folder: Path) -> None:
    """USR2, until the next run has taken over."""
    old = pid_of(folder)
    os.kill(old, signal.SIGUSR2)
    edge.wait_for("listening on")
    edge.wait_for("has taken over")
    assert pid_of(folder) != old


@contextlib.contextmanager
def replaceable(
    folder: Path, originals: Path, more: str = "", file: Path | None = None
) -> Iterator[Node]:
    """A node whose process may be another one in the end; that one is ended by TERM."""
    file = file or write(folder, originals, more)
    with running(["--config", str(file)], is_ended_by_test=True) as edge:
        assert pid_of(folder) == edge.process.pid
        try:
            yield edge
        finally:
            last = pid_of(folder)
            with ending([last]):
                os.kill(last, signal.SIGTERM)
    assert not (folder / "pid").exists()
    assert not any("Traceback" in line for line in edge.log), "".join(edge.log)


# Reload, replacement, drain


def test_reloads_and_replacements_lose_nothing(tmp_path, originals):
    with replaceable(tmp_path, originals) as edge:
        assert edge.get("/photo.jpg?w=220").status == 200
        with load(edge.public, "/photo.jpg?w=220") as tally:
            for number in range(7):
                before = tally.answered
                if number in (2, 5):
                    replace(edge, tmp_path)
                else:
                    os.kill(pid_of(tmp_path), signal.SIGHUP)
                    edge.wait_for(IN_EFFECT)
                wait_until(lambda before=before: tally.answered > before + 50)
        assert tally.failures == []
        assert tally.statuses == {200}
        assert edge.process.wait(END_S) == 0
        assert edge.renders() <= 1  # it was on disk for every worker after the first


def test_misses_during_a_reload_are_answered(tmp_path, originals):
    """The old worker has no index any more, the new one not yet all of its cache."""
    with replaceable(tmp_path, originals) as edge, load(edge.public, "/logo.png") as tally:
        for width in range(50, 56):
            os.kill(pid_of(tmp_path), signal.SIGHUP)
            assert edge.get(f"/photo.jpg?w={width}").status == 200
            edge.wait_for(IN_EFFECT)
            assert edge.get(f"/photo.jpg?w={width}").is_hit
        wait_until(lambda: tally.answered > 200)
        assert tally.failures == []


def test_the_index_has_one_owner(tmp_path, originals):
    """The old worker lets go of it, also while a slow client keeps that worker alive."""
    with replaceable(tmp_path, originals) as edge:
        host, _, port = edge.public.rpartition(":")
        edge.get("/photo.jpg?w=60")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"GET /photo.jpg HTTP/1.1\r\nHost: x\r\n")
            assert edge.get("/logo.png?w=60").status == 200
            (old,) = owners(tmp_path)
            os.kill(pid_of(tmp_path), signal.SIGHUP)
            edge.wait_for(IN_EFFECT)
            edge.get("/photo.jpg?w=60")
            (new,) = owners(tmp_path)
            assert new != old
            replace(edge, tmp_path)
            edge.get("/photo.jpg?w=60")
            (newest,) = owners(tmp_path)
            assert newest not in (old, new)
            os.kill(old, 0)  # still there for its client
            slow.sendall(b"\r\n")
            with slow.makefile("rb") as reader:
                assert reader.readline().startswith(b"HTTP/1.1 200")


def owners(folder: Path) -> set[int]:
    """The processes that have the index open."""
    path = str(folder / "cache" / "index.sqlite")
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == path:
                found.add(int(link.parts[2]))
    return found


def test_term_under_load_finishes_what_it_began(tmp_path, originals):
    file = write(tmp_path, originals)
    with running(["--config", str(file)], is_ended_by_test=True) as edge:
        with load(edge.public, "/photo.jpg") as tally:
            edge.process.send_signal(signal.SIGTERM)
            assert edge.process.wait(END_S) == 0
            wait_until(lambda: tally.refused_at is not None)
        # Those in the middle of the handshake when the socket closed see a reset instead.
        lost = [text for text in tally.failures if not text.startswith("connecting")]
        assert [text for text in lost if not text.startswith("fresh: ConnectionReset")] == []
        assert len(lost) <= 6


def test_readiness_ends_first(tmp_path, originals):
    file = write(tmp_path, originals)
    with running(["--config", str(file)], is_ended_by_test=True) as edge:
        host, _, port = edge.public.rpartition(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"GET /photo.jpg HTTP/1.1\r\nHost: x\r\n")
            # Once another request was answered, this one's bytes are with the worker.
            assert edge.get("/logo.png").status == 200
            edge.process.send_signal(signal.SIGTERM)
            wait_until(lambda: ask(edge.admin, "/readyz").status == 503)
            wait_until(lambda: is_refused(edge.public))
            slow.sendall(b"\r\n")
            with slow.makefile("rb") as reader:
                answer = reader.read()
            assert b"Connection: close" in answer
            assert answer.startswith(b"HTTP/1.1 200")
        assert edge.process.wait(END_S) == 0


def is_refused(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except ConnectionRefusedError:
        return True
    return False


# Deaths


def test_a_worker_that_dies_is_replaced_and_nobody_refused(tmp_path, originals):
    file = write(tmp_path, originals)
    with running(["--config", str(file)]) as edge:
        (worker,) = children_of(edge.process.pid)
        resizers = children_of(worker)
        assert resizers
        with ending([worker, *resizers]):
            os.kill(worker, signal.SIGKILL)
        # Accepted by the kernel at any time, answered when the next worker is there.
        for _ in range(20):
            assert edge.get("/photo.jpg").status == 200
        assert edge.metrics()["halftone_worker_restarts_total"] == 1
        assert children_of(edge.process.pid) != [worker]


AS_PROCESS_1 = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to us
os.execv(sys.executable, [sys.executable, "-m", "edge.cli", "serve", *sys.argv[1:]])
"""


def test_no_dead_process_stays_in_a_container(tmp_path, originals):
    file = write(tmp_path, originals)
    parent = [sys.executable, "-c", AS_PROCESS_1]
    with running(["--config", str(file)], command=parent) as edge:
        for _ in range(2):
            old = children_of(edge.process.pid)
            os.kill(old[0], signal.SIGKILL)
            assert edge.get("/photo.jpg").status == 200
            wait_until(lambda: len(children_of(edge.process.pid)) == 1)
            assert children_of(edge.process.pid) != old


def test_nothing_outlives_the_master(tmp_path, originals):
    file = write(tmp_path, originals)
    with running(["--config", str(file)], is_ended_by_test=True) as edge:
        family = family_of(edge.process.pid)
        assert len(family) == 2  # a worker, a resizer
        os.kill(family[0], signal.SIGSTOP)  # one that notices nothing is taken along too
        with ending(family):
            edge.process.kill()
            assert edge.process.wait() == -signal.SIGKILL
        wait_until(lambda: is_refused(edge.public))


# Configuration


def test_a_reload_takes_the_good_and_refuses_the_bad(tmp_path, originals):
    file = write(tmp_path, originals, "steps = [100]\n")
    with running(["--config", str(file)]) as edge:
        master = edge.process.pid
        first = edge.get("/photo.jpg?w=90")
        assert (edge.metrics()[SUCCESSFUL], size_of(first.body)) == (1, 100)

        write(tmp_path, originals, 'steps = [100]\noff_stop = "round"\n')
        edge.process.send_signal(signal.SIGHUP)
        line = edge.wait_for(r"halftone\.toml:(\d+)")[1]
        assert "off_stop" in file.read_text().splitlines()[int(line) - 1]
        edge.wait_for("the old configuration stays")
        assert edge.metrics()[SUCCESSFUL] == 0
        assert edge.get("/photo.jpg?w=90").is_hit

        write(tmp_path, originals, 'steps = [200]\n[site.expire]\nmax_age = "77s"\n')
        edge.process.send_signal(signal.SIGHUP)
        edge.wait_for(IN_EFFECT)
        reply = edge.get("/photo.jpg?w=90")
        assert size_of(reply.body) == 200
        assert "max-age=77" in reply.headers["cache-control"]
        assert edge.metrics()[SUCCESSFUL] == 1
        assert edge.process.pid == master


def size_of(body: bytes) -> int:
    from tests.behaviour.test_serve import size_of as both

    return both(body)[0]


def test_a_worker_that_cannot_start_leaves_the_old_one(tmp_path, originals):
    """What only the start finds out: here, a cache folder with another layout."""
    file = write(tmp_path, originals)
    with running(["--config", str(file)]) as edge:
        (worker,) = children_of(edge.process.pid)
        other = tmp_path / "other"
        other.mkdir()
        (other / "layout").write_text("something else\n")
        text = file.read_text()
        file.write_text(text.replace(str(tmp_path / "cache"), str(other)))
        edge.process.send_signal(signal.SIGHUP)
        edge.wait_for("the old configuration stays")
        assert edge.metrics()[SUCCESSFUL] == 0
        assert children_of(edge.process.pid) == [worker]
        assert edge.get("/photo.jpg").status == 200


def test_a_reload_moves_to_other_addresses(tmp_path, originals):
    file = write(tmp_path, originals)
    path = tmp_path / "edge.sock"
    with running(["--config", str(file)]) as edge:
        text = file.read_text()
        file.write_text(text.replace('"127.0.0.1:0"]', f'"127.0.0.1:0", "unix:{path}"]'))
        edge.process.send_signal(signal.SIGHUP)
        edge.wait_for(IN_EFFECT)
        assert status_through(path) == 200
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert edge.get("/photo.jpg").status == 200
        file.write_text(text.replace('listen = ["127.0.0.1:0"]', 'listen = ["[::1]:0"]'))
        edge.process.send_signal(signal.SIGHUP)
        moved = edge.wait_for(rf"{IN_EFFECT}: http://(\S+)")[1]
        assert not path.exists()
        wait_until(lambda: is_refused(edge.public))
        assert ask(moved, "/photo.jpg").status == 200


def status_through(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET /photo.jpg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with sock.makefile("rb") as reader:
            return int(reader.readline().split()[1])


def test_a_program_that_cannot_start_leaves_the_old_one(tmp_path, originals):
    file = write(tmp_path, originals)
    with running(["--config", str(file)]) as edge:
        good = file.read_text()
        file.write_text("typo = 1\n" + good)
        edge.process.send_signal(signal.SIGUSR2)
        edge.wait_for("did not take over: exit status 78")
        assert edge.get("/photo.jpg").status == 200
        other = tmp_path / "other"
        other.mkdir()
        (other / "layout").write_text("something else\n")
        file.write_text(good.replace(str(tmp_path / "cache"), str(other)))
        edge.process.send_signal(signal.SIGUSR2)
        edge.wait_for("did not take over: exit status 1")
        assert edge.get("/photo.jpg").status == 200
        assert pid_of(tmp_path) == edge.process.pid


def test_logs_are_reopened(tmp_path, originals):
    log = tmp_path / "access.log"
    with node(tmp_path, f"[log]\naccess = {quote(log)}\n[[site]]\nroot = {quote(originals)}") as e:
        e.get("/photo.jpg")
        wait_until(lambda: "photo.jpg" in log.read_text())
        log.rename(tmp_path / "rotated.log")
        e.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists)
        e.get("/logo.png")
        wait_until(lambda: "logo.png" in log.read_text())
        assert "logo.png" not in (tmp_path / "rotated.log").read_text()


# systemd


LAUNCHER = """
import os, sys, socket
sockets = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))]
for number, sock in enumerate(sockets):
    os.dup2(sock.fileno(), 10 + number)
for number in range(2):
    os.dup2(10 + number, 3 + number, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "admin:http"}
print(os.getpid(), *(sock.getsockname()[1] for sock in sockets), flush=True)
os.execv(sys.executable, [sys.executable, "-m", "edge.cli", "serve", *sys.argv[1:]])
"""


def test_sockets_of_systemd_take_the_place_of_the_configured(tmp_path, originals):
    file = write(tmp_path, originals)
    launcher = [sys.executable, "-c", LAUNCHER]
    with running(["--config", str(file)], command=launcher) as edge:
        said = next(line for line in edge.log if re.match(r"\d+ \d+ \d+$", line)).split()
        assert edge.admin == f"127.0.0.1:{said[1]}"
        assert edge.public == f"127.0.0.1:{said[2]}"
        assert edge.get("/photo.jpg").status == 200
        assert ask(edge.admin, "/readyz").status == 200
        edge.process.send_signal(signal.SIGHUP)
        edge.wait_for(IN_EFFECT)
        assert edge.get("/photo.jpg").status == 200
        # Passed on to nobody: a resizer that believed them would close its own descriptors.
        environ = Path(f"/proc/{family_of(edge.process.pid)[-1]}/environ").read_bytes()
        assert b"LISTEN_" not in environ


def test_systemd_is_told_in_order(tmp_path, originals):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox:
        inbox.bind(str(path))
        inbox.settimeout(END_S)

        def heard() -> dict[str, str]:
            """The next message that is no sign of life."""
            while True:
                lines = inbox.recv(4096).decode().splitlines()
                values = dict(line.split("=", 1) for line in lines)
                if "WATCHDOG" not in values:
                    return values

        file = write(tmp_path, originals)
        environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000"}
        with running(["--config", str(file)], environ, is_ended_by_test=True) as edge:
            assert heard()["READY"] == "1"
            assert inbox.recv(4096) == b"WATCHDOG=1"
            for text in (file.read_text(), "typo = 1"):
                file.write_text(text)
                edge.process.send_signal(signal.SIGHUP)
                message = heard()
                assert message["RELOADING"] == "1"
                assert int(message["MONOTONIC_USEC"]) > 0
                assert heard()["READY"] == "1"
            write(tmp_path, originals)
            edge.process.send_signal(signal.SIGUSR2)
            messages = [heard() for _ in range(3)]
            pids = [int(m["MAINPID"]) for m in messages if "MAINPID" in m]
            assert sum("READY" in m for m in messages) == 2
            assert pids == [pid_of(tmp_path)]
            with ending(pids):
                os.kill(pids[0], signal.SIGTERM)
            assert heard()["STOPPING"] == "1"
            assert edge.process.wait(END_S) == 0


# Rights and limits


def an_account() -> "tuple[pwd.struct_passwd, int]":
    """Whom the workers can be, and their group: nobody, where it can reach this interpreter."""
    me = pwd.getpwuid(os.geteuid())
    if me.pw_uid != 0:
        return me, me.pw_gid
    nobody = pwd.getpwnam("nobody")
    homes = [Path(sys.executable).resolve(), Path(os.__file__), Path(package.__path__[0])]
    folders = {folder for home in homes for folder in home.parents}
    if all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders):
        return nobody, nobody.pw_gid
    return me, nobody.pw_gid


def test_workers_give_up_their_rights(originals):
    account, gid = an_account()
    with nobodys_folder() as folder:
        os.chown(folder, os.geteuid(), os.getegid())
        os.chmod(folder, 0o755)
        public = folder / "originals"
        public.mkdir()
        (public / "photo.jpg").write_bytes((originals / "photo.jpg").read_bytes())
        log = folder / "access.log"
        file = write(
            folder,
            public,
            top=f'user = "{account.pw_name}"\ngroup = "{grp.getgrgid(gid).gr_name}"\n',
        )
        file.write_text(file.read_text().replace('access = "off"', f"access = {quote(log)}"))
        with running(["--config", str(file)]) as edge:
            assert edge.get("/photo.jpg?w=100").status == 200
            for pid in family_of(edge.process.pid):
                status = Path(f"/proc/{pid}/status").read_text()
                for field, number in (("Uid", account.pw_uid), ("Gid", gid)):
                    assert re.search(rf"{field}:\t{number}\t{number}\t{number}\t{number}\n", status)
            assert (folder / "cache").stat().st_uid == account.pw_uid
            wait_until(lambda: "photo.jpg" in log.read_text())
            log.rename(folder / "rotated.log")
            edge.process.send_signal(signal.SIGUSR1)  # the folder is root's: the master helps
            wait_until(log.exists)
            edge.get("/photo.jpg?w=100")
            wait_until(lambda: "photo.jpg" in log.read_text())
            edge.process.send_signal(signal.SIGHUP)
            edge.wait_for(IN_EFFECT)
            assert edge.get("/photo.jpg?w=100").is_hit


def test_the_cap_of_connections_fits_the_descriptors(tmp_path, originals):
    file = write(tmp_path, originals)
    limited = ["prlimit", "--nofile=80:200", sys.executable, "-m", "edge.cli", "serve"]
    with running(["--config", str(file)], command=limited) as edge:
        cap = 200 - (96 + 5 + 1)
        assert any(f"max_connections is {cap}, not 10000" in line for line in edge.log)
        host, _, port = edge.public.rpartition(":")
        with contextlib.ExitStack() as stack:
            kept = []
            for _ in range(cap + 1):
                one = stack.enter_context(socket.create_connection((host, int(port)), 10))
                # With a head begun it is not idle, and makes room for nobody when the clock moves.
                one.sendall(b"GET /photo.jpg HTTP/1.1\r\n")
                kept.append(one)
            assert kept[-1].recv(12) == b"HTTP/1.1 503"
            kept[0].sendall(b"Host: x\r\n\r\n")
            assert kept[0].recv(12) == b"HTTP/1.1 200"


# Several workers, with an index that they can share


def test_two_workers(tmp_path, originals):
    with contextlib.closing(RedisServer()) as server:
        server.start()
        file = write(tmp_path, originals, top="workers = 2")
        text = file.read_text().replace("[log]", f"index = {quote(server.url)}\n[log]")
        file.write_text(text)
        with running(["--config", str(file)]) as edge:
            workers = children_of(edge.process.pid)
            assert len(workers) == 2
            listening = Path("/proc/net/tcp").read_text()
            port = int(edge.public.rpartition(":")[2])
            assert len(re.findall(rf": 0100007F:{port:04X} 00000000:0000 0A ", listening)) == 2
            with load(edge.public, "/photo.jpg") as tally:
                for _ in range(3):
                    before = tally.answered
                    edge.process.send_signal(signal.SIGHUP)
                    edge.wait_for(IN_EFFECT)
                    wait_until(lambda before=before: tally.answered > before + 50)
            assert tally.failures == []
            wait_until(lambda: len(children_of(edge.process.pid)) == 2)
            victim = children_of(edge.process.pid)[0]
            with ending([victim]):
                os.kill(victim, signal.SIGKILL)
            # Whichever slot the kernel picks: the dead one's queue waits for its next worker.
            for _ in range(30):
                assert edge.get("/photo.jpg").status == 200
            wait_until(lambda: len(children_of(edge.process.pid)) == 2)


# The end


def test_how_it_ends(tmp_path, originals):
    file = write(tmp_path, originals)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        with running(["--config", str(file)], is_ended_by_test=True) as edge:
            edge.process.send_signal(number)
            assert edge.process.wait(END_S) == 0


def test_interrupted_twice_it_ends_at_once(tmp_path, originals):
    file = write(tmp_path, originals)
    with running(["--config", str(file)], is_ended_by_test=True) as edge:
        host, _, port = edge.public.rpartition(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"GET /photo.jpg HTTP/1.1\r\n")
            assert edge.get("/logo.png").status == 200
            family = family_of(edge.process.pid)
            with ending(family):
                edge.process.send_signal(signal.SIGTERM)
                wait_until(lambda: is_refused(edge.public))
                os.kill(family[0], signal.SIGSTOP)  # it will not be done within the second
                edge.process.send_signal(signal.SIGINT)
                edge.wait_for("SIGINT: draining")
                edge.process.send_signal(signal.SIGINT)
                assert edge.process.wait(END_S) == 130


def test_drain(tmp_path, originals):
    file = write(tmp_path, originals)
    command = [sys.executable, "-m", "edge.cli", "drain", "--config", str(file)]

    def drained() -> "tuple[int, str]":
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    with running(["--config", str(file)], is_ended_by_test=True) as edge:
        assert drained() == (0, "drained\n")
        assert edge.process.wait(END_S) == 0
    assert not (tmp_path / "pid").exists()
    assert drained()[0] == 1
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")  # left behind, and the number reused
    assert drained() == (1, f"halftone: no node is running by {tmp_path}/pid\n")


def started(file: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "edge.cli", "serve", "--config", str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_pid_file_of_another_node_is_left_alone(tmp_path, originals):
    """Else `halftone drain` would stop the wrong one, and find none when that is gone."""
    (tmp_path / "other").mkdir()
    first = write(tmp_path, originals)
    second = write(tmp_path / "other", originals)
    second.write_text(
        second.read_text().replace(str(tmp_path / "other/pid"), str(tmp_path / "pid"))
    )
    with running(["--config", str(first)]) as one:
        pid = pid_of(tmp_path)
        with running(["--config", str(second)]) as other:
            wait_until(lambda: any("another node" in line for line in other.log))
            assert pid_of(tmp_path) == pid
            other.process.send_signal(signal.SIGHUP)
            wait_until(lambda: any(IN_EFFECT in line for line in other.log))
        assert pid_of(tmp_path) == pid
        assert maybe_running(str(tmp_path / "pid")) == pid
        assert one.get("/photo.jpg").status == 200


def test_a_start_that_fails_says_why(tmp_path, originals):
    file = write(tmp_path, originals)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = started(file, "--listen", f"127.0.0.1:{port}")
    assert ended.returncode == 1
    assert f"halftone: cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "layout").write_text("something else\n")
    ended = started(file)
    assert ended.returncode == 1
    assert "halftone: " in ended.stderr
    assert "layout" in ended.stderr
    assert "Traceback" not in ended.stderr
    file.write_text("typo = 1")
    assert started(file).returncode == 78
