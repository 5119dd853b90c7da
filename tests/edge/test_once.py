"""Once in the farm: what originals and derivatives make of what other workers and nodes did.

The lease is the test's: it says which of an errand's calls is made.
"""

import dataclasses
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import xxhash

from cache.entry import Entry
from cache.errors import LedElsewhere
from cache.index.interface import Token
from cache.key import Key, SourceId
from cache.lease import Errand
from edge.http.etag import derivative_etag
from edge.origin.errors import OriginOverloaded
from edge.record import is_replayable
from edge.rendering import Made, Terms
from edge.source import Source, Way
from resizer.transform import Transform
from tests.edge import test_ladders
from tests.edge.test_arrival import BODY as LARGE
from tests.edge.test_arrival import paced
from tests.edge.test_source import BODY, OTHER, Bench, answer, read, run

KEPT = {"etag": '"one"', "cache_control": "max-age=60"}


class Lease:
    """Hands every errand to the test."""

    has_others = True

    def __init__(self) -> None:
        self.errands: list[Errand[Any]] = []
        self.go: Callable[[Errand[Any]], Awaitable[Any]] = lambda errand: errand.fill()

    async def once(self, errand: Errand[Any]) -> Any:
        self.errands.append(errand)
        return await self.go(errand)


def leased(bench: Any) -> Lease:
    lease = Lease()
    bench._leases = lease
    return lease


def original(token: Token, now: int, body: bytes = BODY, **more: Any) -> Entry:
    """As another node has stored it."""
    entry = Entry(
        Key(SourceId("*", "/a.jpg"), ""),
        token,
        'etag "one"',
        etag='"one"',
        media_type="image/jpeg",
        length=len(body),
        body_hash=xxhash.xxh3_128_digest(body),
        stored_at=now,
        fresh_until=now + 60,
        stale_until=now + 120,
        headers=(("content-language", "de"),),
    )
    return dataclasses.replace(entry, **more)


def test_who_leads_asks_the_origin_and_says_whether_others_may_have_it(tmp_path):
    async def test(bench: Bench) -> None:
        lease = leased(bench.sources._fetching)
        cases = [
            (lambda: answer(**KEPT), True),
            (lambda: answer(cache_control="no-store"), False),
            (lambda: answer(status=404), False),
            (lambda: paced(len(LARGE), **KEPT), False),  # on its way, for longer than one waits
        ]
        for number, (say, is_kept) in enumerate(cases):
            bench.origin.say = say
            found = await bench.sources.open(bench.site, f"/{number}.jpg")
            assert lease.errands[-1].is_kept(found) is is_kept
        assert [errand.key.variant for errand in lease.errands] == [""] * 4
        await bench.sources.arrivals.stop(0)

    run(tmp_path, test)


def test_a_parcel_is_kept_and_served(tmp_path):
    async def test(bench: Bench) -> None:
        lease = leased(bench.sources._fetching)

        async def take(errand: Errand[Any]) -> Any:
            return await errand.take(original(errand.token, bench.now), BODY)

        lease.go = take
        found = await bench.sources.open(bench.site, "/a.jpg")
        assert (found.way, found.collapsed) == (Way.KNOWN, True)
        assert isinstance(found.answer, Source)
        got = await bench.sources.open_body(bench.site, found.answer)
        assert read(got) == BODY
        assert got.record.etag == '"one"'
        assert got.fields == (("content-language", "de"),)
        assert not bench.origin.asked

    run(tmp_path, test)


REFUSED = [
    {"fresh_until": 0},  # has to be asked about each time
    {"headers": (("set-cookie", "a=b"),)},
    {"headers": (("link", "a\x7fb"),)},
    {"media_type": "image/jpeg\x1b"},
    {"etag": '"two"'},
    {"validator": 'weak 0 W/"one"'},
    {"validator": "hash " + "0" * 32, "etag": f'"{"0" * 32}"'},
]


@pytest.mark.parametrize("more", REFUSED)
def test_a_parcel_of_no_use(tmp_path, more):
    async def test(bench: Bench) -> None:
        lease = leased(bench.sources._fetching)

        async def take(errand: Errand[Any]) -> Any:
            assert await errand.take(original(errand.token, bench.now, **more), BODY) is None
            return await errand.fill()

        lease.go = take
        bench.origin.say = lambda: answer(OTHER, **KEPT)
        assert read(await bench.original()) == OTHER

    run(tmp_path, test)


