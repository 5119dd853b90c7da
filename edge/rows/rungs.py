"""Pictures made before they are asked for: slow formats, and ladders."""

from collections.abc import Sequence

from edge.ladders import Ladders
from edge.metrics import Counter, Gauge, Row, single
from edge.upgrades import Upgrades


def upgrade_rows(upgrades: Upgrades) -> Sequence[Row]:
    """Slow formats that are prepared in idle time."""
    stats = upgrades.stats
    return (
        Counter(
            "halftone_upgrades",
            "Requests for a slow format that was not there yet, by what became of it; joined: it"
            " waits already, held_down: it has just failed, refused: too many wait.",
            ("result",),
            lambda: (
                ((name,), getattr(stats, name))
                for name in ("joined", "held_down", "refused", "done", "failed")
            ),
        ),
        Gauge(
            "halftone_upgrade_queue_depth",
            "Slow formats that wait for idle time.",
            (),
            single(lambda: upgrades.depth),
        ),
    )


def ladder_rows(ladders: Ladders) -> Sequence[Row]:
    """What first misses bring along; how the resizer does it is in resizer_rows()."""
    stats = ladders.stats
    return (
        Gauge(
            "halftone_ladders_waiting",
            "Ladders that wait until the one before has ended.",
            (),
            single(lambda: ladders.waiting),
        ),
        Counter(
            "halftone_ladders_dropped",
            "Ladders that were not made, because too many waited.",
            (),
            single(lambda: stats.dropped),
        ),
        Counter(
            "halftone_ladder_rungs",
            "Derivatives of ladders; held: somebody had made them, lost: not rendered or stored.",
            ("result",),
            lambda: (
                (("kept",), stats.kept),
                (("held",), stats.held),
                (("lost",), stats.lost),
            ),
        ),
    )
