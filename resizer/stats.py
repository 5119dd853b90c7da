"""What the pool counts, as plain integers."""

from dataclasses import dataclass
from typing import Final

from resizer.errors import (
    CorruptPicture,
    DeadlineExceeded,
    ImpossibleTransform,
    MarkUnusable,
    PictureTooLarge,
    QueueFull,
    ResizeError,
    ResizerStopped,
    TransferFailed,
    UnsupportedFormat,
    WaitExceeded,
    WorkerCrashed,
)


@dataclass(slots=True)
class Stats:
    """Counters, but for the gauges waiting, busy, and those of ladders. At any time

    calls    == admitted + refused_full + refused_barred + refused_stopped
    admitted == cheap + dear
             == rendered + unsupported + corrupt + too_large + impossible + transfer_failed
                + mark_unusable + late + crashed + withdrawn + displaced + stopped + waiting + busy
    ladders  == ladders_refused + ladders_ended + ladders_withdrawn + ladders_waiting + ladders_busy

    A ladder's steps that were done, or failed, are counted one by one; those of a withdrawn ladder
    are not.
    """

    calls: int = 0
    admitted: int = 0
    cheap: int = 0
    dear: int = 0
    refused_full: int = 0
    refused_barred: int = 0
    refused_stopped: int = 0
    rendered: int = 0
    unsupported: int = 0
    corrupt: int = 0
    too_large: int = 0
    impossible: int = 0
    transfer_failed: int = 0
    mark_unusable: int = 0
    late: int = 0
    crashed: int = 0
    withdrawn: int = 0
    displaced: int = 0
    stopped: int = 0
    waiting: int = 0
    busy: int = 0
    queue_wait_us: int = 0
    service_us: int = 0
    retried: int = 0  # given to another worker, because the first never took it
    strikes: int = 0
    barred: int = 0  # inputs that were put on the bar
    kept: int = 0  # of them, copied for a report
    ladders: int = 0
    ladders_refused: int = 0
    ladders_ended: int = 0
    ladders_withdrawn: int = 0
    ladders_waiting: int = 0
    ladders_busy: int = 0
    ladders_paused: int = 0
    steps_rendered: int = 0
    steps_failed: int = 0
    restarts_crash: int = 0
    restarts_deadline: int = 0
    restarts_garbage: int = 0
    restarts_start: int = 0
    restarts_jobs: int = 0
    restarts_memory: int = 0

    def add(self, counter: str) -> None:
        setattr(self, counter, getattr(self, counter) + 1)


# The counter of each error that an admitted job can end with.
COUNTERS: Final[dict[type[ResizeError], str]] = {
    UnsupportedFormat: "unsupported",
    CorruptPicture: "corrupt",
    PictureTooLarge: "too_large",
    ImpossibleTransform: "impossible",
    TransferFailed: "transfer_failed",
    MarkUnusable: "mark_unusable",
    DeadlineExceeded: "late",
    WaitExceeded: "late",
    WorkerCrashed: "crashed",
    QueueFull: "displaced",
    ResizerStopped: "stopped",
}
