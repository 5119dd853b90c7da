"""Leases and parcels, in both homes. Their times pass for real: a lease of an hour does not end
during a test, one of 20 ms is waited for."""

import asyncio

import pytest

from cache.errors import DoesNotFit, IndexUnavailable
from cache.index.interface import MAX_PARCEL_BYTES, Delivery, Index
from tests.contract.homes import OTHER, SOURCE, Home, run

NAME = b"n" * 20
LONG, SHORT = 3600.0, 0.02
IDLE = Delivery(is_led=False)


def test_one_leads_and_the_others_are_told(home: Home) -> None:
    async def test(index: Index) -> None:
        assert await index.delivery(SOURCE, NAME) == IDLE
        assert await index.lease(SOURCE, NAME, "one", LONG)
        assert not await index.lease(SOURCE, NAME, "two", LONG)
        assert not await index.lease(SOURCE, NAME, "three", LONG)
        assert await index.delivery(SOURCE, NAME) == Delivery(is_led=True)
        assert await index.lease(SOURCE, NAME, "one", LONG)  # asked again after a late answer
        assert await index.end_lease(SOURCE, NAME, "one")
        assert await index.delivery(SOURCE, NAME) == IDLE
        assert await index.lease(SOURCE, NAME, "two", LONG)

    run(home, test)


def test_whether_somebody_waits(home: Home) -> None:
    async def test(index: Index) -> None:
        await index.lease(SOURCE, NAME, "one", LONG)
        await index.renew_lease(SOURCE, NAME, "one", LONG)
        await index.lease(SOURCE, NAME, "one", LONG)
        assert not await index.end_lease(SOURCE, NAME, "one")
        # Asked for, then renewed: it is not forgotten.
        await index.lease(SOURCE, NAME, "one", LONG)
        await index.lease(SOURCE, NAME, "two", LONG)
        assert await index.renew_lease(SOURCE, NAME, "one", LONG)
        assert await index.end_lease(SOURCE, NAME, "one")
        # Who looks for a delivery waits, too, even if it asked an earlier leader for the lease.
        await index.lease(SOURCE, NAME, "three", LONG)
        await index.delivery(SOURCE, NAME)
        assert await index.end_lease(SOURCE, NAME, "three")
        await index.lease(SOURCE, NAME, "three", LONG)
        assert not await index.end_lease(SOURCE, NAME, "three")

    run(home, test)


def test_only_the_owner_ends_and_renews(home: Home) -> None:
    async def test(index: Index) -> None:
        assert not await index.renew_lease(SOURCE, NAME, "one", LONG)
        assert not await index.end_lease(SOURCE, NAME, "one")
        await index.lease(SOURCE, NAME, "one", LONG)
        for stranger in ("two", "", "on", "one ", "1one"):
            assert not await index.renew_lease(SOURCE, NAME, stranger, LONG)
            assert not await index.end_lease(SOURCE, NAME, stranger)
        assert await index.renew_lease(SOURCE, NAME, "one", LONG)

    run(home, test)


def test_leases_are_apart_by_source_and_name(home: Home) -> None:
    async def test(index: Index) -> None:
        assert await index.lease(SOURCE, NAME, "one", LONG)
        assert await index.lease(OTHER, NAME, "two", LONG)
        assert await index.lease(SOURCE, b"", "three", LONG)
        await index.put_parcel(SOURCE, NAME, b"parcel", LONG)
        assert (await index.delivery(OTHER, NAME)).parcel is None
        assert await index.renew_lease(OTHER, NAME, "two", LONG)

    run(home, test)


def test_a_lease_ends_by_itself(home: Home) -> None:
    async def test(index: Index) -> None:
        assert await index.lease(SOURCE, NAME, "dead", SHORT)
        while not await index.lease(SOURCE, NAME, "next", LONG):
            await asyncio.sleep(0.002)
        assert not await index.renew_lease(SOURCE, NAME, "dead", LONG)
        assert not await index.end_lease(SOURCE, NAME, "dead")
        assert await index.renew_lease(SOURCE, NAME, "next", SHORT)
        while (await index.delivery(SOURCE, NAME)).is_led:
            await asyncio.sleep(0.002)
        assert not await index.end_lease(SOURCE, NAME, "next")

    run(home, test)


def test_a_renewed_lease_lasts(home: Home) -> None:
    async def test(index: Index) -> None:
        while True:
            await index.lease(SOURCE, NAME, "one", SHORT)
            await index.lease(OTHER, NAME, "clock", SHORT)
            if await index.renew_lease(SOURCE, NAME, "one", LONG):
                break  # else the machine was busy for longer than the lease: once more
        while (await index.delivery(OTHER, NAME)).is_led:
            await asyncio.sleep(0.002)
        assert not await index.lease(SOURCE, NAME, "two", LONG)

    run(home, test)


@pytest.mark.parametrize("parcel", [b"", b"\0\r\n", b"x" * MAX_PARCEL_BYTES])
def test_a_parcel_round_trips(home: Home, parcel: bytes) -> None:
    async def test(index: Index) -> None:
        await index.lease(SOURCE, NAME, "one", LONG)
        await index.put_parcel(SOURCE, NAME, b"overwritten", LONG)
        await index.put_parcel(SOURCE, NAME, parcel, LONG)
        assert await index.delivery(SOURCE, NAME) == Delivery(True, parcel)
        await index.end_lease(SOURCE, NAME, "one")
        for _ in range(3):  # for everybody who waits
            assert await index.delivery(SOURCE, NAME) == Delivery(False, parcel)

    run(home, test)


def test_a_parcel_that_is_too_large_does_not_fit(home: Home) -> None:
    async def test(index: Index) -> None:
        with pytest.raises(DoesNotFit):
            await index.put_parcel(SOURCE, NAME, b"x" * (MAX_PARCEL_BYTES + 1), LONG)

    run(home, test)


def test_a_parcel_is_gone_after_its_time(home: Home) -> None:
    async def test(index: Index) -> None:
        await index.put_parcel(SOURCE, NAME, b"parcel", SHORT)
        while (await index.delivery(SOURCE, NAME)).parcel is not None:
            await asyncio.sleep(0.002)

    run(home, test)


def test_of_many_one_leads(home: Home) -> None:
    async def test(index: Index) -> None:
        asked = (index.lease(SOURCE, NAME, f"owner {number}", LONG) for number in range(60))
        assert (await asyncio.gather(*asked)).count(True) == 1

    run(home, test)


def test_neither_is_touched_by_a_purge(home: Home) -> None:
    """The token is the fence, and it is in the lease's name."""

    async def test(index: Index) -> None:
        await index.open_source(SOURCE)
        await index.lease(SOURCE, NAME, "one", LONG)
        await index.purge(SOURCE)
        assert await index.renew_lease(SOURCE, NAME, "one", LONG)

    run(home, test)


def test_they_are_refused_outside_start_and_stop(home: Home) -> None:
    async def main() -> None:
        index = home.make()
        with pytest.raises(IndexUnavailable):
            await index.lease(SOURCE, NAME, "one", LONG)
        with pytest.raises(IndexUnavailable):
            await index.delivery(SOURCE, NAME)

    asyncio.run(main())
