"""What is remembered of derivatives that could not be made, in both homes."""

import pytest

from cache.index.interface import MAX_FAILURES, Failure, Index, Sight, Token
from tests.contract.homes import OTHER, RECORD, SOURCE, Home, digest, run

NOW = 1_795_000_000
FAILURE = Failure("corrupt", NOW + 60, "no SOI marker")


def test_a_failure_round_trips(home: Home) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        strange = Failure("", 2**40, 'ä "[\n\0')
        assert await index.put_failure(SOURCE, token, digest(1), FAILURE)
        assert await index.put_failure(SOURCE, token, digest(2), strange)
        await index.put_source(SOURCE, token, RECORD)
        expected = {digest(1): FAILURE, digest(2): strange}
        assert await index.open_source(SOURCE) == Sight(token, RECORD, 0, expected)
        assert (await index.open_source(OTHER)).failures == {}
        later = Failure("poison", NOW + 600)
        assert await index.put_failure(SOURCE, token, digest(1), later)
        assert (await index.open_source(SOURCE)).failures[digest(1)] == later

    run(home, test)


def test_detail_is_cut(home: Home) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        await index.put_failure(SOURCE, token, digest(1), Failure("corrupt", NOW + 60, "x" * 999))
        assert (await index.open_source(SOURCE)).failures[digest(1)].detail == "x" * 200

    run(home, test)


def test_a_failure_is_over_when_its_time_is(home: Home) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        for number, until in enumerate((NOW - 1, NOW, NOW + 1, NOW + 60)):
            assert await index.put_failure(SOURCE, token, digest(number), Failure("k", until))
        assert set((await index.open_source(SOURCE)).failures) == {digest(2), digest(3)}
        home.clock.now = NOW + 1
        assert set((await index.open_source(SOURCE)).failures) == {digest(3)}
        home.clock.now = NOW + 60
        assert (await index.open_source(SOURCE)).failures == {}

    run(home, test)


@pytest.mark.parametrize("how", ["purge", "order"])
def test_a_purge_forgets_failures(home: Home, how: str) -> None:
    async def test(index: Index) -> None:
        old = (await index.open_source(SOURCE)).token
        await index.put_failure(SOURCE, old, digest(1), FAILURE)
        if how == "purge":
            await index.purge(SOURCE)
        sight = await index.open_source(SOURCE, barrier=0 if how == "purge" else 1)
        assert old.is_older_than(sight.token)
        assert sight.failures == {}
        assert not await index.put_failure(SOURCE, old, digest(1), FAILURE)
        assert (await index.open_source(SOURCE, barrier=1)).failures == {}

    run(home, test)


def test_nothing_is_remembered_under_a_wrong_token(home: Home) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        for wrong in (
            Token("f" * 16, token.generation),
            Token(token.epoch, token.generation + 1),
            Token(token.epoch, 0),
        ):
            assert not await index.put_failure(SOURCE, wrong, digest(1), FAILURE)
        assert not await index.put_failure(OTHER, token, digest(1), FAILURE)
        assert (await index.open_source(SOURCE)).failures == {}

    run(home, test)


def test_failures_are_bounded_and_old_ones_make_room(home: Home) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        for number in range(MAX_FAILURES):
            until = NOW + (10 if number < 5 else 60)
            assert await index.put_failure(SOURCE, token, digest(number), Failure("k", until))
        assert await index.put_failure(SOURCE, token, digest(100), FAILURE)  # no room
        assert await index.put_failure(SOURCE, token, digest(63), FAILURE)  # has its place
        failures = (await index.open_source(SOURCE)).failures
        assert set(failures) == {digest(number) for number in range(MAX_FAILURES)}
        assert failures[digest(63)] == FAILURE
        home.clock.now = NOW + 10
        assert await index.put_failure(SOURCE, token, digest(100), FAILURE)
        expected = {digest(number) for number in range(5, MAX_FAILURES)} | {digest(100)}
        assert set((await index.open_source(SOURCE)).failures) == expected

    run(home, test)
