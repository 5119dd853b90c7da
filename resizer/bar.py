"""The list of inputs that kill: twice, and they are refused for a time. Pure.

A crash is held against the picture, whatever was to be made of it: its bytes have power over a
decoder, and each further size would cost another worker. A job that overran its deadline is held
against that one transform of the picture: a smaller one may be quick.

A strike is forgotten after the same time. One for an overrun is forgotten at once when the same job
is done after all; one for a crash is not, or a picture that crashes in one size would go on doing
so between successes in another. The table is bounded; its oldest entry gives way.
"""

import enum
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

# One death may be another's fault (memory, the kernel's killer), two are hardly.
STRIKES: Final = 2


class Fault(enum.Enum):
    CRASH = "crash"
    OVERRUN = "overrun"


# Digest of the source, and the canonical transform; None for all of them.
_Key = tuple[bytes, str | None]


@dataclass(frozen=True, slots=True)
class _Record:
    strikes: int
    until: float


class Bar:
    """Which inputs are refused. O(1), at most `entries` of them remembered."""

    def __init__(self, seconds: float, entries: int) -> None:
        self.seconds = seconds
        self.entries = entries
        self._records: OrderedDict[_Key, _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def is_barred(self, digest: bytes, operation: str, now: float) -> bool:
        return self._is_out((digest, None), now) or self._is_out((digest, operation), now)

    def strike(self, digest: bytes, operation: str, fault: Fault, now: float) -> bool:
        """This input has killed a worker. True when that bars it from now on."""
        key = (digest, None if fault is Fault.CRASH else operation)
        record = self._records.pop(key, None)
        strikes = record.strikes if record is not None and now < record.until else 0
        self._records[key] = _Record(strikes + 1, now + self.seconds)
        if len(self._records) > self.entries:
            self._records.popitem(last=False)
        return strikes + 1 == STRIKES

    def forgive(self, digest: bytes, operation: str) -> None:
        """This job was done."""
        self._records.pop((digest, operation), None)

    def _is_out(self, key: _Key, now: float) -> bool:
        record = self._records.get(key)
        if record is None:
            return False
        if now >= record.until:
            del self._records[key]
            return False
        return record.strikes >= STRIKES
