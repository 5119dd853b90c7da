"""A worker that does what its source says: started by the tests in place of resizer.worker."""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from resizer import worker
from resizer.formats import Format
from resizer.job import Job, Result, build

MARK = b"fault: "


def main(argv: Sequence[str]) -> None:
    channel = int(argv[0])

    def work(data: bytes, job: Job) -> tuple[bytes, Result]:
        if data.startswith(MARK):
            fault(data.removeprefix(MARK).decode(), channel)
        return worker.render(data, job)

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
        case "deaf":
            os.close(channel)
    # What is not over yet goes on: the pool must see the fault and not wait for an end.
    while True:
        pass
