"""The process that decodes pixels: one thread, one job at a time, sealed before the first job.

It holds one socket to its parent and, while it works, a job's descriptors. It never sees a path. It
ends when the parent's end of the socket closes, or when anything happens that it does not know; the
pool starts another.
"""

import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from PIL import Image

from resizer import decode, sandbox
from resizer.errors import (
    BadPicture,
    MarkUnusable,
    PictureTooLarge,
    ResizeError,
    TransferFailed,
)
from resizer.job import (
    MAX_DESCRIPTORS,
    MAX_JOB_BYTES,
    MAX_MARK_BYTES,
    MIB,
    Failure,
    Hello,
    Job,
    Limits,
    Pause,
    Paused,
    Refusal,
    Result,
    build,
    parse,
    printable,
)
from resizer.render import Outcome, Source, render_all
from resizer.sandbox import Policy, SandboxMode
from resizer.transform import Transform
from resizer.warm_up import warm_up

# Memory above what a warm worker holds. A WebP takes most: two canvases of libwebp's, its copy for
# Pillow and Pillow's own, 4 bytes a pixel each; then the output's pixels, the source's bytes and
# the encoder's buffers.
BYTES_A_PIXEL: Final = 24
SPARE_BYTES: Final = 256 * MIB

# A sink may begin with a header of the caller's: more room in the file than the result needs.
SINK_HEAD_BYTES: Final = MIB

# A backstop for a worker whose pool is gone and that PDEATHSIG missed.
LIFETIME_CPU_S: Final = 24 * 3600

NICENESS: Final = 5
# The kernel should take a worker long before an edge process.
OOM_SCORE: Final = 500

# It is decoded whole with every job that asks for it, in the memory that is spare.
MARK_LIMITS: Final = Limits(max_bytes=MAX_MARK_BYTES, max_pixels=4_000_000, max_side=4096)


Work = Callable[[Source, Sequence[Transform]], Iterator[Outcome]]


# --- one job -------------------------------------------------------------------------------------


def answer(
    job: Job, source: int, mark: int | None, sinks: Sequence[int], work: Work
) -> Iterator[Result | Failure]:
    """Do the job, an answer for each of its transforms. What comes back as a Failure is the
    picture's, the request's or the disk's.
    """
    try:
        drawn = None if mark is None else read_mark(mark)
        picture = Source(read_source(source, job), job.limits, drawn, job.inputs, job.parent)
    except (ResizeError, MemoryError) as error:
        failure = Failure.of(_named(error))
        for _ in sinks:
            yield failure
        return
    outcomes = work(picture, job.transforms)
    for sink in sinks:
        yield _step(outcomes, sink)


def _step(outcomes: Iterator[Outcome], sink: int) -> Result | Failure:
    try:
        outcome = next(outcomes)
        if isinstance(outcome, Failure):
            return outcome
        body, result = outcome
        write_sink(sink, body)
    except (ResizeError, MemoryError) as error:
        return Failure.of(_named(error))
    return result


def _named(error: ResizeError | MemoryError) -> ResizeError:
    if isinstance(error, ResizeError):
        return error
    return PictureTooLarge("out of the worker's memory")


def read_mark(descriptor: int) -> Image.Image:
    """The site's watermark: as hostile as any other picture. Raises MarkUnusable."""
    try:
        data = read_source(descriptor, Job(Transform(), MARK_LIMITS))
        picture = decode.open_picture(data, MARK_LIMITS)
        pixels, _ = decode.load_pixels(picture, (0, 0, *picture.stored), picture.stored)
        return pixels.convert("RGBA")
    except (BadPicture, TransferFailed, MemoryError) as error:
        raise MarkUnusable(f"watermark: {error}") from error


def read_source(source: int, job: Job) -> bytes:
    """The job's stretch of the file. By pread, because the offset of a descriptor is shared with
    whoever else has it open; and not mapped, because a file that shrinks would then kill us.
    """
    try:
        size = os.fstat(source).st_size - job.offset if job.length is None else job.length
        if size > job.limits.max_bytes:
            raise PictureTooLarge(f"{size} bytes are over {job.limits.max_bytes}")
        data = os.pread(source, size, job.offset)
        while len(data) < size:
            more = os.pread(source, size - len(data), job.offset + len(data))
            if not more:
                raise TransferFailed(f"the source shrank from {size} to {len(data)} bytes")
            data += more
    except OSError as error:
        raise TransferFailed(f"source: {errno.errorcode.get(error.errno or 0)}") from error
    return data


