"""The command: arguments, output, exit status; one test runs the real program."""

import contextlib
import http.server
import importlib
import json
import socket
import socketserver
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from edge import cli
from edge.config import Config, default_text
from resizer.probe import ProbeResult


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of this machine, no variables of this user."""
    monkeypatch.setattr("edge.config.DEFAULT_PATH", "/nonexistent/halftone.toml")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "HALFTONE_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """What edge.start.serve() was called with; it answers 0."""
    configs: list[Config] = []
    start = types.ModuleType("edge.start")
    start.serve = lambda config: configs.append(config) or 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "edge.start", start)
    return configs


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.main, arguments)
    # A traceback would be an exception other than the exit.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def written(folder: Path, extra: str = "") -> str:
    file = folder / "halftone.toml"
    file.write_text(f"cache.path = '{folder}/cache'\n{extra}\n[[site]]\nroot = '{folder}'\n")
    return str(file)


def test_serve_a_folder(served: list[Config], tmp_path: Path) -> None:
    assert run("serve", str(tmp_path)).exit_code == 0
    (config,) = served
    assert config.sites[0].root == str(tmp_path)
    assert list(map(str, (*config.listen, config.admin))) == ["127.0.0.1:8080", "127.0.0.1:8081"]
    assert config.cache.path.startswith(f"{tmp_path}/.cache/halftone/")


def test_serve_options_win(
    served: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALFTONE__ADMIN", "127.0.0.1:5")
    monkeypatch.chdir(tmp_path)
    options = ["--listen", "127.0.0.1:0", "--listen", "[::1]:7", "--cache", "c"]
    assert run("serve", ".", *options).exit_code == 0
    assert run("serve", "--config", written(tmp_path), *options).exit_code == 0
    for config in served:
        assert list(map(str, config.listen)) == ["127.0.0.1:0", "[::1]:7"]
        assert str(config.admin) == "127.0.0.1:5"
        assert config.cache.path == f"{tmp_path}/c"
        assert config.sites[0].root == str(tmp_path)


def test_serve_from_the_environment(
    served: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALFTONE_CONFIG", written(tmp_path))
    assert run("serve").exit_code == 0
    # A folder on the command line is meant, whatever the environment says.
    assert run("serve", str(tmp_path)).exit_code == 0
    monkeypatch.delenv("HALFTONE_CONFIG")
    monkeypatch.setenv("HALFTONE__SITE__0__ROOT", str(tmp_path))
    monkeypatch.setenv("HALFTONE__CACHE__PATH", f"{tmp_path}/cache")
    assert run("serve").exit_code == 0
    assert [config.sites[0].root for config in served] == [str(tmp_path)] * 3


def test_serve_exits_as_the_server_does(
    served: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["edge.start"], "serve", lambda config: 1)
    assert run("serve", str(tmp_path)).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve"], "nothing to serve"),
        (["serve", "/nonexistent"], "does not exist"),
        (["serve", "/etc/passwd"], "is a file"),
        (["serve", "/", "--config", "x"], "exclude each other"),
        (["serve", "/", "--listen", "8080"], "HOST:PORT"),
        (["serve", "/", "--admin", "127.0.0.1:99999"], "above 65535"),
        (["serve", "/", "--lisen", "127.0.0.1:1"], "No such option"),
        (["sevre"], "No such command"),
        (["healthcheck", "--admin", "localhost"], "HOST:PORT"),
        (["healthcheck", "--admin", "localhost:0"], "port 0"),
        (["drain", "--config", "/dev/null"], "sets no pid_file"),
        (["purge"], "nothing to purge"),
        (["purge", "photo.jpg"], "neither http://HOST/PATH nor a path"),
        (["purge", "ftp://h/a"], "neither http://HOST/PATH"),
        (["purge", "http://u@h/a"], "neither http://HOST/PATH"),
        (["purge", "http://[h/a"], "is no URL"),
        (["purge", "/a", "--takedown", "--lift"], "exclude each other"),
        (["purge", "/a", "--takedown", "--soft"], "never soft"),
        (["purge", "--lift", "--tag", "a"], "never soft"),
        (["purge", "--tag", "a b"], "is no tag"),
        (["purge", "--prefix", "2019/"], "begins with /"),
        (["purge", "/a", "--admin", "localhost:0"], "port 0"),
    ],
)
def test_wrong_usage_is_2(served: list[Config], arguments: list[str], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert not served


def test_a_wrong_configuration_is_78(served: list[Config], tmp_path: Path) -> None:
    file = written(tmp_path, "workers = 'x'\ntypo = 1")
    for command in ("serve", "check", "config", "healthcheck", "drain"):
        result = run(command, "--config", file)
        assert result.exit_code == 78
        assert result.stderr.splitlines() == [
            f"{file}:2: workers: must be a whole number, 1 to 64, not 'x'",
            f"{file}:3: typo: unknown setting",
        ]
        assert result.stdout == ""
    assert run("check", "--config", "/nonexistent").exit_code == 78
    assert not served


def test_check(tmp_path: Path) -> None:
    result = run("check", "--config", written(tmp_path))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "configuration OK\n", "")


def test_config_prints_what_is_in_effect(tmp_path: Path) -> None:
    result = run("config", "--config", written(tmp_path, "cache.index = 'redis://:hunter2@h'"))
    assert result.exit_code == 0
    assert 'index = "redis://:***@h:6379/0"' in result.stdout
    assert run("config", "--default").stdout == default_text()


def test_version() -> None:
    lines = run("version").stdout.splitlines()
    names = [line.split(": ")[0] for line in lines]
    assert names == ["halftone", "python", "pillow", "uvloop", "compiled"]


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["serve"], ["check"], ["config"], ["healthcheck"], ["drain"], ["sandbox-check"]),
        *(["purge"], ["stats"], ["fsck"]),
    ],
)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(arguments: list[str], option: str) -> None:
    result = run(*arguments, option)
    assert result.exit_code == 0
    assert "Exit status: 0 ok, 1 failed, 2 wrong usage, 78 wrong configuration." in result.stdout


def test_the_program_starts_light() -> None:
    """No picture decoder, no server and no Redis client on the way to `version`."""
    script = (
        "import sys; from edge import cli\n"
        "try: cli.main(['version'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'PIL', 'rich', 'redis', 'uvloop', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_command_is_imported_when_it_is_called() -> None:
    script = (
        "import sys; from edge import cli\n"
        "try: cli.main(['serve', '/nonexistent'])\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('edge.commands.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    rooms = ("configured", "options", "serve", "status")
    assert done.stdout.splitlines()[-1] == str([f"edge.commands.{room}" for room in rooms])


def test_the_table_has_every_command() -> None:
    folder = Path(cli.__file__).parent / "commands"
    found = {}
    for path in folder.glob("*.py"):
        module = importlib.import_module(f"edge.commands.{path.stem}")
        for name, value in vars(module).items():
            if isinstance(value, click.Command):
                found[value.name] = (path.stem, name)
    assert found == cli.COMMANDS


# ---- sandbox-check -----------------------------------------------------------------------------

HOLDS = ProbeResult("open", "seccomp", holds=True, how="killed by SIGSYS")
FAILS = ProbeResult("connect", "landlock", holds=False, how="not sealed: ENOSYS")


@pytest.mark.parametrize(
    ("results", "code", "stdout", "stderr"),
    [
        ([HOLDS], 0, "seccomp  open  holds  killed by SIGSYS\nall 1 hold\n", ""),
        (
            [HOLDS, FAILS],
            1,
            """seccomp   open     holds  killed by SIGSYS