def test_what_is_older_than_what_was_known_is_of_no_use(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(**KEPT)
        await bench.source()
        bench.later(60)
        lease = leased(bench.sources._fetching)
        looked = []

        async def look(errand: Errand[Any]) -> Any:
            old = original(errand.token, bench.now - 61, fresh_until=bench.now + 60)
            looked.append(await errand.take(old, BODY))
            return await errand.fill()

        lease.go = look
        bench.origin.say = lambda: answer(OTHER, etag='"two"', cache_control="max-age=60")
        assert read(await bench.original()) == OTHER
        assert looked == [None]

    run(tmp_path, test)


NAMED = xxhash.xxh3_128_hexdigest(BODY)
REPLAYABLE = [
    ({}, True),
    ({"headers": ()}, True),
    ({"validator": f"hash {NAMED}", "etag": f'"{NAMED}"'}, True),
    ({"validator": f'weak {NAMED} W/"x"', "etag": f'"{NAMED}"'}, True),
    ({"validator": f"modified {NAMED} 1700000000", "etag": f'"{NAMED}"'}, True),
    ({"validator": f"modified {NAMED}", "etag": '"x"'}, False),
    ({"body_hash": bytes(16)}, True),  # the tag is the origin's: cache/parcel.py looks at bodies
    ({"validator": "", "etag": ""}, False),
]


@pytest.mark.parametrize(("more", "is_good"), REPLAYABLE)
def test_what_may_go_into_heads(more, is_good):
    assert is_replayable(original(Token("0" * 16, 1), 1, **more)) is is_good


def test_what_another_worker_stored_meanwhile_is_found_on_disk(tmp_path):
    async def test(bench: Bench) -> None:
        lease = leased(bench.sources._fetching)

        async def wait(errand: Errand[Any]) -> Any:
            assert await errand.held() is None
            await errand.fill()  # as the other one does it
            return await errand.held()

        lease.go = wait
        bench.origin.say = lambda: answer(**KEPT)
        found = await bench.sources.open(bench.site, "/a.jpg")
        assert found.way is Way.KNOWN
        assert len(bench.origin.asked) == 1
        # What has been there, and is over its time, is nothing that was waited for.
        bench.later(60)
        said = []

        async def look(errand: Errand[Any]) -> Any:
            said.append(await errand.held())
            return await errand.fill()

        lease.go = look
        await bench.source()
        assert said == [None]

    run(tmp_path, test)


def test_who_follows_a_confirmation_need_not_ask_again(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(**KEPT)
        await bench.source()
        bench.later(60)
        lease = leased(bench.sources._fetching)

        async def follow(errand: Errand[Any]) -> Any:
            await errand.fill()
            return await errand.follow()

        lease.go = follow
        bench.origin.say = lambda: answer(b"", status=304, cache_control="max-age=60")
        found = await bench.sources.open(bench.site, "/a.jpg")
        assert found.way is Way.KNOWN
        assert len(bench.origin.asked) == 2
        # Without a record the bytes are wanted, which nobody else's answer brings.
        lease.go = lambda errand: errand.follow()
        bench.origin.say = lambda: answer(**KEPT)
        await bench.source("/b.jpg")
        assert len(bench.origin.asked) == 3

    run(tmp_path, test)


def test_who_has_waited_long_enough_takes_what_is_stale(tmp_path):
    async def test(bench: Bench) -> None:
        lease = leased(bench.sources._fetching)

        async def give_up(errand: Errand[Any]) -> Any:
            raise LedElsewhere("5 s")

        bench.origin.say = lambda: answer(**KEPT)
        await bench.source()
        lease.go = give_up
        bench.later(60)
        assert (await bench.source()).is_stale
        with pytest.raises(LedElsewhere):
            await bench.source("/b.jpg")
        bench.later(200_000)  # past every window
        with pytest.raises((LedElsewhere, OriginOverloaded)):
            await bench.source()

    run(tmp_path, test)


# Derivatives


def made_elsewhere(source: Source, key: Key, body: bytes, **more: Any) -> Entry:
    entry = Entry(
        key,
        source.opened.token,
        source.record.validator,
        etag=derivative_etag(source.record.validator, key.variant, "e"),
        media_type="image/webp",
        length=len(body),
        body_hash=xxhash.xxh3_128_digest(body),
        stored_at=1,
        cost_ms=50,
    )
    return dataclasses.replace(entry, **more)


OF_ANOTHER = [
    {"validator": "other"},
    {"etag": '"other"'},
    {"media_type": "text/html"},
    {"headers": (("link", "x"),)},
]


@pytest.mark.parametrize("more", [{}, *OF_ANOTHER])
def test_a_derivative_in_a_parcel(tmp_path, more):
    async def test(bench: test_ladders.Bench) -> None:
        lease = leased(bench.derivatives)
        body = os.urandom(1000)
        transform = Transform(width=120)
        source = await bench.source()
        key = Key(source.id, transform.canonical())

        async def take(errand: Errand[Made]) -> Made:
            taken = await errand.take(made_elsewhere(source, key, body, **more), body)
            assert (taken is None) is bool(more)
            if taken is None:
                return await errand.fill()
            held = await errand.held()
            assert held is not None
            assert held.representation.etag == taken.representation.etag
            return taken

        lease.go = take
        landing = await bench.derivatives.get(bench.site, source, key, transform, Terms())
        if not more:
            assert landing.value.is_hit
            assert landing.value.stored
            assert landing.value.representation.body == body
            assert landing.value.representation.media_type == "image/webp"
        assert bench.derivatives.stats.misses == bool(more)
        assert lease.errands[0].token == source.opened.token
        # A hit asks nobody.
        await bench.derivatives.get(bench.site, source, key, transform, Terms())
        assert len(lease.errands) == 1

    test_ladders.run(tmp_path, test)


def test_an_errand_has_a_name_of_its_own_for_each_token():
    async def none() -> None:
        return None

    async def take(entry: Entry, body: bytes) -> None:
        return None

    key = Key(SourceId("*", "/a.jpg"), "")
    names = {
        Errand(key, Token(epoch * 16, generation), none, none, none, take, lambda _: True).name
        for epoch in "01"
        for generation in (1, 2, 10)
    }
    assert len(names) == 6
