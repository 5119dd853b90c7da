"""A worker's share of what the configuration limits for the whole node.

    divided     connection.max_connections, resizer.processes, resizer.queue
    each        cache.memory, which DESIGN section 5 gives per worker; times, sizes of one thing
    parted      cache.size and cache.inodes: cache/disk.py takes the part of its worker

Shares differ by one at most and add up to the limit, unless it is smaller than the number of
workers: nobody serves without a connection or a resizer.
"""

from dataclasses import replace

from edge.config import Config


def part(whole: int, slot: int, slots: int) -> int:
    """What falls to one slot of several, at least 1."""
    return max(1, whole // slots + (slot < whole % slots))


def share_of(config: Config, slot: int, slots: int, cores: int) -> Config:
    """The configuration as the worker in this slot should obey it. cores: for "auto"."""
    if slots == 1:
        return config
    resizer, connection = config.resizer, config.connection
    processes = part(resizer.processes or cores, slot, slots)
    return replace(
        config,
        resizer=replace(resizer, processes=processes, queue=part(resizer.queue, slot, slots)),
        connection=replace(
            connection, max_connections=part(connection.max_connections, slot, slots)
        ),
    )
