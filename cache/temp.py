"""Names of files that are not published yet, and who owns them.

    .tmp-BOOT-PID-START-COUNTER     .tmp-1f0c55aa-812-9034417-3

A temp file stands in its final folder, so that publishing it is a rename. Its owner is a process of
this boot; a process id alone would not do, since a container's node is process 1 every time.
"""

import os
import re
from dataclasses import dataclass

_ENDED = ("Z", "X")  # zombie, dead
_NAME = re.compile(r"\.tmp-([0-9a-f]{8})-([0-9]{1,10})-([0-9]{1,20})-[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Owner:
    boot: str  # first eight digits of the kernel's boot id
    pid: int
    start: int  # clock ticks between boot and the start of the process

    @classmethod
    def of_this_process(cls) -> "Owner":
        pid = os.getpid()
        start = _start_of(pid)
        assert start is not None
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return cls(file.read(8), pid, start)

    def name(self, counter: int) -> str:
        return f".tmp-{self.boot}-{self.pid}-{self.start}-{counter}"

    def is_dead(self, boot: str) -> bool:
        """True when no process of the given boot can still be writing for this owner."""
        return self.boot != boot or _start_of(self.pid) != self.start


def maybe_owner(name: str) -> Owner | None:
    """Who owns the temp file of this name, None when it is not the name of one."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    boot, pid, start = match.groups()
    return Owner(boot, int(pid), int(start))


def _start_of(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            # proc(5): the second field, in parentheses, may hold anything; start time is field 22.
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # It has ended, and whoever should take note of that has not yet: as an orphan in a container
    # whose first process does not care, it may stay like this for ever.
    return None if fields[0] in _ENDED else int(fields[19])
