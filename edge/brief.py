"""Names that stand for a while: a bounded table, whose oldest makes room."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")


class Brief(Generic[K]):
    """now: whole seconds. crowded_out counts names that went before their time."""

    def __init__(self, limit: int, seconds: int, now: Callable[[], int]) -> None:
        self.crowded_out = 0
        self._limit = limit
        self._seconds = seconds
        self._now = now
        self._until: OrderedDict[K, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, name: K) -> bool:
        until = self._until.get(name)
        if until is None:
            return False
        # One from too far ahead was put down before the clock was set back.
        if 0 < until - self._now() <= self._seconds:
            return True
        del self._until[name]
        return False

    def add(self, name: K) -> None:
        self._until.pop(name, None)
        self._until[name] = self._now() + self._seconds
        if len(self._until) > self._limit:
            self._until.popitem(last=False)
            self.crowded_out += 1

    def renew(self, name: K) -> None:
        """add(), unless it would stand for half of its time without that."""
        if self._until.get(name, 0) - self._now() <= self._seconds // 2:
            self.add(name)

    def discard(self, name: K) -> None:
        self._until.pop(name, None)
