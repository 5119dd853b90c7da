"""A worker's tenure: every word of the master, and what a signal or its end means."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from edge.seat import Link, Word
from edge.tenure import DRAIN_GRACE_S, HASTY_GRACE_S, Tenure

HEARD = (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1)


def run(test: Callable[[Tenure, Link, list[str]], Awaitable[None]]) -> None:
    async def main() -> None:
        ours, theirs = Link.pair()
        reopened: list[str] = []
        tenure = Tenure(ours, lambda: reopened.append("log"))
        loop = asyncio.get_running_loop()
        tenure.hear(loop)
        try:
            await test(tenure, theirs, reopened)
        finally:
            tenure.stop_hearing(loop)
            theirs.close()
            ours.close()

    before = {number: signal.getsignal(number) for number in HEARD}
    try:
        asyncio.run(main())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def left(tenure: Tenure) -> float:
    return tenure.ends_at - asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("word", "detail", "grace_s", "is_released", "ended"),
    [
        (Word.DRAIN, "", DRAIN_GRACE_S, False, set()),
        (Word.HASTEN, "", HASTY_GRACE_S, False, set()),
        (Word.RELEASE, "", DRAIN_GRACE_S, True, set()),
        (Word.RELEASE, "0 2", DRAIN_GRACE_S, True, {0, 2}),
    ],
)
def test_words_that_end_it(
    word: Word, detail: str, grace_s: float, is_released: bool, ended: set[int]
) -> None:
    async def test(tenure: Tenure, master: Link, reopened: list[str]) -> None:
        assert tenure.left_s() == 0.0  # a start that fails waits for nothing
        master.send(word, detail)
        async with asyncio.timeout(5):
            await tenure.stopping.wait()
        assert tenure.may_go.is_set()  # whoever waits to begin learns of the end
        assert grace_s - 1 < left(tenure) <= grace_s
        assert 0 < tenure.left_s() <= grace_s
        assert (tenure.is_released, tenure.ended) == (is_released, ended)
        assert tenure.is_draining() is not is_released

    run(test)


def test_what_does_not_end_it() -> None:
    async def test(tenure: Tenure, master: Link, reopened: list[str]) -> None:
        master.send(Word.REOPEN)
        master.send(Word.READY)  # a worker's own word means nothing here
        master.send(Word.GO)
        async with asyncio.timeout(5):
            await tenure.may_go.wait()
        assert reopened == ["log"]
        assert not tenure.stopping.is_set()
        assert not tenure.is_draining()

    run(test)


def test_the_end_comes_nearer_and_never_later() -> None:
    async def test(tenure: Tenure, master: Link, reopened: list[str]) -> None:
        master.send(Word.HASTEN)
        master.send(Word.RELEASE, "1")  # too late: nobody takes the place of what ends
        async with asyncio.timeout(5):
            await tenure.stopping.wait()
        assert left(tenure) <= HASTY_GRACE_S
        assert not tenure.is_released

    run(test)


def test_signals() -> None:
    async def test(tenure: Tenure, master: Link, reopened: list[str]) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await tenure.stopping.wait()
        assert reopened == ["log"]
        assert left(tenure) > HASTY_GRACE_S

    run(test)


def test_a_master_that_is_gone() -> None:
    async def test(tenure: Tenure, master: Link, reopened: list[str]) -> None:
        master.close()
        async with asyncio.timeout(5):
            await tenure.stopping.wait()
        assert left(tenure) <= HASTY_GRACE_S

    run(test)
