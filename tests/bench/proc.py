"""What the kernel knows about processes: their tree, their time, their memory. See proc(5).

CPU time is read from the CPU clock of each process (clock_getcpuclockid(3)): nanoseconds of the
whole thread group, of threads that have ended, and of the time slice that is still running. That is
the count behind /proc/PID/schedstat, which only shows the main thread and only past slices, and
behind utime + stime of /proc/PID/stat, which is rounded to 10 ms.
"""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class ProcError(Exception):
    """A text of /proc that does not say what it should."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident and proportional size in bytes."""

    rss: int
    pss: int


# Pure: texts in, numbers out.


def parse_parent(stat: str) -> int:
    """The parent's id from /proc/PID/stat. The name before it may hold spaces and brackets."""
    fields = stat[stat.rfind(")") + 1 :].split()
    if ")" not in stat or len(fields) < 2 or not fields[1].isdigit():
        raise ProcError(f"no parent in {stat[:80]!r}")
    return int(fields[1])


def parse_reaped_ticks(stat: str) -> int:
    """Ticks of the children that ended and were waited for: cutime + cstime, their own included."""
    fields = stat[stat.rfind(")") + 1 :].split()
    if ")" not in stat or len(fields) < 15 or not all(map(str.isdigit, fields[13:15])):
        raise ProcError(f"no times of children in {stat[:80]!r}")
    return int(fields[13]) + int(fields[14])


def parse_kib(text: str, name: str) -> int:
    """Bytes from a "Name:   123 kB" line of status or smaps_rollup."""
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        words = rest.split()
        if key == name and len(words) == 2 and words[0].isdigit() and words[1] == "kB":
            return int(words[0]) * 1024
    raise ProcError(f"no {name} in kB")


def parse_busy_ticks(stat: str, core: int) -> int:
    """Ticks a core was not idle, from /proc/stat: all but idle, iowait and the guest repeats."""
    for line in stat.splitlines():
        name, *counts = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, counts[:8])
            return user + nice + system + irq + softirq + steal
    raise ProcError(f"no core {core}")


def descendants(top: int, parents: Mapping[int, int]) -> frozenset[int]:
    """top and everything below it, from a table child -> parent."""
    found = {top}
    grown = True
    while grown:
        below = {child for child, parent in parents.items() if parent in found} - found
        grown = bool(below)
        found |= below
    return frozenset(found)


def clock_of(pid: int) -> int:
    """The clock id of a process's CPU time: the kernel's encoding, as glibc computes it."""
    return (~pid << 3) | 2


# The shell: reads.


def tree(top: int) -> frozenset[int]:
    """The living processes at and below top."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            text = _read(f"/proc/{name}/stat")
            if text:  # it may have ended since the listing
                parents[int(name)] = parse_parent(text)
    return descendants(top, parents)


def cpu_ns(pid: int) -> int:
    return time.clock_gettime_ns(clock_of(pid))


def cpu_ns_of(pids: Iterable[int]) -> int:
    """Their sum. Raises OSError when one has ended: its time would be missing without a word."""
    return sum(cpu_ns(pid) for pid in pids)


def spent_ns(top: int) -> int:
    """CPU of the whole tree, with its children that ended.

    Those are rounded to ticks. Raises OSError when one ends while we read: read again.
    """
    reaped = 0
    pids = tree(top)
    for pid in pids:
        reaped += parse_reaped_ticks(_read_now(f"/proc/{pid}/stat"))
    return cpu_ns_of(pids) + reaped * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def peak_rss(pid: int) -> int:
    """The most that a process ever had resident."""
    return parse_kib(_read_now(f"/proc/{pid}/status"), "VmHWM")


def command_line(pid: int) -> list[str]:
    return _read(f"/proc/{pid}/cmdline").split("\0")[:-1]


def memory(pid: int) -> Memory:
    return Memory(
        rss=parse_kib(_read(f"/proc/{pid}/status"), "VmRSS"),
        pss=parse_kib(_read(f"/proc/{pid}/smaps_rollup"), "Pss"),
    )


def core_busy_s(core: int) -> float:
    return parse_busy_ticks(_read("/proc/stat"), core) / os.sysconf("SC_CLK_TCK")


def pin(pids: Iterable[int], core: int) -> None:
    """Every thread of every process on one core, whatever it chose for itself."""
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {core})


def _read_now(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _read(path: str) -> str:
    try:
        return _read_now(path)
    except (FileNotFoundError, ProcessLookupError):
        return ""
