"""The worker: reading, writing, its loop over a real socket, its end."""

import io
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from PIL import Image

from resizer import child, worker
from resizer.decode import DECODERS
from resizer.errors import PictureTooLarge, TransferFailed
from resizer.formats import MOVING, Format, InputOnly
from resizer.job import (
    Failure,
    FailureKind,
    Hello,
    Job,
    Limits,
    Pause,
    Paused,
    Result,
    build,
    parse,
)
from resizer.render import Source, render_all
from resizer.sandbox import SandboxMode
from resizer.transform import parse as transform
from tests.resizer.pictures import noise, opened, png_that_claims, quarters, saved

PICTURE = saved(quarters(64), Format.PNG)


@contextmanager
def temporary(data: bytes = b"") -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.fileno()


def stretch(limits: Limits, offset: int = 0, length: int | None = None) -> Job:
    return Job(transform("w=8"), limits, offset, length)


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, None, b"0123456789"), (0, 10, b"0123456789"), (3, None, b"3456789"), (3, 4, b"3456")],
)
def test_a_stretch_of_the_source_is_read_and_its_offset_stays(offset, length, expected) -> None:
    with temporary(b"0123456789") as source:
        os.lseek(source, 4, os.SEEK_SET)
        limits = Limits(max_bytes=len(expected))
        assert worker.read_source(source, stretch(limits, offset, length)) == expected
        assert os.lseek(source, 0, os.SEEK_CUR) == 4
        with pytest.raises(PictureTooLarge):
            limits = Limits(max_bytes=len(expected) - 1)
            worker.read_source(source, stretch(limits, offset, length))


def test_a_stretch_beyond_the_end_of_the_source() -> None:
    with temporary(b"0123456789") as source, pytest.raises(TransferFailed):
        worker.read_source(source, stretch(Limits(), 3, 8))


def test_a_source_that_is_no_file() -> None:
    for descriptor in (pair := os.pipe()):
        with pytest.raises(TransferFailed):
            worker.read_source(descriptor, stretch(Limits()))
    for descriptor in pair:
        os.close(descriptor)


def test_the_sink_is_written_where_it_stands() -> None:
    with temporary(b"head") as sink:
        worker.write_sink(sink, b"body")
        assert os.pread(sink, 100, 0) == b"headbody"


def test_a_sink_that_refuses() -> None:
    sink = os.open("/dev/full", os.O_WRONLY)
    with temporary(PICTURE) as source:
        job = Job(transform("w=8"), Limits(), further=(transform("w=9"),))
        with temporary() as other:
            replies = list(worker.answer(job, source, None, (sink, other), render_all))
    os.close(sink)
    assert replies[0] == Failure(FailureKind.TRANSFER, "sink: ENOSPC")
    assert isinstance(replies[1], Result)  # the next step has a sink of its own


class Named:
    """A memory file with something in it."""

    def __init__(self, data: bytes) -> None:
        self.fd = os.memfd_create("mark")
        os.write(self.fd, data)


MARKS = [
    # a mark, whether it can be used
    (saved(quarters(16), Format.PNG), True),
    (saved(quarters(16), Format.GIF), True),
    (b"", False),
    (b"no picture", False),
    (saved(quarters(16), Format.PNG)[:60], False),
    (png_that_claims(4097, 1), False),
    (png_that_claims(2001, 2000), False),
    (bytes(worker.MARK_LIMITS.max_bytes + 1), False),
]


@pytest.mark.parametrize(("data", "is_usable"), MARKS)
def test_a_mark_is_decoded_within_limits_or_fails_every_step(data: bytes, is_usable: bool) -> None:
    mark = Named(data)
    seen: list[Source] = []

    def work(source, transforms):
        seen.append(source)
        return render_all(source, transforms)

    job = Job(transform("w=8"), Limits(), further=(transform("w=9"),), has_mark=True)
    with temporary(PICTURE) as source, temporary() as one, temporary() as two:
        replies = list(worker.answer(job, source, mark.fd, (one, two), work))
    os.close(mark.fd)
    assert len(replies) == 2
    if is_usable:
        assert all(isinstance(reply, Result) for reply in replies)
        assert seen[0].mark is not None
        assert (seen[0].mark.size, seen[0].mark.mode) == ((16, 16), "RGBA")
    else:
        assert {reply.kind for reply in replies} == {FailureKind.MARK}
        assert not seen


class Running:
    """A real worker at the other end of a socket."""

    def __init__(self, mode: SandboxMode, limits: str = "33554432,50000000,16384,33554432") -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        number = theirs.fileno()
        command = child.command("resizer.worker", str(number), mode, limits)
        self.process = child.start(command, keep=(number,))
        theirs.close()
        self.hello = parse(self.socket.recv(4096))

    def ask(
        self,
        data: bytes,
        text: str,
        limits: Limits | None = None,
        inputs: tuple[InputOnly, ...] = (),
    ) -> tuple[object, bytes]:
        with temporary(data) as source, temporary() as sink:
            job = build(Job(transform(text), limits or Limits(), inputs=inputs))
            socket.send_fds(self.socket, [job], [source, sink])
            reply = parse(self.socket.recv(4096))
            return reply, os.pread(sink, 1 << 24, 0)

    def close(self) -> int:
        self.socket.close()
        return self.process.wait(20)


