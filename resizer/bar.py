"""The list of inputs that kill: twice, and they are refused for a time.

A strike is forgotten after the same time, and at once when the input is rendered after all. The
table is bounded; its oldest entry gives way.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

# Digest of the source and canonical transform: another size of the same picture may be harmless.
Input = tuple[bytes, str]

# One death may be another's fault (memory, the kernel's killer), two are hardly.
STRIKES: Final = 2


@dataclass(frozen=True, slots=True)
class _Record:
    strikes: int
    until: float


class Bar:
    """Which inputs are refused. O(1), at most `entries` of them remembered."""

    def __init__(self, seconds: float, entries: int) -> None:
        self.seconds = seconds
        self.entries = entries
        self._records: OrderedDict[Input, _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def is_barred(self, key: Input, now: float) -> bool:
        record = self._records.get(key)
        if record is None:
            return False
        if now >= record.until:
            del self._records[key]
            return False
        return record.strikes >= STRIKES

    def strike(self, key: Input, now: float) -> None:
        """This input has killed a worker."""
        record = self._records.pop(key, None)
        strikes = record.strikes if record is not None and now < record.until else 0
        self._records[key] = _Record(strikes + 1, now + self.seconds)
        if len(self._records) > self.entries:
            self._records.popitem(last=False)

    def forgive(self, key: Input) -> None:
        self._records.pop(key, None)
