"""What the pool counts, as plain integers."""

from dataclasses import dataclass
from typing import Final

from resizer.errors import (
    CorruptPicture,
    DeadlineExceeded,
    ImpossibleTransform,
    PictureTooLarge,
    ResizeError,
    ResizerStopped,
    TransferFailed,
    UnsupportedFormat,
    WorkerCrashed,
)


@dataclass(slots=True)
class Stats:
    """Counters, but for the gauges waiting and busy. At any time

    calls    == admitted + refused_full + refused_barred + refused_stopped
    admitted == rendered + unsupported + corrupt + too_large + impossible + transfer_failed
                + late + crashed + withdrawn + stopped + waiting + busy
    """

    calls: int = 0
    admitted: int = 0
    refused_full: int = 0
    refused_barred: int = 0
    refused_stopped: int = 0
    rendered: int = 0
    unsupported: int = 0
    corrupt: int = 0
    too_large: int = 0
    impossible: int = 0
    transfer_failed: int = 0
    late: int = 0
    crashed: int = 0
    withdrawn: int = 0
    stopped: int = 0
    waiting: int = 0
    busy: int = 0
    queue_wait_us: int = 0
    service_us: int = 0
    restarts_crash: int = 0
    restarts_deadline: int = 0
    restarts_garbage: int = 0
    restarts_start: int = 0
    restarts_jobs: int = 0
    restarts_memory: int = 0


# The counter of each error that an admitted job can end with.
COUNTERS: Final[dict[type[ResizeError], str]] = {
    UnsupportedFormat: "unsupported",
    CorruptPicture: "corrupt",
    PictureTooLarge: "too_large",
    ImpossibleTransform: "impossible",
    TransferFailed: "transfer_failed",
    DeadlineExceeded: "late",
    WorkerCrashed: "crashed",
    ResizerStopped: "stopped",
}
