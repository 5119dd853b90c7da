"""`halftone ladder SOURCE` as a program that begins and ends: what it costs with all it starts."""

import os
import subprocess
import sys
import time

from tests.bench.contestants import NoPictureError
from tests.bench.machine import REPOSITORY
from tests.bench.render_cases import LADDER_COMMAND

WITHIN_S = 120.0
POLL_S = 0.01


def is_known() -> bool:
    command = [sys.executable, "-m", "edge.cli", "--help"]
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30, cwd=REPOSITORY
    )
    return lists_command(finished.stdout)


def lists_command(help_text: str) -> bool:
    return any(line.split()[:1] == ["ladder"] for line in help_text.splitlines())


def cpu_ms(source: str, folder: str, core: int) -> float:
    """One run that writes below folder, which is new. Raises NoPictureError."""
    os.makedirs(folder)
    command = [sys.executable, "-m", "edge.cli", "ladder", source, "--out", f"{folder}/rungs"]
    with open(f"{folder}/ladder.out", "w+b") as output:
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env={**os.environ, "XDG_CACHE_HOME": folder},
        )
        deadline = time.monotonic() + WITHIN_S
        # wait4 gives nanoseconds' worth of this child's tree; the sum of all children has ticks
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        while pid == 0:
            if time.monotonic() > deadline:
                child.kill()
            time.sleep(POLL_S)
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            output.seek(0)
            words = output.read()[-300:].decode(errors="replace")
            raise NoPictureError(f"{LADDER_COMMAND} ended with {child.returncode}: {words}")
    return (usage.ru_utime + usage.ru_stime) * 1000