landlock  connect  FAILS  not sealed: ENOSYS
""",
            "halftone: 1 of 2 do not hold: a picture may get out here\n",
        ),
    ],
)
def test_sandbox_check(
    monkeypatch: pytest.MonkeyPatch,
    results: list[ProbeResult],
    code: int,
    stdout: str,
    stderr: str,
) -> None:
    monkeypatch.setattr("resizer.probe.check_sandbox", lambda: results)
    result = run("sandbox-check")
    assert (result.exit_code, result.stdout, result.stderr) == (code, stdout, stderr)


# ---- healthcheck -------------------------------------------------------------------------------


class Health(http.server.BaseHTTPRequestHandler):
    status = 200
    paths: list[str]

    def do_GET(self) -> None:
        self.server.paths.append(self.path)  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def address_string(self) -> str:
        return "client"  # a Unix client has no address

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def answering(server: socketserver.BaseServer, status: int) -> Iterator[list[str]]:
    server.status, server.paths = status, []  # type: ignore[attr-defined]
    with server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        yield server.paths  # type: ignore[attr-defined]
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_healthcheck(status: int, code: int) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), Health)
    with answering(server, status) as paths:
        # What a node listens on is asked on loopback when it is every address.
        result = run("healthcheck", "--admin", f"0.0.0.0:{server.server_port}")
    assert (result.exit_code, paths) == (code, ["/healthz"])
    assert (str(status) in result.stderr) == (code == 1)


def test_healthcheck_asks_the_configured_listener(tmp_path: Path) -> None:
    path = f"{tmp_path}/admin.sock"
    server = socketserver.UnixStreamServer(path, Health)
    with answering(server, 200) as paths:
        # Whether the cache is writable for whoever asks is of no interest here.
        file = written(tmp_path, f"admin = 'unix:{path}'\ncache.size = '1GiB'")
        assert run("healthcheck", "--config", file).exit_code == 0
    assert paths == ["/healthz"]


def test_healthcheck_without_an_answer(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: refused
        result = run("healthcheck", "--admin", f"127.0.0.1:{free.getsockname()[1]}")
    assert result.exit_code == 1
    assert "Connection refused" in result.stderr
    result = run("healthcheck", "--admin", f"unix:{tmp_path}/none")
    assert (result.exit_code, "No such file" in result.stderr) == (1, True)


def test_healthcheck_of_something_else() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def garble() -> None:
        client, _ = listener.accept()
        client.recv(1000)
        client.sendall(b"SSH-2.0-x\r\n")
        client.close()

    with listener:
        thread = threading.Thread(target=garble, daemon=True)
        thread.start()
        result = run("healthcheck", "--admin", f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert result.exit_code == 1
    assert "no answer" in result.stderr


# ---- purge, stats, fsck ------------------------------------------------------------------------


class Desk(http.server.BaseHTTPRequestHandler):
    """An admin listener that answers body and remembers what it was asked."""

    def answer(self) -> None:
        names = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, names))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(self.server.body)))  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(self.server.body)  # type: ignore[attr-defined]

    do_GET = do_POST = do_PURGE = answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        pass


Asked = list[tuple[str, str, dict[str, str]]]


@contextlib.contextmanager
def desk(body: bytes, status: int = 200) -> Iterator[tuple[str, Asked]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Desk)
    asked: Asked = []
    server.body, server.status, server.asked = body, status, asked  # type: ignore[attr-defined]
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def receipt(act: str = "purge", **more: object) -> bytes:
    answer = {"act": act, "purged": 3, "scope": "node", "dry_run": False, "id": "p1", **more}
    return json.dumps(answer).encode()


@pytest.mark.parametrize(
    ("arguments", "target", "fields"),
    [
        (["/a.jpg"], "/a.jpg", {"host": "localhost"}),
        (["/a b.jpg?w=2&x=%20"], "/a%20b.jpg?w=2&x=%20", {}),
        (["http://h:8080/Düne.jpg"], "/D%C3%BCne.jpg", {"host": "h:8080"}),
        (["https://h"], "/", {"host": "h", "x-forwarded-proto": "https"}),
        (["/a", "--site", "h"], "/a", {"host": "h"}),
        (["/a", "--soft", "--dry-run"], "/a", {"soft-purge": "1", "dry-run": "1"}),
        (["/a", "--takedown"], "/a", {"takedown": "1"}),
        (["/a", "--lift"], "/a", {"takedown": "lift"}),
        (["--tag", "dune", "--site", "h"], "/", {"surrogate-key": "dune", "host": "h"}),
        (["--prefix", "/2019/a b"], "/", {"purge-prefix": "/2019/a%20b"}),
    ],
)
def test_purge_asks(arguments: list[str], target: str, fields: dict[str, str]) -> None:
    with desk(receipt()) as (address, asked):
        result = run("purge", *arguments, "--admin", address)
    assert (result.exit_code, result.stderr) == (0, "")
    ((method, path, names),) = asked
    assert (method, path) == ("PURGE", target)
    assert fields.items() <= names.items()
    assert {"soft-purge", "dry-run", "takedown", "surrogate-key", "purge-prefix"}.isdisjoint(
        names.keys() - fields.keys()
    )


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (receipt(), "purged /a: 3 entries on this node (p1)"),
        (receipt(purged=1, scope="cluster"), "purged /a: 1 entry in the farm (p1)"),
        (receipt("soften", dry_run=True), "would soften /a: 3 entries on this node (p1)"),
        (
            receipt("lift", downstream={"told": 4, "failed": 1, "pending": 0}),
            "lifted /a: 3 entries on this node; caches in front: 4 told, 1 failed, 0 pending (p1)",
        ),
        (receipt(downstream={"told": 0}), "purged /a: 3 entries on this node (p1)"),
    ],
)
def test_purge_says(body: bytes, line: str) -> None:
    with desk(body) as (address, _):
        assert run("purge", "/a", "--admin", address).stdout == f"{line}\n"


def test_purge_fails_when_one_does() -> None:
    with desk(b"This cannot be recorded at the moment; try again.\n", 503) as (address, asked):
        result = run("purge", "/a", "/b", "--admin", address)
    assert (result.exit_code, len(asked)) == (1, 2)
    *refused, hint = result.stderr.splitlines()
    assert refused == [
        f"halftone: {name}: 503: This cannot be recorded at the moment; try again."
        for name in ("/a", "/b")
    ]
    assert "the index (Redis) did not take it" in hint


@pytest.mark.parametrize("command", [["purge", "/a"], ["stats"], ["fsck"]])
def test_nobody_answers(command: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: refused
        result = run(*command, "--admin", f"127.0.0.1:{free.getsockname()[1]}")
    assert result.exit_code == 1
    assert "Connection refused" in result.stderr


@pytest.mark.parametrize("body", [b"SSH", b"[]", b"\xff"])
@pytest.mark.parametrize("command", [["purge", "/a"], ["fsck"]])
def test_somebody_else_answers(command: list[str], body: bytes) -> None:
    with desk(body) as (address, _):
        result = run(*command, "--admin", address)
    assert result.exit_code == 1
    assert "no JSON" in result.stderr


def test_a_hostile_answer_does_not_reach_the_terminal() -> None:
    with desk(b"\x1b[2J" + b"x" * 9999, 400) as (address, _):
        result = run("purge", "/a", "--admin", address)
    assert "\x1b" not in result.stderr
    assert len(result.stderr) < 300


def test_stats() -> None:
    text = b"""# HELP x y