@pytest.mark.parametrize("mode", [SandboxMode.REQUIRE, SandboxMode.OFF])
def test_jobs_and_the_end(mode: SandboxMode) -> None:
    running = Running(mode)
    try:
        assert isinstance(running.hello, Hello)
        assert ("landlock ABI" in running.hello.sandbox) == (mode is SandboxMode.REQUIRE)
        assert os.getpriority(os.PRIO_PROCESS, running.process.pid) >= worker.NICENESS
        with open(f"/proc/{running.process.pid}/oom_score_adj") as file:
            assert int(file.read()) >= worker.OOM_SCORE
        # One thread, so that the seal binds all of it.
        assert len(os.listdir(f"/proc/{running.process.pid}/task")) == 1
        with open(f"/proc/{running.process.pid}/environ", "rb") as file:
            names = {line.split(b"=")[0] for line in file.read().split(b"\0") if line}
        assert names <= {name.encode() for name in child.ENVIRONMENT}
        for source in Format:
            for output in Format:
                reply, body = running.ask(saved(quarters(64), source), f"w=16,f={output}")
                assert isinstance(reply, Result), reply
                assert reply.length == len(body)
                assert (reply.source_width, reply.source_format) == (64, source)
                assert opened(body).size == (16, 16)
        for only in InputOnly:
            file = io.BytesIO()
            quarters(64).save(file, DECODERS[only].name)
            reply, _ = running.ask(file.getvalue(), "w=16")
            assert isinstance(reply, Failure)
            assert reply.kind is FailureKind.UNSUPPORTED
            reply, body = running.ask(file.getvalue(), "w=16", inputs=(only,))
            assert isinstance(reply, Result), reply
            assert (reply.media_type, reply.source_format) == ("image/jpeg", only)
        for moving in MOVING:
            frames = [quarters(64), quarters(64).rotate(90)]
            data = saved(frames[0], moving, save_all=True, append_images=frames[1:])
            for output in MOVING:
                reply, body = running.ask(data, f"w=16,f={output}")
                assert isinstance(reply, Result), reply
                assert getattr(opened(body), "n_frames", 1) == 2
        for data, kind in (
            (b"text", FailureKind.UNSUPPORTED),
            (PICTURE[:60], FailureKind.CORRUPT),
            (PICTURE + bytes(100), None),
        ):
            reply, body = running.ask(data, "w=16")
            assert getattr(reply, "kind", None) == kind
            assert bool(body) == (kind is None)
        reply, _ = running.ask(noise(64), "", Limits(max_output_bytes=100))
        assert isinstance(reply, Failure)
        assert reply.kind is FailureKind.IMPOSSIBLE
        # Nothing was left open: 0 to 2 and the socket.
        assert len(os.listdir(f"/proc/{running.process.pid}/fd")) == 4
    finally:
        # The parent's end closes: it ends by itself.
        assert running.close() == 0


def test_a_ladder_and_a_pause() -> None:
    running = Running(SandboxMode.REQUIRE)
    channel = running.socket
    texts = [f"w={width}" for width in range(1, 33)]
    first, *rest = map(transform, texts)
    job = Job(first, Limits(), further=tuple(rest), has_mark=True)
    sinks = [Named(b"") for _ in texts]
    mark = Named(PICTURE)
    try:
        channel.sendmsg([build(Pause())])  # it crossed the last answer, and means nothing now
        with temporary(PICTURE) as source:
            numbers = [source, mark.fd, *(sink.fd for sink in sinks)]
            for _ in range(2):  # nothing is left open by the first
                socket.send_fds(channel, [build(job)], numbers)
                replies = [parse(channel.recv(4096)) for _ in texts]
                assert [reply.width for reply in replies] == list(range(1, 33))
            assert len(os.listdir(f"/proc/{running.process.pid}/fd")) == 4
            for sink, reply in zip(sinks, replies, strict=True):
                body = os.pread(sink.fd, 1 << 20, reply.length)  # the second time, behind the first
                assert opened(body).size == (reply.width, reply.height)
            # Both are in its socket before it begins.
            os.kill(running.process.pid, signal.SIGSTOP)
            socket.send_fds(channel, [build(job)], numbers)
            channel.sendmsg([build(Pause())])
            os.kill(running.process.pid, signal.SIGCONT)
            assert parse(channel.recv(4096)).width == 1
            assert parse(channel.recv(4096)) == Paused()
            assert len(os.listdir(f"/proc/{running.process.pid}/fd")) == 4
        assert isinstance(running.ask(PICTURE, "w=8")[0], Result)
    finally:
        assert running.close() == 0
        for file in (*sinks, mark):
            os.close(file.fd)


def test_a_picture_above_the_memory_limit() -> None:
    # Sealed for one megapixel and asked for 144: the header passes, the memory does not reach.
    running = Running(SandboxMode.REQUIRE, "1000000,1000000,16384,1000000")
    try:
        body = io.BytesIO()
        Image.new("L", (12_000, 12_000)).save(body, "PNG", compress_level=1)
        limits = Limits(max_pixels=200_000_000)
        reply, _ = running.ask(body.getvalue(), "f=webp", limits)
        assert reply == Failure(FailureKind.TOO_LARGE, reply.message)  # type: ignore[attr-defined]
        # Decoded within the memory, but not to be encoded in it.
        body = io.BytesIO()
        Image.new("RGBA", (3600, 3600), "#01020304").save(body, "PNG", compress_level=1)
        for output in ("webp", "avif"):
            reply, _ = running.ask(body.getvalue(), f"f={output}", limits)
            assert isinstance(reply, Failure)
            assert reply.kind is FailureKind.IMPOSSIBLE
        reply, _ = running.ask(PICTURE, "w=8")
        assert isinstance(reply, Result)
    finally:
        running.close()
