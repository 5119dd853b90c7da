"""Workers and their stages, without processes; pauses after deaths."""

from pathlib import Path
from unittest.mock import sentinel

import pytest

from edge.config import Config
from edge.crew import LIVED_S, LONGEST_PAUSE_S, NEVER, Crew, Stage, Worker, pause_after
from edge.seat import Link, Message, Word


@pytest.fixture
def crew(tmp_path: Path) -> Crew:
    return Crew(Config.for_folder(str(tmp_path), environ={"HOME": "/x"}), (sentinel.a, sentinel.b))


def a_worker(slot: int = 0, started: float = 100.0) -> Worker:
    link: Link = sentinel.link
    return Worker(slot, 1, -1, link, started, started, deadline=started + 1)


@pytest.mark.parametrize(
    ("stage", "word", "then"),
    [
        (Stage.PREPARING, Word.PREPARED, Stage.PREPARED),
        (Stage.OPENING, Word.READY, Stage.SERVING),
        (Stage.RELEASING, Word.RELEASED, Stage.LEAVING),
        # said at the wrong time, or twice
        (Stage.PREPARING, Word.READY, Stage.PREPARING),
        (Stage.PREPARED, Word.PREPARED, Stage.PREPARED),
        (Stage.SERVING, Word.PREPARED, Stage.SERVING),
        (Stage.RELEASING, Word.READY, Stage.RELEASING),
        (Stage.LEAVING, Word.RELEASED, Stage.LEAVING),
        (Stage.UNWANTED, Word.PREPARED, Stage.UNWANTED),
        (Stage.SERVING, Word.ALIVE, Stage.SERVING),
    ],
)
def test_words_lead_from_stage_to_stage(stage, word, then):
    worker = a_worker()
    worker.enter(stage, 100)
    worker.hear(Message(word), 105)
    assert worker.stage is then
    assert worker.heard == 105
    is_bounded = then in (Stage.PREPARING, Stage.OPENING, Stage.RELEASING, Stage.LEAVING)
    assert (worker.deadline < NEVER) == is_bounded


def test_a_reason_is_kept():
    worker = a_worker()
    worker.hear(Message(Word.FAILED, "no room"), 1)
    assert (worker.reason, worker.stage) == ("no room", Stage.PREPARING)


def test_a_crew_is_whole_or_not(crew):
    assert not crew.is_all(Stage.PREPARING)
    crew.workers[0] = a_worker(0)
    assert not crew.is_all(Stage.PREPARING)
    crew.workers[1] = a_worker(1)
    assert crew.is_all(Stage.PREPARING)
    crew.workers[1].enter(Stage.PREPARED, 1)
    assert not crew.is_all(Stage.PREPARING)
    assert crew.has(crew.workers[1])
    assert not crew.has(a_worker(1))


def test_pauses_double_and_are_forgotten(crew):
    def dies(slot: int, after_s: float) -> float:
        worker = crew.workers[slot] = a_worker(slot)
        worker.enter(Stage.SERVING, worker.started)
        pause_s = crew.lose(worker, worker.started + after_s)
        assert crew.vacancies.pop(slot) == worker.started + after_s + pause_s
        return pause_s

    assert [dies(0, 1) for _ in range(4)] == [0.1, 0.2, 0.4, 0.8]
    assert dies(1, 1) == 0.1  # of a slot, not of the crew
    assert dies(0, LIVED_S + 1) == 0.1
    assert [pause_after(n) for n in (1, 8, 10_000)] == [0.1, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
