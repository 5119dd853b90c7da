"""The resizer."""

from collections.abc import Sequence
from typing import Final

from edge.metrics import Counter, Gauge, Row, single
from resizer.cost import Lane
from resizer.pool import Pool
from resizer.workers import State

RESTART_CAUSES: Final = ("crash", "deadline", "garbage", "start", "jobs", "memory")


def resizer_rows(pool: Pool) -> Sequence[Row]:
    """Lanes, bar, workers and ladders of the resizer."""
    stats = pool.stats
    return (
        Gauge(
            "halftone_resize_lane_depth",
            "Jobs that wait for a resizer, by lane; idle: ladders.",
            ("lane",),
            lambda: (((lane.value,), pool.depth(lane)) for lane in Lane),
        ),
        Counter(
            "halftone_resize_jobs",
            "Jobs admitted, by lane; idle: ladders.",
            ("lane",),
            lambda: (
                (("cheap",), stats.cheap),
                (("dear",), stats.dear),
                (("idle",), stats.ladders - stats.ladders_refused),
            ),
        ),
        Counter(
            "halftone_resize_wait_seconds",
            "Time that jobs waited for a resizer.",
            (),
            single(lambda: stats.queue_wait_us / 1e6),
        ),
        Gauge(
            "halftone_resize_cost_correction",
            "Learned ratio of true to estimated cost, by the source's format.",
            ("format",),
            lambda: (
                (("unknown" if found is None else found.value,), ratio)
                for found, ratio in pool.costs.corrections.items()
            ),
        ),
        Gauge(
            "halftone_resizer_processes",
            "Resizer processes, by what they do.",
            ("state",),
            lambda: (((state.value,), pool.workers.count(state)) for state in State),
        ),
        Counter(
            "halftone_resizer_restarts",
            "Resizer processes that were replaced, by cause; jobs and memory: recycled.",
            ("cause",),
            lambda: (((cause,), getattr(stats, f"restarts_{cause}")) for cause in RESTART_CAUSES),
        ),
        Counter(
            "halftone_resize_retries",
            "Jobs given to a second process, because the first ended before it took them.",
            (),
            single(lambda: stats.retried),
        ),
        Counter(
            "halftone_resize_strikes",
            "Jobs that ended a process and are held against their picture.",
            (),
            single(lambda: stats.strikes),
        ),
        Gauge(
            "halftone_resize_suspects",
            "Pictures with a strike or more that is not forgotten yet.",
            (),
            single(lambda: pool.suspects),
        ),
        Counter(
            "halftone_resize_barred",
            "Pictures that were barred; kept, not_kept: for a report.",
            ("copy",),
            lambda: (
                (("kept",), stats.kept),
                (("not_kept",), stats.barred - stats.kept),
            ),
        ),
        Counter(
            "halftone_ladders",
            "Ladders, by how they ended.",
            ("result",),
            lambda: (
                (("ended",), stats.ladders_ended),
                (("withdrawn",), stats.ladders_withdrawn),
                (("refused",), stats.ladders_refused),
            ),
        ),
        Counter(
            "halftone_ladder_steps",
            "Transforms of ladders, by result.",
            ("result",),
            lambda: ((("rendered",), stats.steps_rendered), (("failed",), stats.steps_failed)),
        ),
        Counter(
            "halftone_ladder_pauses",
            "Ladders that made way for a render that somebody waited for.",
            (),
            single(lambda: stats.ladders_paused),
        ),
    )
