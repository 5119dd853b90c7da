"""How many files and connections a worker may have open (getrlimit(2), RLIMIT_NOFILE).

A connection over the cap is answered 503. Without descriptors it could not even be accepted, so the
cap must leave room for everything else.
"""

import resource
from dataclasses import replace
from typing import Final

from edge.config import Config
from edge.share import share_of

# An unlimited hard limit ends here, as the kernel's fs.nr_open does by default.
MOST: Final = 2**20
# Standard streams, listeners, the loop, the log, the index and what opens for a moment: a disk
# thread's files, a render's two, connections just refused; and 32 files that stay open for sending.
RESERVE: Final = 64 + 32
# Its socket, its pidfd, its statm, and a job's two descriptors.
PER_RESIZER: Final = 5
# What a host of an origin is asked at once: php-fpm rarely has more children.
PER_HOST: Final = 64


def raise_limit() -> int:
    """Soft limit to hard limit. Returns what is allowed now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = MOST
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def reserve(config: Config, cores: int) -> int:
    """Descriptors that are for other things than clients."""
    hosts = sum(len(origin.hosts) for origin in config.origins)
    roots = sum(site.root is not None for site in config.sites)
    marks = sum(len(site.pictures.watermarks) for site in config.sites)
    resizers = config.resizer.processes or cores
    return RESERVE + PER_RESIZER * resizers + PER_HOST * hosts + roots + marks


def fit(config: Config, allowed: int, cores: int, slots: int = 1) -> Config:
    """config with a connection cap that the descriptors allow; each worker may open so many."""
    cap = max(allowed - reserve(share_of(config, 0, slots, cores), cores), 1) * slots
    if config.connection.max_connections <= cap:
        return config
    return replace(config, connection=replace(config.connection, max_connections=cap))