def write_sink(sink: int, body: bytes) -> None:
    """All of it, where the sink stands."""
    rest = memoryview(body)
    try:
        while rest:
            rest = rest[os.write(sink, rest) :]
    except OSError as error:
        raise TransferFailed(f"sink: {errno.errorcode.get(error.errno or 0)}") from error


# --- the loop ------------------------------------------------------------------------------------


def serve(channel: socket.socket, work: Work) -> None:
    """Answer jobs until the parent closes its end."""
    while True:
        data, descriptors, flags, _ = socket.recv_fds(
            channel, MAX_JOB_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return
        message = parse(data)
        if isinstance(message, Pause):
            continue  # it crossed the last answer
        assert isinstance(message, Job), f"the pool sent {type(message).__name__}"
        # The kernel cuts the list where it would break a limit.
        assert not flags & socket.MSG_CTRUNC
        assert len(descriptors) == message.descriptors
        do(message, descriptors, channel, work)


def do(job: Job, descriptors: Sequence[int], channel: socket.socket, work: Work) -> None:
    """One job: an answer for each transform, or for some of them and Paused."""
    source, *sinks = descriptors
    mark = sinks.pop(0) if job.has_mark else None
    # All are closed before the last answer: who has it finds nothing of theirs open here.
    left = list(descriptors)
    for sink, reply in zip(sinks, answer(job, source, mark, sinks, work), strict=False):
        left.remove(sink)
        os.close(sink)
        is_last = sink == sinks[-1]
        if is_last:
            close_all(left)
        # sendmsg, the one way to send that the filter lets through.
        channel.sendmsg([build(reply)])
        if not is_last and should_pause(channel):
            close_all(left)
            channel.sendmsg([build(Paused())])
            return


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def should_pause(channel: socket.socket) -> bool:
    """Whether the pool has said so meanwhile, without waiting for it."""
    try:
        data = channel.recvmsg(MAX_JOB_BYTES, 0, socket.MSG_DONTWAIT)[0]
    except BlockingIOError:
        return False
    # At the end of the stream the pool is gone, and serve() sees it next.
    return not data or isinstance(parse(data), Pause)


def main(argv: Sequence[str], work: Work = render_all) -> None:
    """argv: the socket's number (or "check"), the sandbox mode, the limits with commas.

    "check" seals the process, exercises every codec inside and ends with 0.
    """
    where, mode, numbers = argv
    limits = Limits(*map(int, numbers.split(",")))
    sandbox.die_with_parent()
    # A terminal and a service manager signal the whole group, and the edge still drains then. We
    # end with the socket, or by SIGKILL.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Refused where our parent's score is higher already; then there is nothing to do.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE))
    silence()
    decode.settle_warnings()
    warm_up()
    os.nice(NICENESS)  # not before: a start waits for us until here
    if where == "check":
        sandbox.seal(policy_for(SandboxMode(mode), limits))
        warm_up(thorough=True)
        os._exit(0)
    channel = socket.socket(fileno=int(where))
    try:
        report = sandbox.seal(policy_for(SandboxMode(mode), limits))
    except sandbox.SandboxUnreachable as error:
        channel.sendmsg([build(Refusal(printable(str(error))))])
        os._exit(1)
    status = 0
    try:
        channel.sendmsg([build(Hello(printable(str(report))))])
        serve(channel, work)
    except Exception:  # noqa: BLE001 - the top of a process
        # A fault of ours, or a parent that left in the middle. The pool sees the end of the socket,
        # fails the one job and starts another worker; nothing here is fit to go on.
        status = 1
    # Not sys.exit(): finalising imports, and the filter would kill it.
    os._exit(status)


def policy_for(mode: SandboxMode, limits: Limits) -> Policy:
    return Policy(
        mode=mode,
        address_space_bytes=limits.max_pixels * BYTES_A_PIXEL
        + limits.max_bytes * 2
        + limits.max_output_bytes * 2
        + SPARE_BYTES,
        file_bytes=limits.max_output_bytes + SINK_HEAD_BYTES,
        cpu_s=LIFETIME_CPU_S,
    )


def silence() -> None:
    """Nobody reads what a sealed worker prints, and to print a traceback Python opens its source,
    which kills. Import errors came before this and stand on standard error.
    """
    sys.excepthook = lambda *_: None
    sys.unraisablehook = lambda _: None
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 2)
    os.close(null)
