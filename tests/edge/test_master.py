"""The master by itself, above workers that do as their configuration's name says."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from edge.ledger import PAGES_A_SLOT
from tests.peers.node import END_S, Node, quote, running

# What a worker may do wrong, each at the moment in which it would hurt.
WORK = """
import logging, os, select, signal, sys, time
from edge.config import load
from edge.master import Master
from edge.seat import Word

logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s", level=logging.INFO)

def work(config, seat):
    kind = config.name
    if kind == "refuses":
        seat.link.send(Word.FAILED, "it has its reasons")
        return 1
    if kind == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "raises":
        raise RuntimeError("unforeseen")
    seat.link.send(Word.PREPARED)
    while True:
        select.select([seat.link], [], [])
        messages, is_there = seat.link.receive()
        for message in messages:
            os.write(2, f"worker {kind} {seat.slot} {message.word}\\n".encode())
            match message.word:
                case Word.GO if kind == "breaks":
                    return 3
                case Word.GO if kind == "breaks-once" and not os.path.exists(sys.argv[1] + ".b"):
                    open(sys.argv[1] + ".b", "w").close()
                    return 3
                case Word.GO:
                    seat.link.send(Word.READY)
                case Word.RELEASE if kind == "clings":
                    time.sleep(60)
                case Word.RELEASE:
                    seat.link.send(Word.RELEASED)
                    if kind != "lingers":
                        return 0
                case Word.DRAIN | Word.HASTEN:
                    return 0
        if not is_there:
            return 9

