"""What a check of the cache asks the index, in all homes: it looks and changes nothing."""

import pytest

from cache.index.interface import MAX_MEMBERS, Failure, Index, Known, Member, Overtaken
from tests.contract.homes import OTHER, RECORD, SOURCE, Home, digest, run


def test_look_up_answers_what_is_there_and_makes_nothing(home: Home) -> None:
    async def test(index: Index) -> None:
        assert await index.look_up(SOURCE) is None
        assert await index.look_up(SOURCE) is None  # it was not opened by that
        token = (await index.open_source(SOURCE, head=7)).token
        assert await index.look_up(SOURCE) == Known(token, ())
        await index.put_source(SOURCE, token, RECORD)
        for number in (1, 2):
            await index.publish(SOURCE, token, digest(number), 5000)
        known = await index.look_up(SOURCE)
        assert known is not None
        assert (known.token, set(known.digests)) == (token, {digest(1), digest(2)})
        assert await index.look_up(OTHER) is None
        sight = await index.open_source(SOURCE)
        assert (sight.token, sight.record, sight.applied) == (token, RECORD, 7)
        purged = await index.purge(SOURCE)
        assert await index.look_up(SOURCE) == Known(purged.token, ())

    run(home, test)


def test_listed_in_pages(home: Home) -> None:
    async def test(index: Index) -> None:
        assert not await index.listed(b"", 10)
        for source in (SOURCE, OTHER):
            token = (await index.open_source(source)).token
            for number in range(5):
                await index.publish(source, token, digest(number), 1)
        found: list[Member] = []
        while page := await index.listed(found[-1].place if found else b"", 3):
            assert len(page) <= 3
            found += page
        if not index.exclusive:
            assert await index.listed(b"", 3) is None
            return
        named = [(member.source, member.digest) for member in found]
        assert sorted(named) == sorted(
            (source.digest, digest(number)) for source in (SOURCE, OTHER) for number in range(5)
        )
        assert await index.listed(found[3].place, 100) == tuple(found[4:])
        # What is taken away meanwhile moves nothing else.
        await index.forget(SOURCE, digest(0))
        await index.purge(OTHER)
        left = await index.listed(b"", 100)
        assert left == tuple(
            m for m in found if m.source == SOURCE.digest and m.digest != digest(0)
        )

    run(home, test)


def test_unlist(home: Home) -> None:
    async def test(index: Index) -> None:
        for source in (SOURCE, OTHER):
            token = (await index.open_source(source)).token
            for number in (1, 2, 3):
                await index.publish(source, token, digest(number), 1)
        unknown = Member(b"x" * 20, digest(1), b"")
        await index.unlist(
            [
                Member(SOURCE.digest, digest(1), b""),
                Member(OTHER.digest, digest(2), b""),
                Member(OTHER.digest, digest(9), b""),
                unknown,
            ]
        )
        assert set(await index.members(SOURCE)) == {digest(2), digest(3)}
        assert set(await index.members(OTHER)) == {digest(1), digest(3)}
        await index.unlist([])

    run(home, test)


def test_overtake_refuses_what_is_being_filled_where_nothing_is_stored(home: Home) -> None:
    async def test(index: Index) -> None:
        assert await index.overtake(SOURCE) == Overtaken(is_bare=True)
        assert await index.look_up(SOURCE) is None  # it was not opened by that
        token = (await index.open_source(SOURCE, head=7)).token
        for _ in range(3):
            overtaken = await index.overtake(SOURCE)
            assert overtaken.is_bare
            assert overtaken.token is not None
            assert token.is_older_than(overtaken.token)
            assert overtaken.token.is_raised
            assert not await index.publish(SOURCE, token, digest(1), 5)
            assert not await index.put_source(SOURCE, token, RECORD)
            token = overtaken.token
        sight = await index.open_source(SOURCE)
        assert (sight.token, sight.record, sight.applied) == (token, None, 7)
        assert await index.publish(SOURCE, token, digest(1), 5)
        assert await index.look_up(SOURCE) == Known(token, (digest(1),))

    run(home, test)


@pytest.mark.parametrize("what", ["entry", "record", "failure"])
def test_overtake_changes_nothing_where_something_is_stored(home: Home, what: str) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        match what:
            case "entry":
                await index.publish(SOURCE, token, digest(1), 5)
            case "record":
                await index.put_source(SOURCE, token, RECORD)
            case _:
                failure = Failure("missing", int(home.clock.now) + 60)
                await index.put_failure(SOURCE, token, digest(1), failure)
        assert await index.overtake(SOURCE) == Overtaken(is_bare=False)
        assert (await index.open_source(SOURCE)).token == token
        assert await index.overtake(OTHER) == Overtaken(is_bare=True)
        await index.purge(SOURCE)
        assert (await index.overtake(SOURCE)).is_bare

    run(home, test)


def test_what_one_node_has_evicted_another_one_may_have(home: Home) -> None:
    async def test(index: Index) -> None:
        token = (await index.open_source(SOURCE)).token
        for number in range(MAX_MEMBERS + 3):
            assert await index.publish(SOURCE, token, digest(number), 5)
        assert len(await index.members(SOURCE)) == MAX_MEMBERS
        for number in range(MAX_MEMBERS):
            await index.forget(SOURCE, digest(number))
        assert await index.members(SOURCE) == ()
        known = await index.look_up(SOURCE)
        assert known == Known(token, ())
        assert (await index.overtake(SOURCE)).is_bare == index.exclusive
        assert (await index.purge(SOURCE)).digests == ()

    run(home, test)
