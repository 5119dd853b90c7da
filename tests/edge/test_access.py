"""Access lines: what a client can put into them, and sinks that fail."""

import asyncio
import json
import os

import pytest

from edge.access import (
    MAX_UNWRITTEN_BYTES,
    TELL_S,
    AccessLog,
    Combined,
    Format,
    Json,
    Peer,
    Record,
    open_output,
)
from edge.http.messages import Request


def record(target: bytes = b"/a.jpg", **fields: bytes) -> Record:
    named = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    request = Request(b"GET", target, 1, named, b"host", True)
    return Record(1_700_000_000, "192.0.2.1", request, 200, 5, "HIT", 1.25)


HOSTILE = [
    (b'/a"b', "/a\\x22b"),
    (b"/a\\b", "/a\\x5cb"),
    (b"/a\x85b", "/a\\x85b"),  # NEL ends a line for many readers
    (b"/a\xadb", "/a\\xadb"),
    (b"/a\tb\x1b[0m", "/a\\x09b\\x1b[0m"),
    (b"/a\xe9b", "/a\\xe9b"),
    (b"/a\r\nb", "/a\\x0d\\x0ab"),
]


def format_combined(one: Record) -> str:
    return Combined().record(one).decode("ascii")


def format_json(one: Record) -> str:
    return Json().record(one).decode("ascii")


@pytest.mark.parametrize(("raw", "written"), HOSTILE)
def test_nothing_of_the_wire_ends_a_line_or_a_field(raw, written):
    for line in (
        format_combined(record(raw)),
        format_combined(record(referer=raw)),
        format_combined(record(user_agent=raw)),
    ):
        assert written in line
        assert len(line.splitlines()) == 1
        assert line.count('"') == 6
    for line in (format_json(record(raw)), format_json(record(user_agent=raw))):
        assert len(line.splitlines()) == 1
        assert line.isascii()
        assert raw.decode("latin-1") in (json.loads(line)["path"], json.loads(line)["ua"])


def test_a_line():
    assert format_combined(record()) == (
        '192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] "GET /a.jpg HTTP/1.1" 200 5 "-" "-" HIT 1.2\n'
    )
    nothing = Record(1_700_000_000, "unix", None, 400, 0, "ERROR", 0.0)
    assert '"-" 400 0 "-" "-" ERROR' in format_combined(nothing)
    assert json.loads(format_json(nothing))["status"] == 400


def run(test) -> None:
    async def main() -> None:
        await test(asyncio.get_running_loop())

    asyncio.run(main())


def test_rotation_keeps_every_line(tmp_path):
    path, old = tmp_path / "log", tmp_path / "log.1"

    async def test(loop):
        log = AccessLog(str(path), Combined())
        log.start(loop)
        for number in range(600):
            log.append(record(b"/%d" % number))
        path.rename(old)
        log.reopen()
        log.append(record(b"/last"))
        path.rename(tmp_path / "log.2")
        path.mkdir()
        with pytest.raises(OSError, match="directory"):
            log.reopen()
        log.append(record(b"/after"))
        log.stop()
        assert (log.stats.lines, log.stats.dropped) == (602, 0)

    run(test)
    assert len(old.read_text().splitlines()) == 600
    assert [line.split()[6] for line in (tmp_path / "log.2").read_text().splitlines()] == [
        "/last",
        "/after",
    ]


def test_a_fifo_that_nobody_empties(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    async def test(loop):
        log = AccessLog(str(path), Combined())
        log.start(loop)
        long = record(b"/" + b"a" * 8000)
        count = MAX_UNWRITTEN_BYTES // 8000 + 100
        for _ in range(count):
            log.append(long)
        log._flush()
        assert len(log._unwritten) <= MAX_UNWRITTEN_BYTES
        assert log.stats.dropped > 0
        log.stop()
        # Some went into the pipe, the rest is counted; the node went on.
        assert log.stats.lines > 0
        assert log.stats.lines + log.stats.dropped == count

    run(test)
    os.close(reader)


def test_a_full_disk_costs_lines_and_no_request(caplog):
    async def test(loop):
        log = AccessLog("/dev/full", Json())
        log.start(loop)
        for log.now in (1000, 1000, 1001, 1000 + TELL_S):
            log.append(record())
            log._flush()
        log.stop()
        assert log.stats.dropped == 4

    run(test)
    said = [one.getMessage() for one in caplog.records if one.name == "halftone.access"]
    assert len(said) == 2  # once a minute
    assert said[0] == (
        "access log /dev/full takes no more, lines are dropped: No space left on device"
    )


def test_standard_output_is_opened_anew(tmp_path):
    """O_NONBLOCK must not reach who shares it."""
    read, write = os.pipe()
    kept = os.dup(1)
    try:
        os.dup2(write, 1)
        fd = open_output()
        assert os.get_blocking(1)
        assert not os.get_blocking(fd)
        os.write(fd, b"line\n")
        assert os.read(read, 100) == b"line\n"
        os.close(fd)
    finally:
        os.dup2(kept, 1)
        for each in (kept, read, write):
            os.close(each)


@pytest.mark.parametrize("form", [Combined(), Json()])
def test_a_line_in_pieces_is_the_line_of_its_record(form: Format, tmp_path):
    """A ready answer's line differs from a record's in nothing but how it is put together."""
    path = tmp_path / "log"
    agent, referer = b"Mozilla/5.0 (X11)", b"http://x/y"
    whole = Record(
        1_700_000_000,
        "192.0.2.1",
        Request(
            b"GET", b"/a.jpg?w=2", 1, {b"referer": referer, b"user-agent": agent}, b"host", True
        ),
        200,
        5973,
        "HIT",
        0.0,
    )

    async def test(loop):
        log = AccessLog(str(path), form)
        log.now = 1_700_000_000
        log.start(loop)
        answer = log.answer_line("GET", "/a.jpg?w=2", "host", 200, 5973)
        log.append_ready(Peer("192.0.2.1"), answer, referer, b"User-Agent: " + agent)
        log.append(whole)
        log.stop()

    run(test)
    pieces, record_line = path.read_text().splitlines()
    if isinstance(form, Json):
        assert json.loads(pieces) == json.loads(record_line)
    else:
        assert pieces == record_line
