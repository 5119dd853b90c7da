"""CGI programs: what they are given, what is made of how they end, and that all of them end."""

import ast
import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.origin.address import BadAddress
from edge.origin.cgi import PATH, CgiClient, Program
from edge.origin.errors import (
    OriginBroken,
    OriginError,
    OriginOverloaded,
    OriginRefused,
    OriginTimeout,
    OriginTruncated,
    Phase,
    UnsendableRequest,
)
from edge.origin.exchange import Deadlines, Result
from edge.origin.fastcgi.params import Script
from edge.origin.fastcgi.stderr import MAX_STDERR_BYTES
from edge.origin.messages import OriginRequest
from tests.edge.origin.asking import GET, HEAD, LOGGER, LOOPS, PATIENT, POST, Witness, read_all, run
from tests.edge.origin.http.test_client import Body
from tests.peers.http import BODY
from tests.peers.node import children_of
from tests.peers.programs import make_program
from tests.waiting import until

SHORT_S = 0.3


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_program(tmp_path_factory.mktemp("cgi-bin"))


@dataclasses.dataclass
class Outcome:
    body: bytes = b""
    status: int = 0
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    is_cacheable: bool = False
    error: OriginError | None = None
    result: Result | None = None


def children() -> set[int]:
    """Those of other tests' peers, too: what is told by them is told by the difference."""
    return set(children_of(os.getpid()))


def pipes() -> int:
    """And what stands for a process. An event loop opens others of its own when it likes."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            count += os.readlink(f"/proc/self/fd/{fd}").startswith(("pipe:", "anon_inode:[pidfd"))
    return count


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def ask(
    program: Path, path: str, request: OriginRequest = GET, deadlines: Deadlines = PATIENT
) -> Outcome:
    outcome, witness = Outcome(), Witness()
    client = CgiClient(Script(str(program)), deadlines, LOGGER, limit=4)
    before = (pipes(), children())
    try:
        asked = dataclasses.replace(request, path=path, target=path)
        response = await client.fetch(Program(path=str(program)), asked, witness)
        outcome.status, outcome.fields = response.status, dict(response.headers)
        try:
            while piece := await response.read():
                outcome.body += piece
        finally:
            outcome.is_cacheable = response.is_cacheable
    except OriginError as failed:
        outcome.error = failed
    await until(lambda: witness.results)  # its process is gone
    await client.aclose()
    # Transports close their pipes some turns of the loop later.
    await until(lambda: (pipes(), children()) == before)
    [outcome.result] = witness.results
    return outcome


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("path", ["/plain", "/open-end", "/stderr"])
def test_good(program: Path, path: str, loop: str) -> None:
    outcome = run(ask(program, path), loop)
    assert (outcome.status, outcome.body, outcome.is_cacheable) == (200, BODY, True)
    assert (outcome.fields, outcome.result) == ({"content-type": "image/jpeg"}, Result.ANSWERED)


def test_a_large_answer_and_none(program: Path) -> None:
    large = run(ask(program, "/large"))
    assert (len(large.body), large.is_cacheable) == (3_000_000, True)
    head = run(ask(program, "/head", HEAD))
    assert (head.status, head.body, head.is_cacheable) == (200, b"", True)
    missing = run(ask(program, "/missing"))
    assert (missing.status, missing.body) == (404, b"no\n")


# (path, error, result)
FAULTS = [
    ("/nothing", OriginBroken, Result.BROKEN),
    ("/garbage", OriginBroken, Result.BROKEN),
    ("/no-type", OriginBroken, Result.BROKEN),
    ("/half-head", OriginBroken, Result.BROKEN),
    ("/status-early", OriginBroken, Result.BROKEN),
    ("/short", OriginTruncated, Result.TRUNCATED),
    ("/killed-in-body", OriginTruncated, Result.TRUNCATED),
    # whole as far as can be told, and not for the cache
    ("/long", None, Result.ANSWERED),
    ("/status", None, Result.ANSWERED),
    ("/killed", None, Result.ANSWERED),  # behind a body whose length was told
    ("/lingers", None, Result.ANSWERED),
]


@pytest.mark.parametrize(("path", "error", "result"), FAULTS)
def test_faults(
    program: Path,
    path: str,
    error: type[OriginError] | None,
    result: Result,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcome = run(ask(program, path), "uvloop")
    assert type(outcome.error) is (error or type(None))
    assert (outcome.is_cacheable, outcome.result) == (False, result)
    if error is not OriginBroken:
        assert outcome.body == BODY
    if error is None:
        assert "the answer is not cached" in caplog.text
    for wanted, text in [("/status", "ended with 3"), ("/killed", "ended with signal 9")]:
        assert path != wanted or text in caplog.text


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("path", "deadline", "phase"),
    [
        ("/hangs", "first_byte_s", Phase.FIRST_BYTE),
        ("/hangs", "total_s", Phase.TOTAL),
        ("/hangs-in-body", "progress_s", Phase.PROGRESS),
    ],
)
def test_deadlines(program: Path, path: str, deadline: str, phase: Phase, loop: str) -> None:
    deadlines = dataclasses.replace(PATIENT, **{deadline: SHORT_S})
    outcome = run(ask(program, path, deadlines=deadlines), loop)
    assert isinstance(outcome.error, OriginTimeout)
    assert (outcome.error.phase, outcome.result) == (phase, Result.TIMEOUT)
    assert not outcome.is_cacheable


def test_what_a_program_started_goes_with_it(program: Path) -> None:
    """The whole group is killed, also what outlived the program itself."""
    deadlines = dataclasses.replace(PATIENT, progress_s=SHORT_S)
    for path in ("/family", "/orphan"):
        outcome = run(ask(program, path, deadlines=deadlines))
        assert isinstance(outcome.error, OriginTimeout), path
        pid = int(outcome.fields["x-pid"])
        run(until(lambda pid=pid: not is_alive(pid)))


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_program_is_given(program: Path, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of ours: no variable, no descriptor, also none that is inheritable by mistake."""
    monkeypatch.setenv("SECRET", "1")
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    request = dataclasses.replace(
        GET, query="a=1&b=%20", headers=(("X-B", "\xe9"), ("Proxy", "http://evil"), ("Host", "x"))
    )
    try:
        said = run(ask(program, "/environment", request), loop).body
        found, folder, is_leader, kinds = ast.literal_eval(
            run(ask(program, "/inherited"), loop).body.decode()
        )
    finally:
        os.close(leak)
    variables = dict(line.partition(b"=")[::2] for line in said.split(b"\n"))
    assert variables[b"PATH"] == PATH.encode()
    assert variables[b"SCRIPT_FILENAME"] == str(program).encode()
    assert variables[b"QUERY_STRING"] == b"a=1&b=%20"
    assert variables[b"HTTP_X_B"] == b"\xe9"
    assert variables[b"HTTP_HOST"] == b"img.example.org:8080"
    assert variables[b"GATEWAY_INTERFACE"] == b"CGI/1.1"
    assert not {b"SECRET", b"HOME", b"HTTP_PROXY", b"LD_PRELOAD"} & set(variables)
    assert found == [0, 1, 2]
    assert (folder, is_leader, kinds) == (str(program.parent), True, ["pipe"] * 3)