halftone_cache_hits_total{tier="memory"} 7.0
halftone_cache_hits_total{tier="disk"} 2.0
halftone_cache_misses_total 1.0
"""
    with desk(text) as (address, asked):
        result = run("stats", "--admin", address)
        as_json = run("stats", "--json", "--admin", address)
    assert [path for _, path, _ in asked] == ["/metrics"] * 2
    assert [line.rsplit("  ", 1)[1].strip() for line in result.stdout.splitlines()] == [
        *("7", "2", "1", "90.0 %"),
    ]
    assert json.loads(as_json.stdout)["hit ratio since the start"] == 0.9


CLEAN = b'{"files": 12, "bytes": 49152, "listed": 12, "clean": true}'


@pytest.mark.parametrize(("option", "path"), [([], "/fsck?fix=0"), (["--fix"], "/fsck?fix=1")])
def test_fsck(option: list[str], path: str) -> None:
    with desk(CLEAN) as (address, asked):
        result = run("fsck", *option, "--admin", address)
    assert (asked[0][0], asked[0][1]) == ("POST", path)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "clean"
    with desk(b'{"files": 12, "damaged": 1, "clean": false}') as (address, _):
        result = run("fsck", "--admin", address)
        as_json = run("fsck", "--json", "--admin", address)
    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert result.stdout.splitlines()[-1] == "not clean: 1 problem left"
    assert json.loads(as_json.stdout) == {"files": 12, "damaged": 1, "clean": False}
    with desk(b"A check is under way.\n", 409) as (address, _):
        result = run("fsck", "--admin", address)
    assert (result.exit_code, "under way" in result.stderr) == (1, True)


def test_fsck_of_a_folder_that_no_node_uses(tmp_path: Path) -> None:
    result = run("fsck", "--cache", str(tmp_path), "--admin", "127.0.0.1:1")
    assert result.exit_code == 2
    result = run("fsck", "--cache", str(tmp_path))
    assert result.exit_code == 1
    assert f"unreadable: {tmp_path}/layout" in result.stdout
    assert list(tmp_path.iterdir()) == []  # nothing is made, an index neither


def test_fsck_without_a_node(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: refused
        address = f"127.0.0.1:{free.getsockname()[1]}"
        cache = tmp_path / "cache"
        cache.mkdir()
        (cache / "layout").write_text("halftone cache 1\n")
        file = tmp_path / "halftone.toml"
        file.write_text(f'admin = "{address}"\n[cache]\npath = "{cache}"\n')
        result = run("fsck", "--config", str(file))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "        0 whole files, 0 bytes",
        "        0 of them current and known to the index",
        "clean",
    ]
    assert result.stderr == f"no node is asked: looking at {cache}\n"
    assert [path.name for path in cache.iterdir()] == ["layout"]
