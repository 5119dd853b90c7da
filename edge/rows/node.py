"""What the master knows, and what a worker is."""

import importlib.metadata
import platform
from collections.abc import Callable, Sequence

from cache.index.interface import Index
from edge.health import DEGRADED, WORKERS
from edge.metrics import Counter, Gauge, Row, single
from edge.seat import Bulletin


def bulletin_rows(bulletin: Bulletin) -> Sequence[Row]:
    """What the master knows; any worker may be asked."""
    return (
        Gauge(
            "halftone_config_last_reload_successful",
            "1 when the configuration that was read last is in effect, 0 when it was refused.",
            (),
            single(lambda: int(bulletin.last_reload_successful)),
        ),
        Gauge(
            "halftone_config_last_reload_success_timestamp_seconds",
            "When a configuration was last put into effect.",
            (),
            single(lambda: bulletin.last_reload_at),
        ),
        Gauge(
            "halftone_start_time_seconds",
            "When this run of the program began; counters start anew with it.",
            (),
            single(lambda: bulletin.started_at),
        ),
        Counter(
            "halftone_worker_restarts",
            "Workers that took the place of one that died.",
            (),
            single(lambda: bulletin.restarts),
        ),
    )


def worker_rows(index: Index, is_leaving: Callable[[], bool]) -> Sequence[Row]:
    """What a worker is; their sums say how the node is."""
    return (
        Gauge(
            WORKERS,
            "Processes that serve, and those that finish what they have before they end.",
            ("state",),
            lambda: (
                (("serving",), int(not is_leaving())),
                (("leaving",), int(is_leaving())),
            ),
        ),
        Gauge(
            DEGRADED,
            "Workers that decide without the index, because it did not answer.",
            (),
            single(lambda: int(index.is_degraded)),
        ),
    )


def build_info() -> dict[str, str]:
    """Labels of halftone_build_info."""
    return {
        "version": importlib.metadata.version("halftone"),
        "python": platform.python_version(),
        "pillow": importlib.metadata.version("pillow"),
        "uvloop": importlib.metadata.version("uvloop"),
    }