import edge.crew
edge.crew._LIMITS[edge.crew.Stage.RELEASING] = 0.2
config = load(sys.argv[1], os.environ, {})
sys.exit(Master(config, work, slots=int(sys.argv[2]), environ=os.environ).run())
"""


def write(folder: Path, name: str = "good") -> str:
    file = folder / "halftone.toml"
    file.write_text(
        'listen = ["127.0.0.1:0"]\nadmin = "127.0.0.1:0"\n'
        f"name = {quote(name)}\n[cache]\npath = {quote(folder / 'cache')}\n"
        f"[[site]]\nroot = {quote(folder)}\n"
    )
    return str(file)


def master(folder: Path, name: str = "good", slots: int = 1, **more: bool):  # type: ignore[no-untyped-def]
    file = write(folder, name)
    return running([file, str(slots)], command=[sys.executable, "-c", WORK], **more)


def hang_up(edge: Node, folder: Path, name: str) -> None:
    write(folder, name)
    edge.process.send_signal(signal.SIGHUP)


def orders(edge: Node) -> list[str]:
    """What workers heard, without the number of their slot."""
    said = [re.match(r"worker (\S+) \d+ (\S+)", line) for line in edge.log]
    return [f"{match[1]} {match[2]}" for match in said if match]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("refuses", "halftone: it has its reasons"),
        ("dies", "halftone: a worker ended: signal SIGSEGV"),
        ("raises", "halftone: a worker ended: exit status 1"),
        ("breaks", "halftone: a worker ended: exit status 3"),
    ],
)
def test_a_first_start_that_fails_ends_the_master(tmp_path, name, reason):
    with (
        pytest.raises(AssertionError, match="did not start") as failure,
        master(tmp_path, name, 2),
    ):
        pass
    assert reason in str(failure.value)
    assert "listening on" not in str(failure.value)


def test_the_order_of_a_reload(tmp_path):
    with master(tmp_path, slots=2) as edge:
        for number in range(5):
            hang_up(edge, tmp_path, f"name{number}")
            edge.wait_for("is in effect")
    assert orders(edge)[:6] == [
        *["good go"] * 2,
        *["good release"] * 2,  # all of them, before the first of the new ones goes
        *["name0 go"] * 2,
    ]
    assert sum("listening on" in line for line in edge.log) == 1


def test_a_reload_waits_until_there_is_room_for_another_crew(tmp_path):
    with master(tmp_path, "lingers") as edge:
        for _ in range(PAGES_A_SLOT - 1):
            hang_up(edge, tmp_path, "lingers")
            edge.wait_for("is in effect")
        hang_up(edge, tmp_path, "good")
        edge.wait_for("the reload waits")
        assert len(edge.workers()) == PAGES_A_SLOT
        os.kill(edge.workers()[0], signal.SIGKILL)
        edge.wait_for("is in effect")
        assert orders(edge)[-1] == "good go"


@pytest.mark.parametrize("name", ["refuses", "dies"])
def test_a_crew_that_does_not_come_so_far_costs_nothing(tmp_path, name):
    with master(tmp_path, slots=2) as edge:
        for _ in range(2):
            hang_up(edge, tmp_path, name)
            edge.wait_for("the old configuration stays")
        hang_up(edge, tmp_path, "better")
        edge.wait_for("is in effect")
    assert orders(edge)[:3] == ["good go", "good go", "good release"]


def test_a_crew_that_breaks_late_is_followed_by_what_served_before(tmp_path):
    with master(tmp_path) as edge:
        hang_up(edge, tmp_path, "breaks")
        edge.wait_for("the old configuration stays: a worker ended: exit status 3")
        edge.wait_for("worker good 0 go")
        edge.wait_for("is in effect")
        hang_up(edge, tmp_path, "better")
        edge.wait_for("worker good 0 release")
        edge.wait_for("worker better 0 go")
        edge.wait_for("is in effect")


def test_what_served_before_is_tried_until_it_serves(tmp_path):
    with master(tmp_path, "good") as edge:
        hang_up(edge, tmp_path, "breaks-once")
        edge.wait_for("the old configuration stays")
        edge.wait_for("worker good 0 go")
        edge.wait_for("is in effect")
        hang_up(edge, tmp_path, "breaks-once")  # this time it does not
        edge.wait_for("worker breaks-once 0 go")
        edge.wait_for("is in effect")


def test_one_that_clings_to_the_index_is_killed(tmp_path):
    with master(tmp_path, "clings") as edge:
        hang_up(edge, tmp_path, "better")
        edge.wait_for("was releasing for too long")
        edge.wait_for("worker better 0 go")
        edge.wait_for("is in effect")


def test_hang_ups_during_a_reload_make_one_more(tmp_path):
    with master(tmp_path) as edge:
        write(tmp_path, "better")
        for _ in range(20):
            edge.process.send_signal(signal.SIGHUP)
        edge.wait_for("is in effect")
        edge.process.send_signal(signal.SIGUSR1)
        edge.wait_for("worker better 0 reopen")
    assert 1 <= sum("is in effect" in line for line in edge.log) <= 20


def test_pauses_between_deaths_double(tmp_path):
    with master(tmp_path) as edge:
        workers = Path(f"/proc/{edge.process.pid}/task/{edge.process.pid}/children")
        for pause in ("0.1", "0.2", "0.4"):
            (pid,) = map(int, workers.read_text().split())
            os.kill(pid, signal.SIGKILL)
            edge.wait_for(f"signal SIGKILL; another one in {pause} s")
            edge.wait_for("worker good 0 go")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_the_end_in_the_middle_of_a_reload(tmp_path, number):
    with master(tmp_path, slots=2, is_ended_by_test=True) as edge:
        hang_up(edge, tmp_path, "better")
        edge.process.send_signal(number)
        assert edge.process.wait(END_S) == 0


def test_interrupted_twice(tmp_path):
    with master(tmp_path, is_ended_by_test=True) as edge:
        workers = Path(f"/proc/{edge.process.pid}/task/{edge.process.pid}/children")
        (pid,) = map(int, workers.read_text().split())
        os.kill(pid, signal.SIGSTOP)  # it will not drain
        edge.process.send_signal(signal.SIGINT)
        edge.wait_for("SIGINT: draining")  # two that are pending at once are one
        edge.process.send_signal(signal.SIGINT)
        assert edge.process.wait(END_S) == 128 + signal.SIGINT
