"""The ledger: several writers, one sum, and deaths at every moment."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from edge.counts import MAX_SERIES, Counts
from edge.ledger import AT_REST, HALF_BYTES, MOST_BYTES, PAGES_A_SLOT, Ledger, Page, Posted

HITS = ("hits",)
OPEN = ("open",)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with contextlib.closing(Ledger(1)) as made:
        yield made


def write(page: Page, hits: float, at: float = 1.0, open_now: float = 1.0) -> None:
    assert page.post(Counts({HITS: hits}, {OPEN: open_now}), at)


def total(ledger: Ledger) -> Counts:
    counts = Counts()
    for posted in ledger.read():
        counts.add(Counts.decode(posted.data))
    return counts


def test_workers_are_added_up_and_the_dead_stay_in_the_sum(ledger):
    first, second = ledger.take(), ledger.take()
    assert total(ledger) == Counts()
    write(first, 5)
    write(second, 7)
    assert total(ledger) == Counts({HITS: 12.0}, {OPEN: 2.0})
    write(first, 6)
    ledger.retire(first)
    assert total(ledger) == Counts({HITS: 13.0}, {OPEN: 1.0})  # who is dead has nothing open
    third = ledger.take()
    assert third.number == first.number
    assert total(ledger) == Counts({HITS: 13.0}, {OPEN: 1.0})
    write(third, 1)
    ledger.retire(third)
    ledger.retire(third)  # said twice is done once
    ledger.retire(second)
    assert total(ledger) == Counts({HITS: 14.0}, {})


@pytest.mark.parametrize("moment", range(PAGES_A_SLOT + 1))
@pytest.mark.parametrize("is_reused", [False, True])
def test_a_death_while_somebody_reads_is_counted_once(ledger, moment, is_reused, monkeypatch):
    """Before each page that a reader looks at, the one worker dies."""
    page = ledger.take()
    write(page, 5)
    looks = iter(range(PAGES_A_SLOT + 1))
    look = ledger._read

    def read(number: int) -> Posted | None:
        if next(looks) == moment:
            monkeypatch.undo()
            ledger.retire(page)
            if is_reused:
                write(ledger.take(), 0)
            monkeypatch.setattr(ledger, "_read", read)
        return look(number)

    monkeypatch.setattr(ledger, "_read", read)
    assert total(ledger).growing[HITS] == 5.0


def test_pages_are_bounded(ledger):
    pages = [ledger.take() for _ in range(PAGES_A_SLOT)]
    assert not ledger.has_room(1)
    with pytest.raises(BlockingIOError):
        ledger.take()
    ledger.retire(pages[3])
    assert ledger.has_room(1)
    assert not ledger.has_room(2)
    assert ledger.take().number == 3


@pytest.mark.parametrize(
    ("length", "is_kept"), [(0, True), (MOST_BYTES, True), (MOST_BYTES + 1, False)]
)
def test_what_is_too_much_changes_nothing(ledger, length, is_kept):
    page = ledger.take()
    write(page, 5)
    posted = Posted(page.serial, 1.0, b"#" * length)
    assert ledger.post(page.number, posted) is is_kept
    assert (ledger.read()[-1] == posted) is is_kept
    if not is_kept:
        assert total(ledger).growing == {HITS: 5.0}


@pytest.mark.parametrize(
    ("count", "name"),
    [(MAX_SERIES // 2 - 100, ""), (1000, "a long name of a series: " + "x" * 70)],  # many, long
)
def test_retired_numbers_are_bounded(ledger, count, name):
    """A worker that counts nonsense costs its own numbers, and nobody else's."""
    for worker in range(8):
        page = ledger.take()
        nonsense = {(f"{worker}-{number}" + name,): 1.0 for number in range(count)}
        assert page.post(Counts({HITS: 1.0} | nonsense, {}), 1.0)
        assert ledger.retire(page) is (worker < 2)
    page = ledger.take()
    assert not page.post(Counts(dict.fromkeys([(str(n),) for n in range(MAX_SERIES + 1)], 0.0)), 1)
    write(page, 5)
    assert ledger.retire(page)
    assert total(ledger).growing[HITS] == 7.0


def test_a_writer_killed_in_the_middle_leaves_its_last_numbers(ledger):
    page = ledger.take()
    for hits in (5, 6, 7):
        write(page, hits)
        turn = ledger._memory[0]
        other = 4096 + (turn + 1) % 2 * HALF_BYTES
        ledger._memory[other : other + 40] = b"\xff" * 40  # begun, and not turned to
        assert total(ledger).growing == {HITS: float(hits)}


def test_damage_is_nothing_and_harms_nobody(ledger):
    page, other = ledger.take(), ledger.take()
    write(page, 5)
    write(other, 3)
    for half in (4096, 4096 + HALF_BYTES):
        ledger._memory[half : half + 200] = b"\xff" * 200
    assert total(ledger).growing == {HITS: 3.0}
    ledger.retire(page)
    assert total(ledger).growing == {HITS: 3.0}


def test_silence(ledger):
    assert ledger.silent_s(100.0) == 0.0
    page, other = ledger.take(), ledger.take()
    assert ledger.silent_s(100.0) == 0.0  # they have not begun
    write(page, 1, at=98.0)
    write(other, 1, at=91.0)
    assert ledger.silent_s(100.0) == 9.0
    write(other, 1, at=AT_REST)
    assert ledger.silent_s(100.0) == 2.0
    ledger.retire(page)
    assert ledger.silent_s(100.0) == 0.0


def test_numbers_of_another_process_never_go_back(ledger):
    page = ledger.take()
    last = 3000
    pid = os.fork()
    if pid == 0:
        for number in range(last + 1):
            page.post(Counts({HITS: number, ("twice",): 2 * number}), 1.0)
        os._exit(0)
    seen = 0.0
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        found = total(ledger).growing
        assert found.get(HITS, 0.0) >= seen
        seen = found.get(HITS, 0.0)
        assert found.get(("twice",), 0.0) == 2 * seen
    assert total(ledger).growing[HITS] == last
