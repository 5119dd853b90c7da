"""A worker that does what its source says: started by the tests in place of resizer.worker."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from resizer import worker
from resizer.formats import Format
from resizer.job import Paused, Result, build
from resizer.render import Outcome, Source, render_all
from resizer.transform import Transform

MARK = b"fault: "


def main(argv: Sequence[str]) -> None:
    channel = int(argv[0])

    def work(source: Source, transforms: Sequence[Transform]) -> Iterator[Outcome]:
        # At the start, or in the comment of a JPEG that is a picture otherwise.
        _, mark, rest = source.data[:200].partition(MARK)
        name = rest.split(b";")[0].decode("ascii", "replace") if mark else ""
        done = render_all(source, transforms)
        for transform in transforms:
            # A fault of one step only: "segv@8" at width 8.
            what, _, width = name.partition("@")
            if what and (not width or int(width) == transform.width):
                fault(what, channel)
            yield next(done)

    worker.main(argv, work)


def fault(name: str, channel: int) -> None:
    answer = build(Result("image/png", 7, 1, 1, 1, 1, Format.PNG, 1.0, 1.0))
    match name:
        case "segv":
            ctypes.string_at(8)
        case "abort":
            os.abort()
        case "exit":
            os._exit(3)
        case "raise":
            raise KeyError("a fault of ours")
        case "memory":
            bytearray(8 << 30)
        case "spin":
            while True:
                pass
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "open":
            os.open("/etc/passwd", os.O_RDONLY)
        case "garbage":
            os.write(channel, b"\x00garbage")
        case "half":
            os.write(channel, answer[: len(answer) // 2])
        case "lie":
            os.write(channel, answer)
        case "paused":
            os.write(channel, build(Paused()))
        case "nap":
            time.sleep(0.2)
            return
        case "deaf":
            os.close(channel)
    # What is not over yet goes on: the pool must see the fault and not wait for an end.
    while True:
        pass
