"""Whether the file system has room for one more fill: a floor, and a pause once it was met. Pure.

How much is free is looked at once a second at most, and before the fill after one that was refused
(ENOSPC, EDQUOT, no inode left). Below the floor fills evict; where that does not help, nothing is
taken in for 5 to 30 s, so that a disk that others fill costs no work, and the nodes of a farm do
not come back in step. The first fill after a refusal is on trial: a quota, say, is not in what the
file system reports free, so a second refusal begins a pause at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LOOK_EVERY_S: Final = 1.0
SHORTEST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 30.0
# Kept free wherever bytes are; of a small file system no more than a share.
MIN_FREE_INODES: Final = 64
INODE_SHARE: Final = 100


@dataclass(frozen=True, slots=True)
class Free:
    """What statvfs() reports for this user. all_inodes is 0 where they are not limited."""

    bytes: int
    inodes: int
    all_inodes: int


class Space:
    """min_free: bytes that stay free, 0 for whatever the kernel lets us have. clock is monotonic;
    chance gives 0 to 1. Not locked: it belongs to whoever holds the lock on admissions, but for
    refused() and stored(), which only set flags."""

    def __init__(
        self, min_free: int, clock: Callable[[], float], chance: Callable[[], float]
    ) -> None:
        self._min_free = min_free
        self._clock = clock
        self._chance = chance
        self._look_at = float("-inf") if min_free else float("inf")
        self._paused_until = float("-inf")
        self._was_refused = False
        self._is_on_trial = False

    @property
    def pause_s(self) -> float:
        """For how long nothing is taken in."""
        return max(0.0, self._paused_until - self._clock())

    def is_due(self) -> bool:
        """Whether to ask the file system before the next fill."""
        return self._was_refused or self._clock() >= self._look_at

    def take_refusal(self) -> bool:
        """Whether the disk refused something since this was asked last: then evict first."""
        was_refused, self._was_refused = self._was_refused, False
        self._is_on_trial = self._is_on_trial or was_refused
        return was_refused

    def has_room(self, free: Free, need: int) -> bool:
        """Whether need bytes and an inode leave the floor free."""
        if self._min_free:
            self._look_at = self._clock() + LOOK_EVERY_S
        if free.bytes - need < self._min_free:
            return False
        if not free.all_inodes:
            return True
        floor = min(MIN_FREE_INODES, free.all_inodes // INODE_SHARE) if self._min_free else 0
        return free.inodes - 1 >= floor

    def pause(self) -> None:
        """Take nothing in for a while, then try again."""
        span = LONGEST_PAUSE_S - SHORTEST_PAUSE_S
        self._paused_until = self._clock() + SHORTEST_PAUSE_S + span * self._chance()
        self._was_refused = True

    def refused(self) -> bool:
        """The disk refused a write for want of room; True when a pause begins with it."""
        self._was_refused = True
        if not self._is_on_trial:
            return False
        self.pause()
        return True

    def stored(self) -> None:
        """A file got its name."""
        self._is_on_trial = False