DATA = os.urandom(2_000_000)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("body", [b"", b"a=b" * 100_000, Body(DATA)], ids=["none", "bytes", "file"])
def test_bodies(program: Path, body: object, loop: str) -> None:
    request = dataclasses.replace(POST, body=body)
    outcome = run(ask(program, "/echo", request), loop)
    assert outcome.body == (DATA if isinstance(body, Body) else body)
    assert outcome.is_cacheable
    # One that does not read has answered all the same.
    assert run(ask(program, "/unread", request), loop).body == BODY


def test_complaints_are_lines_in_the_log(program: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(ask(program, "/stderr"))
    lines = [record.getMessage() for record in caplog.records if "stderr: " in record.getMessage()]
    assert lines[0].endswith("stderr: one")
    assert lines[1].endswith("stderr: two\\x1b[31m")
    assert "more bytes dropped" in lines[-1]
    assert sum(map(len, lines)) < 2 * MAX_STDERR_BYTES


def test_what_cannot_be_run(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    (tmp_path / "lost").write_text("#!/nowhere/at/all\n")
    os.chmod(tmp_path / "lost", 0o755)

    async def main() -> None:
        for name in ("missing", "text", "lost", "."):
            client = CgiClient(Script(f"{tmp_path}/{name}"), PATIENT, LOGGER, limit=1)
            witness = Witness()
            with pytest.raises(OriginRefused):
                await client.fetch(Program(path=f"{tmp_path}/{name}"), GET, witness)
            assert (witness.connects, witness.results) == (0, [Result.REFUSED])
            await client.aclose()
        client, witness = CgiClient(Script("/bin/true"), PATIENT, LOGGER, limit=1), Witness()
        huge = dataclasses.replace(GET, headers=(("X", "a" * 100_000),))
        with pytest.raises(UnsendableRequest):
            await client.fetch(Program(path="/bin/true"), huge, witness)
        assert witness.results == [Result.UNSENDABLE]

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_no_more_than_so_many_run(program: Path, loop: str) -> None:
    async def main() -> None:
        others = children()
        client = CgiClient(Script(str(program)), PATIENT, LOGGER, limit=2)
        where, hanging = Program(path=str(program)), dataclasses.replace(GET, path="/hangs")
        witness = Witness()
        tasks = [asyncio.ensure_future(client.fetch(where, hanging, witness)) for _ in range(2)]
        await until(lambda: client.connections.opened >= 2)
        with pytest.raises(OriginOverloaded):
            await client.fetch(where, hanging, Witness())
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await until(lambda: len(witness.results) >= 2)
        assert witness.results == [Result.ABANDONED] * 2
        # Killed, and counted until they are gone and the client knows.
        await until(lambda: children() == others and not client._running)
        response = await client.fetch(where, dataclasses.replace(GET, path="/plain"), witness)
        assert await read_all(response) == BODY
        await client.aclose()
        assert children() == others

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_that_is_left_ends_its_program(program: Path, loop: str) -> None:
    async def main() -> None:
        others = children()
        client = CgiClient(Script(str(program)), PATIENT, LOGGER, limit=4)
        for path in ("/large", "/hangs-in-body"):
            witness = Witness()
            request = dataclasses.replace(GET, path=path)
            response = await client.fetch(Program(path=str(program)), request, witness)
            await response.read()
            await response.aclose()
            assert not response.is_cacheable
            await until(lambda results=witness.results: results)
            assert witness.results == [Result.ABANDONED]
        # One that nobody left is ended with its client.
        response = await client.fetch(Program(path=str(program)), request, witness)
        await client.aclose()
        assert children() == others
        with pytest.raises(OriginError):
            await read_all(response)

    run(main(), loop)


@pytest.fixture(autouse=True)
def warnings_are_seen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.WARNING, LOGGER.name):
        yield


def test_a_program_stands_where_others_have_a_host() -> None:
    assert str(Program(path="/srv/cgi-bin/x")) == "cgi:/srv/cgi-bin/x"
    for path in ("", "x", "/a\0b"):
        with pytest.raises(BadAddress):
            Program(path=path)
