"""The texts of /proc, and the two clocks that must agree."""

import os
import sys
import time

import pytest

from tests.bench import proc

STAT = "2 1 0 0 -1 4194304 2848 6625 0 0 212 34 0 0 20 0 1 0 123 456 789"

PARENTS = [
    (f"7 (nginx) S {STAT}", 2),
    # names are what the program says they are
    (f"7 (a b) S {STAT}", 2),
    (f"7 (evil) R 999 (x) S {STAT}", 2),
    (f"7 () S {STAT}", 2),
]


@pytest.mark.parametrize(("text", "parent"), PARENTS)
def test_parent(text: str, parent: int) -> None:
    assert proc.parse_parent(text) == parent


@pytest.mark.parametrize("text", ["", "7 nginx S 2 1", "7 (nginx)", "7 (nginx) S", "7 (n) S x 1"])
def test_no_parent(text: str) -> None:
    with pytest.raises(proc.ProcError):
        proc.parse_parent(text)


def test_time_of_ended_children() -> None:
    # utime 212, stime 34, then cutime 5, cstime 7
    text = f"9 (a) b) S {STAT}".replace("212 34 0 0", "212 34 5 7")
    assert proc.parse_reaped_ticks(text) == 12
    for broken in ("", "9 (n) S 1 2", text.replace(" 5 7 ", " x 7 ")):
        with pytest.raises(proc.ProcError):
            proc.parse_reaped_ticks(broken)


def test_kib() -> None:
    text = "Name:\tVmRSS\nVmPeak:\t   99 kB\nVmRSS:\t    1234 kB\nRssAnon:\t 7 kB\nThreads:\t3\n"
    assert proc.parse_kib(text, "VmRSS") == 1234 * 1024
    assert proc.parse_kib(text, "RssAnon") == 7 * 1024
    for missing in ("Rss", "Pss", "Threads", "Name"):
        with pytest.raises(proc.ProcError):
            proc.parse_kib(text, missing)


def test_busy_ticks_leave_out_idle_waiting_and_guests() -> None:
    text = (
        "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 4 1000 2000 8 16 32 64 128\ncpu10 7 0 0 0 0 0 0 0 0 0\n"
    )
    assert proc.parse_busy_ticks(text, 0) == 1 + 2 + 4 + 8 + 16 + 32
    assert proc.parse_busy_ticks(text, 10) == 7
    with pytest.raises(proc.ProcError):
        proc.parse_busy_ticks(text, 1)


TREES = [
    ({}, {5}),
    ({5: 1, 6: 5, 7: 6, 8: 1}, {5, 6, 7}),
    ({9: 7, 7: 6, 6: 5}, {5, 6, 7, 9}),  # children before their parents
    ({1: 0, 5: 1}, {5}),
    ({6: 5, 5: 6}, {5, 6}),  # ids reused while we read: it must still end
]


@pytest.mark.parametrize(("parents", "expected"), TREES)
def test_descendants(parents: dict[int, int], expected: set[int]) -> None:
    assert proc.descendants(5, parents) == expected


def test_clock_of_a_process_is_its_cpu_time() -> None:
    before = time.process_time_ns()
    read = proc.cpu_ns(os.getpid())
    assert before <= read <= time.process_time_ns()


def test_own_process_is_found_and_measured() -> None:
    pid = os.getpid()
    assert pid in proc.tree(pid)
    assert pid in proc.tree(os.getppid())
    memory = proc.memory(pid)
    assert 0 < memory.pss <= memory.rss


def test_an_ended_process_is_not_counted_as_zero() -> None:
    pid = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(pid, 0)
    with pytest.raises(OSError):
        proc.cpu_ns_of({pid})


def test_a_child_that_ended_is_counted() -> None:
    before = proc.spent_ns(os.getpid())
    pid = os.spawnlp(
        os.P_NOWAIT, "sh", "sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
    )
    _, _, usage = os.wait4(pid, 0)
    used_s = (proc.spent_ns(os.getpid()) - before) / 1e9
    assert used_s >= usage.ru_utime + usage.ru_stime - 0.02  # ticks


def test_command_line_and_peak_of_our_own() -> None:
    assert proc.command_line(os.getpid()) == sys.orig_argv
    assert proc.peak_rss(os.getpid()) >= proc.memory(os.getpid()).rss // 2
