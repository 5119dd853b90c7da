"""How many connections the limit on open files allows (getrlimit(2), RLIMIT_NOFILE)."""

import logging
import resource
from typing import Final

# What a node holds beside its clients: listeners, index, log and pipes of resizers, open pictures,
# origins, and the connections that were just refused.
RESERVED: Final = 128

log = logging.getLogger("halftone")


def allow_connections(wanted: int) -> int:
    """Raise the soft limit as far as wanted connections need, and say how many fit under it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each may have a file open that is being sent to it.
    needed = 2 * wanted + RESERVED
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        if raised > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    allowed = fit(wanted, soft)
    if allowed < wanted:
        log.warning(
            "at most %d connections, not %d: the limit on open files is %d", allowed, wanted, soft
        )
    return allowed


def fit(wanted: int, limit: int) -> int:
    """At least one, and never so many that nothing is left to answer them with."""
    if limit == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(limit - RESERVED, limit // 4, 1))
