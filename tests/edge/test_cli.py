"""The command: arguments, output, exit status; one test runs the real program."""

import contextlib
import http.server
import socket
import socketserver
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

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
    """What edge.app.serve() was called with; it answers 0."""
    configs: list[Config] = []
    app = types.ModuleType("edge.app")
    app.serve = lambda config: configs.append(config) or 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "edge.app", app)
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
    monkeypatch.setattr(sys.modules["edge.app"], "serve", lambda config: 1)
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
    [[], ["serve"], ["check"], ["config"], ["healthcheck"], ["drain"], ["sandbox-check"]],
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
        thread = threading.Thread(target=server.handle_request)
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
        thread = threading.Thread(target=garble)
        thread.start()
        result = run("healthcheck", "--admin", f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert result.exit_code == 1
    assert "no answer" in result.stderr
