"""Fills that are done once in the farm."""

from collections.abc import Sequence

from cache.lease import Leases
from edge.metrics import Counter, Gauge, Row, single


def lease_rows(leases: Leases) -> Sequence[Row]:
    """Fills that are done once in the farm, and who waited for them."""
    stats = leases.stats
    return (
        Counter(
            "halftone_leases",
            "Leases of fills; led: granted, lost: not renewed in time, without: the index did not"
            " answer and the fill went on without one.",
            ("result",),
            lambda: (((name,), getattr(stats, name)) for name in ("led", "lost", "without")),
        ),
        Counter(
            "halftone_lease_waits",
            "Fills that another worker or node did meanwhile, by what came of the wait; held: found"
            " on disk, parcels: handed over, replaced: the other was gone, alone: nothing could be"
            " handed over, undecided: the index fell silent, gave_up: answered with 503.",
            ("result",),
            lambda: (
                ((name,), getattr(stats, name))
                for name in ("held", "parcels", "replaced", "alone", "undecided", "gave_up")
            ),
        ),
        Gauge(
            "halftone_lease_waiting",
            "Fills that wait for what another worker or node does.",
            (),
            single(lambda: leases.waiting),
        ),
        Counter(
            "halftone_lease_parcels",
            "Entries left for those who waited; taken at once, without a wait; refused: not what"
            " they should be, or of no use any more.",
            ("result",),
            lambda: (
                (("left",), stats.handed_over),
                (("at_once",), stats.at_once),
                (("refused",), stats.refused),
            ),
        ),
    )
