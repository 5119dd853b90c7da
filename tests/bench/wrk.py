"""The load generator wrk: its command line, and the report that wrk.lua prints at the end.

wrk is a closed loop: it sends the next request when the answer has come, so its latencies compare
servers at their own full speed. They do not say what a user waits at a given rate.
"""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrk.lua")
MARK = "=report "
GRACE_S = 60  # beyond the asked time: start, the slowest response, the report
RESPONSE_TIMEOUT_S = 30  # wrk's default of 2 s would count a 500 MB answer as an error


class WrkError(Exception):
    """wrk could not run, or what it reports is no measurement."""


@dataclass(frozen=True, slots=True)
class Report:
    """What wrk counted. Responses of status 400 and above are in status."""

    requests: int
    bytes: int
    duration_us: int
    connect: int
    read: int
    write: int
    status: int
    timeout: int
    p50_us: int
    p99_us: int
    p999_us: int

    @property
    def errors(self) -> int:
        return self.connect + self.read + self.write + self.status + self.timeout

    @property
    def rps(self) -> float:
        return self.requests * 1e6 / self.duration_us


@dataclass(frozen=True, slots=True)
class Pool:
    """Prepared requests: a file, and how to walk it. A seed draws at random, None cycles."""

    path: str
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    report: Report
    cpu_s: float  # the generator's own
    wall_s: float


def parse_report(output: str) -> Report:
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    if len(lines) != 1:
        raise WrkError(f"{len(lines)} reports in {output[-400:]!r}")
    try:
        values = json.loads(lines[0][len(MARK) :])
    except ValueError as error:
        raise WrkError(f"unreadable report {lines[0][:400]!r}") from error
    names = [field.name for field in fields(Report)]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise WrkError(f"unexpected report {lines[0][:400]!r}")
    if not all(isinstance(value, int) and value >= 0 for value in values.values()):
        raise WrkError(f"not all counts in {lines[0][:400]!r}")
    return Report(**values)


def check_report(report: Report, body_bytes: float) -> None:
    """Raises WrkError unless every answer was good and whole.

    body_bytes is the least that an answer carries on average; what wrk read must cover it.
    """
    if report.errors:
        raise WrkError(
            f"{report.errors} errors: connect {report.connect}, read {report.read}, "
            f"write {report.write}, status {report.status}, timeout {report.timeout}"
        )
    if report.duration_us == 0 or report.bytes == 0:
        raise WrkError("nothing was transferred")
    if report.bytes < report.requests * body_bytes:
        raise WrkError(
            f"{report.requests} answers in {report.bytes} bytes; "
            f"{body_bytes:.0f} bytes of body each were expected"
        )


def command(url: str, connections: int, seconds: float, pool: Pool | None) -> list[str]:
    # wrk takes whole seconds only
    words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    words += ["--timeout", f"{RESPONSE_TIMEOUT_S}s", "--latency", "-s", SCRIPT, url]
    if pool is None:
        return words
    words += ["--", pool.path]
    return [*words, "cycle"] if pool.seed is None else [*words, "random", str(pool.seed)]


def run(words: Sequence[str], core: int, seconds: float) -> Run:
    """Runs wrk on one core to its end. Raises WrkError."""
    before = os.times()
    began = time.monotonic()
    try:
        finished = subprocess.run(
            ["taskset", "-c", str(core), *words],
            capture_output=True,
            text=True,
            timeout=seconds + GRACE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WrkError(f"wrk did not end within {seconds + GRACE_S} s") from error
    wall_s = time.monotonic() - began
    after = os.times()
    if finished.returncode != 0:
        raise WrkError(f"wrk ended with {finished.returncode}: {finished.stderr[-400:]}")
    cpu_s = after.children_user + after.children_system
    cpu_s -= before.children_user + before.children_system
    return Run(parse_report(finished.stdout), cpu_s, wall_s)
