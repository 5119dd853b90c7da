"""What a reader must know of the machine and the commit to judge a figure."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def facts(core: int) -> Mapping[str, str]:
    """Date, commit, machine and kernel. core is the one that servers are measured on."""
    shared = "two threads of one core" if _shares_a_core(core) else "two cores"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": f"{_cpu_model()}, {os.cpu_count()} CPUs ({shared} used), {_memory_gib()} GiB",
        "kernel": platform.release(),
    }


def _commit() -> str:
    command = ["git", "-C", REPOSITORY, "describe", "--always", "--dirty", "--exclude", "*"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return finished.stdout.strip() or "unknown"


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _shares_a_core(core: int) -> bool:
    path = f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip() != str(core)
    except OSError:
        return False


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
