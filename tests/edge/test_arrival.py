"""Originals that arrive piece by piece, as the test sends them: kept, not kept, refused, broken."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import xxhash

from cache.errors import NoSpace, StaleToken
from cache.key import Key
from edge.arrival import AHEAD_BYTES, SECTION_BYTES, STREAM_BYTES, Arriving, Incoming
from edge.errors import OriginChanged
from edge.http.body import UNKNOWN_LENGTH, FileSlice, Stretch
from edge.http.freshness import Storability
from edge.origin.errors import OriginTruncated
from edge.source import Passed, Passing, Source, Way
from resizer.errors import PictureTooLarge
from tests.edge.test_record import Answer
from tests.edge.test_source import Bench, answer, read, run
from tests.edge.test_streaming import turns_until

MIB = 1 << 20
BODY = os.urandom(STREAM_BYTES + 1000)
FIRST, LAST = BODY[:200_000], BODY[200_000:]
KEPT = {"etag": '"one"', "cache_control": "max-age=60"}


@dataclass
class Paced(Answer):
    """Its pieces come from the test: bytes, b"" for the end, or an error."""

    queue: "asyncio.Queue[bytes | Exception]" = field(default_factory=asyncio.Queue)
    taken: int = 0
    is_closed: bool = False

    def maybe_all(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        piece = await self.queue.get()
        if isinstance(piece, Exception):
            raise piece
        self.taken += len(piece)
        return piece

    async def aclose(self) -> None:
        self.is_closed = True

    def send(self, *pieces: bytes | Exception) -> None:
        for piece in pieces:
            self.queue.put_nowait(piece)


def paced(length: int | None = len(BODY), **fields: str) -> Paced:
    named = tuple((name.replace("_", "-"), text) for name, text in fields.items())
    return Paced((("content-type", "image/jpeg"), *named), content_length=length)


async def arriving(bench: Bench, path: str = "/a.jpg") -> Arriving[Any]:
    found = await bench.sources.open(bench.site, path)
    assert isinstance(found.answer, Arriving)
    return found.answer


async def passing(bench: Bench) -> Passing:
    found = await bench.sources.open(bench.site, "/a.jpg")
    assert isinstance(found.answer, Passing)
    return found.answer


async def take(reader: Stretch, count: int) -> bytes:
    """The next bytes, as a client takes them."""
    got = b""
    while len(got) < count:
        for piece in reader.take(count - len(got)):
            assert isinstance(piece, FileSlice)
            got += os.pread(piece.file.fd, len(piece), piece.start)
        if len(got) < count:
            if reader.has_failed:
                raise OriginTruncated("cut")
            more = asyncio.Event()
            reader.wait(more.set)
            await more.wait()
    return got


def is_still(bench: Bench) -> Callable[[], bool]:
    """Nothing is under way any more."""
    return lambda: len(bench.sources.arrivals) == 0


def adds_up(bench: Bench) -> bool:
    stats = bench.sources.arrivals.stats
    ends = stats.ended + stats.failed + stats.abandoned
    return stats.kept + stats.passed == ends + len(bench.sources.arrivals)


def temp_files(folder: Path) -> list[Path]:
    return list((folder / "cache").rglob(".tmp-*"))


# Kept


def test_whoever_waits_reads_along_and_the_store_has_it_afterwards(tmp_path):
    async def test(bench: Bench) -> None:
        said = paced(**KEPT)
        bench.origin.say = lambda: said
        first = await arriving(bench)
        assert (first.record.etag, first.body.length, first.status) == ('"one"', len(BODY), 200)
        readers = [first.body.read()]
        said.send(FIRST)
        assert await take(readers[0], len(FIRST)) == FIRST
        for _ in range(2):  # who comes later has it from its first byte
            found = await bench.sources.open(bench.site, "/a.jpg")
            assert found.answer is first
            assert found.collapsed
            readers.append(first.body.read())
        assert isinstance(found.answer, Arriving)
        whole = asyncio.create_task(bench.sources.settled(bench.site, found.answer))
        said.send(LAST, b"")
        assert await take(readers[0], len(LAST)) == LAST
        for reader in readers[1:]:
            assert await take(reader, len(BODY)) == BODY
            assert reader.is_done
        settled = await whole
        assert isinstance(settled, Source)
        assert read(await bench.sources.open_body(bench.site, settled)) == BODY
        await turns_until(is_still(bench))
        assert (await bench.sources.open(bench.site, "/a.jpg")).way is Way.KNOWN
        assert said.is_closed
        assert len(bench.origin.asked) == 1
        assert bench.sources.arrivals.stats.joined == 2
        assert adds_up(bench)

    run(tmp_path, test)


def test_the_fill_goes_on_when_all_have_left(tmp_path):
    async def test(bench: Bench) -> None:
        said = paced(**KEPT)
        bench.origin.say = lambda: said
        asking = asyncio.create_task(bench.sources.open(bench.site, "/a.jpg"))
        await turns_until(lambda: len(bench.sources.arrivals) == 1)
        asking.cancel()
        said.send(FIRST, LAST, b"")
        await turns_until(is_still(bench))
        assert read(await bench.original()) == BODY
        assert len(bench.origin.asked) == 1

    run(tmp_path, test)


LARGE = [
    # length announced, pieces before anybody is told, is it sent while it arrives?
    (len(BODY), [], True),
    (STREAM_BYTES + 1, [], True),
    (STREAM_BYTES, [BODY[:STREAM_BYTES], b""], False),
    (None, [BODY[:STREAM_BYTES], b""], False),
    (None, [BODY[:STREAM_BYTES], b"x"], True),
    (None, [b""], False),
    (0, [b""], False),
]


@pytest.mark.parametrize(("length", "pieces", "is_large"), LARGE)
def test_what_is_worth_it(length, pieces, is_large):
    async def main() -> None:
        said = paced(length)
        said.send(*pieces)
        incoming = Incoming(said)
        assert await incoming.is_large() is is_large
        assert await incoming.is_large() is is_large
        if is_large:
            incoming = incoming.hand_over()
            said.send(b"more", b"")
        got = []
        while piece := await incoming.read():
            got.append(piece)
        assert b"".join(got) == b"".join(pieces) + (b"more" if is_large else b"")
        await incoming.aclose()
        assert said.is_closed

    asyncio.run(main())


LIVE = [
    ({"headers": (("content-type", "text/event-stream"),)}, True),
    ({"headers": (("content-type", "Text/Event-Stream; charset=utf-8"),)}, True),
    (
        {"headers": (("content-type", "text/html"),), "controls": (("x-accel-buffering", "No"),)},
        True,
    ),
    ({"headers": (("content-type", "text/html"),)}, False),
    ({"headers": (("x-type", "text/event-stream"),)}, False),
    ({"headers": (), "controls": (("x-accel-buffering", "yes"),)}, False),
    # Its end is known.
    ({"headers": (("content-type", "text/event-stream"),), "content_length": 5}, False),
]


@pytest.mark.parametrize(("fields", "is_live"), LIVE)
def test_what_is_read_while_it_is_made(fields, is_live):
    assert Incoming(Answer(**{"content_length": None, **fields})).is_live is is_live


def test_who_hands_over_does_not_close():
    async def main() -> None:
        said = paced()
        incoming = Incoming(said)
        taken = incoming.hand_over()
        await incoming.aclose()
        assert not said.is_closed
        await taken.aclose()
        assert said.is_closed

    asyncio.run(main())


def test_an_origin_that_breaks_cuts_all_and_leaves_nothing(tmp_path):
    async def test(bench: Bench) -> None:
        said = paced(**KEPT)
        bench.origin.say = lambda: said
        answer = await arriving(bench)
        reader = answer.body.read()
        waiting = asyncio.create_task(bench.sources.settled(bench.site, answer))
        said.send(FIRST)
        assert await take(reader, len(FIRST)) == FIRST
        said.send(OriginTruncated("cut"))
        with pytest.raises(OriginTruncated):
            await take(reader, 1)
        with pytest.raises(OriginTruncated):
            await waiting
        await turns_until(is_still(bench))
        assert said.is_closed
        assert not temp_files(tmp_path)
        assert bench.store.disk.room.used == 0
        again = paced(**KEPT)
        bench.origin.say = lambda: again
        again.send(BODY, b"")
        await arriving(bench)
        await turns_until(is_still(bench))
        assert read(await bench.original()) == BODY
        assert bench.sources.arrivals.stats.failed == 1
        assert adds_up(bench)

    run(tmp_path, test)


def test_a_length_that_is_not_kept_to_is_a_failure(tmp_path, caplog):
    async def test(bench: Bench) -> None:
        for sent in (BODY[:-1], BODY + b"x"):
            said = paced(**KEPT)
            bench.origin.say = lambda said=said: said
            answer = await arriving(bench)
            reader = answer.body.read()
            said.send(sent, b"")
            await turns_until(is_still(bench))
            assert not reader.is_done
            assert answer.body.has_failed
            assert not temp_files(tmp_path)

    run(tmp_path, test)
    assert caplog.text.count("were announced") == 2


def test_where_something_stands_in_only_the_first_are_cut(tmp_path):
    async def test(bench: Bench) -> None:
        old = paced(**KEPT)
        old.send(BODY, b"")
        bench.origin.say = lambda: old
        await (await arriving(bench)).ended
        bench.later(60)
        said = paced(etag='"two"', cache_control="max-age=60")
        bench.origin.say = lambda: said
        new = await arriving(bench)
        reader = new.body.read()
        waiting = asyncio.create_task(bench.sources.settled(bench.site, new))
        said.send(FIRST, OriginTruncated("cut"))
        assert await take(reader, len(FIRST)) == FIRST
        with pytest.raises(OriginTruncated):
            await take(reader, 1)
        with pytest.raises(OriginChanged):
            await waiting
        source = await bench.source()
        assert source.is_stale
        assert read(await bench.sources.open_body(bench.site, source)) == BODY
        assert len(bench.origin.asked) == 2

    run(tmp_path, test)


def test_after_a_purge_nobody_joins_what_began_before(tmp_path):
    async def test(bench: Bench) -> None:
        old, new = paced(**KEPT), paced(etag='"two"', cache_control="max-age=60")
        answers = [old, new]
        bench.origin.say = lambda: answers.pop(0)
        before = await arriving(bench)
        reader = before.body.read()
        await bench.store.purge(before.id)
        after = await arriving(bench)
        assert after is not before
        assert after.record.etag == '"two"'
        old.send(BODY, b"")
        assert await take(reader, len(BODY)) == BODY  # who came before it still gets the bytes
        other = os.urandom(len(BODY))
        new.send(other, b"")
        assert await take(after.body.read(), len(BODY)) == other
        settled = await before.ended
        assert isinstance(settled, Passed)
        await turns_until(is_still(bench))
        assert read(await bench.original()) == other
        assert not temp_files(tmp_path)

    run(tmp_path, test)


def test_the_tag_is_known_early_only_where_the_origin_gave_it(tmp_path):
    async def test(bench: Bench) -> None:
        for number, (etag, known) in enumerate(
            [('"strong"', '"strong"'), ('W/"weak"', ""), ("odd", ""), (None, "")]
        ):
            fields = {"cache_control": "max-age=60"} | ({"etag": etag} if etag else {})
            said = paced(None, **fields)
            said.send(BODY, b"")
            bench.origin.say = lambda said=said: said
            path = f"/{number}.jpg"
            found = await arriving(bench, path)
            assert found.record.etag == known
            assert found.body.length == UNKNOWN_LENGTH
            settled = await found.ended
            assert settled.record.etag == (known or f'"{xxhash.xxh3_128_hexdigest(BODY)}"')
            assert found.body.length == len(BODY)

    run(tmp_path, test)


def test_evicted_bytes_are_read_along_while_they_come_again(tmp_path):
    async def test(bench: Bench) -> None:
        said = paced(**KEPT)
        said.send(BODY, b"")
        bench.origin.say = lambda: said
        source = await (await arriving(bench)).ended
        for file in (tmp_path / "cache").glob("?/??/*"):
            file.unlink()
        again = paced(**KEPT)
        bench.origin.say = lambda: again
        answers = [await bench.sources.refetch(bench.site, source) for _ in range(3)]
        assert len(set(map(id, answers))) == 1
        whole = asyncio.create_task(bench.sources.open_body(bench.site, source))
        assert isinstance(answers[0], Arriving)
        reader = answers[0].body.read()
        again.send(FIRST, LAST, b"")
        assert await take(reader, len(BODY)) == BODY
        assert read(await whole) == BODY
        assert len(bench.origin.asked) == 2

    run(tmp_path, test)


def test_what_is_too_large_to_be_resized_is_not_waited_for(tmp_path):
    async def test(bench: Bench) -> None:
        kept = paced(bench.site.max_source_bytes + 1, **KEPT)
        bench.origin.say = lambda: kept
        with pytest.raises(PictureTooLarge):
            await bench.sources.settled(bench.site, await arriving(bench))
        for length in (bench.site.max_source_bytes + 1, None):
            said = paced(length, cache_control="no-store")
            said.send(bytes(bench.site.max_source_bytes), b"x" * 1000, b"")
            bench.origin.say = lambda said=said: said
            found = await bench.sources.open(bench.site, "/b.jpg")
            assert isinstance(found.answer, Passing)
            with pytest.raises(PictureTooLarge):
                await bench.sources.settled(bench.site, found.answer)
        kept.send(OriginTruncated("enough"))

    run(tmp_path, test)


# Not kept


def test_what_is_not_kept_goes_through_a_window(tmp_path):
    size = AHEAD_BYTES + 6 * SECTION_BYTES
    piece = os.urandom(MIB // 4)

    async def test(bench: Bench) -> None:
        said = paced(size, cache_control="no-store")
        bench.origin.say = lambda: said
        said.send(*[piece] * (size // len(piece)), b"")
        answer = await passing(bench)
        assert (answer.status, answer.length) == (200, size)
        assert answer.storability is Storability.NO_STORE
        arrivals = bench.sources.arrivals
        hasher, got, before = xxhash.xxh3_128(), 0, kit_descriptors()
        while got < size:
            data = await take(answer.body, min(MIB, size - got))
            hasher.update(data)
            got += len(data)
            # The origin is never further ahead, nor are files that were read still open.
            assert said.taken <= got + AHEAD_BYTES + 2 * len(piece)
            assert kit_descriptors() <= before + (AHEAD_BYTES // SECTION_BYTES) + 2
            if arrivals.stats.stalled == 0:
                await turns_until(lambda: arrivals.stats.stalled > 0)
        assert hasher.digest() == xxhash.xxh3_128_digest(piece * (size // len(piece)))
        await turns_until(is_still(bench))
        assert answer.body.is_done
        assert bench.store.disk.room.used == 0
        assert adds_up(bench)

    run(tmp_path, test)


def kit_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_without_its_reader_it_is_given_up(tmp_path):
    async def test(bench: Bench) -> None:
        for has_stalled in (False, True):
            said = paced(64 * MIB, cache_control="no-store")
            bench.origin.say = lambda said=said: said
            stalled = bench.sources.arrivals.stats.stalled
            answer = await passing(bench)
            if has_stalled:
                said.send(*[bytes(MIB)] * 12)
                await turns_until(lambda was=stalled: bench.sources.arrivals.stats.stalled > was)
            else:
                said.send(bytes(1000))
            del answer
            said.send(bytes(1000))
            await turns_until(is_still(bench))
            assert said.is_closed
        assert bench.sources.arrivals.stats.abandoned == 2
        assert adds_up(bench)

    run(tmp_path, test)


@pytest.mark.parametrize("has_begun", [False, True])
def test_without_its_reader_a_silent_origin_is_given_up_at_once(tmp_path, has_begun):
    async def test(bench: Bench) -> None:
        said = paced(64 * MIB, cache_control="no-store")
        bench.origin.say = lambda: said
        answer = await passing(bench)
        if has_begun:
            said.send(b"piece")
            assert await take(answer.body, 5) == b"piece"
        for _ in range(5):
            await asyncio.sleep(0)  # until it waits
        assert not said.is_closed
        del answer
        await turns_until(is_still(bench))
        assert said.is_closed
        stats = bench.sources.arrivals.stats
        assert (stats.abandoned, stats.failed) == (1, 0)
        assert adds_up(bench)

    run(tmp_path, test)


def test_a_live_answer_is_known_to_its_readers(tmp_path):
    async def test(bench: Bench) -> None:
        said = paced(None, cache_control="no-store")
        said.headers = (("content-type", "text/event-stream"), ("cache-control", "no-store"))
        bench.origin.say = lambda: said
        answer = await passing(bench)
        assert answer.body.is_live
        del answer
        await turns_until(is_still(bench))

    run(tmp_path, test)


def test_what_is_read_by_one_is_asked_for_by_each(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.hold = asyncio.Event()
        said: list[Paced] = []

        def say() -> Paced:
            said.append(paced(cache_control="no-store"))
            said[-1].send(BODY, b"")
            return said[-1]

        bench.origin.say = say
        asking = [asyncio.create_task(passing(bench)) for _ in range(4)]
        await turns_until(lambda: bool(bench.origin.asked))
        bench.origin.hold.set()
        answers = await asyncio.gather(*asking)
        assert len({id(one.body) for one in answers}) == 4
        for one in answers:
            assert await take(one.body, len(BODY)) == BODY
        assert len(said) == 4

    run(tmp_path, test)


def test_who_needs_it_whole_has_it_whole(tmp_path):
    async def test(bench: Bench) -> None:
        said = paced(cache_control="no-store")
        bench.origin.say = lambda: said
        whole = asyncio.create_task(bench.sources.settled(bench.site, await passing(bench)))
        said.send(FIRST, LAST, b"")
        settled = await whole
        assert isinstance(settled, Passed)
        assert read(settled) == BODY
        assert settled.body_digest == xxhash.xxh3_128_digest(BODY)
        assert settled.record is not None
        assert settled.record.length == len(BODY)
        broken = paced(cache_control="no-store")
        bench.origin.say = lambda: broken
        whole = asyncio.create_task(bench.sources.settled(bench.site, await passing(bench)))
        broken.send(FIRST, OriginTruncated("cut"))
        with pytest.raises(OriginTruncated):
            await whole

    run(tmp_path, test)


# Larger than the store takes, or refused by its disk


def test_what_no_entry_can_hold_is_passed(tmp_path):
    async def test(bench: Bench) -> None:
        said = paced(bench.store.disk.room.largest + 1, **KEPT)
        bench.origin.say = lambda: said
        answer = await passing(bench)
        assert answer.storability is Storability.STORABLE
        said.send(OriginTruncated("enough"))

    run(tmp_path, test)


def test_a_body_that_turns_out_too_long_goes_on_unkept(tmp_path):
    """10 MB of cache hold 1.25 MB in one entry."""
    size = 3 * MIB
    body = os.urandom(size)

    async def test(bench: Bench) -> None:
        said = paced(None, **KEPT)
        bench.origin.say = lambda: said
        pieces = [body[at : at + MIB // 8] for at in range(0, size, MIB // 8)]
        said.send(*pieces[:4])
        answer = await arriving(bench)
        readers = [answer.body.read() for _ in range(2)]
        assert await take(readers[0], MIB // 8) == body[: MIB // 8]
        said.send(*pieces[4:], b"")
        assert await take(readers[0], size - MIB // 8) == body[MIB // 8 :]
        assert await take(readers[1], size) == body
        await turns_until(is_still(bench))
        assert all(reader.is_done for reader in readers)
        assert not temp_files(tmp_path)
        assert bench.store.disk.room.used == 0
        assert bench.sources.arrivals.stats.diverted == 1
        assert adds_up(bench)

    run(tmp_path, test)


def refuse_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The disk of the store takes so many pieces."""
    taken = 0

    def write(self: Any, data: bytes) -> None:
        nonlocal taken
        taken += 1
        if taken > count:
            self.withdraw()
            raise NoSpace("full")
        os.pwrite(self.fd, data, self.body_offset + self._written)
        self._written += len(data)

    monkeypatch.setattr("cache.fill.Fill.write", write)


def test_a_disk_that_fills_up_in_the_middle_cuts_nobody(tmp_path, monkeypatch):
    async def test(bench: Bench) -> None:
        refuse_after(monkeypatch, 1)
        answers = [paced(**KEPT), paced(**KEPT)]
        first = answers[0]
        bench.origin.say = lambda: answers.pop(0)
        answer = await arriving(bench)
        reader = answer.body.read()
        whole = asyncio.create_task(bench.sources.settled(bench.site, answer))
        first.send(FIRST)
        assert await take(reader, len(FIRST)) == FIRST
        answers[0].send(BODY, b"")
        first.send(LAST, b"")
        assert await take(reader, len(LAST)) == LAST
        # Who needs it whole has it fetched around the store.
        settled = await whole
        assert isinstance(settled, Passed)
        assert read(settled) == BODY
        assert len(bench.origin.asked) == 2
        assert not temp_files(tmp_path)

    run(tmp_path, test)


def test_a_refused_body_that_nobody_reads_is_given_up(tmp_path, monkeypatch):
    async def test(bench: Bench) -> None:
        refuse_after(monkeypatch, 1)
        said = paced(**KEPT)
        bench.origin.say = lambda: said
        await arriving(bench)
        said.send(FIRST, LAST)
        await turns_until(is_still(bench))
        assert bench.sources.arrivals.stats.abandoned == 1
        assert said.is_closed

    run(tmp_path, test)


def test_a_disk_that_is_full_altogether_leaves_memory(tmp_path, monkeypatch):
    async def test(bench: Bench) -> None:
        refuse_after(monkeypatch, 0)
        real = os.open

        def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(28, "No space left on device")
            return real(path, flags, *more, **named)

        monkeypatch.setattr(os, "open", refuse)
        said = paced(300_000, cache_control="no-store")
        bench.origin.say = lambda: said
        answer = await passing(bench)
        said.send(b"x" * 50_000, b"x" * 50_000)
        assert await take(answer.body, 100_000) == b"x" * 100_000
        said.send(b"x")  # one byte more than the spool of the test holds
        with pytest.raises(OriginTruncated):
            await take(answer.body, 1)
        assert bench.sources.arrivals.stats.failed == 1

    run(tmp_path, test)


def test_a_purge_at_the_very_end(tmp_path, monkeypatch):
    async def test(bench: Bench) -> None:
        async def stale(*_: object) -> Any:
            raise StaleToken("purged")

        said = paced(**KEPT)
        bench.origin.say = lambda: said
        answer = await arriving(bench)
        monkeypatch.setattr(bench.store, "_commit", stale)
        reader = answer.body.read()
        said.send(BODY, b"")
        assert await take(reader, len(BODY)) == BODY
        settled = await answer.ended
        assert isinstance(settled, Passed)
        assert read(settled) == BODY
        assert await bench.store.lookup(Key(answer.id, ""), None) is None

    run(tmp_path, test)


# The end of a node


def test_a_node_that_stops_waits_and_then_gives_up(tmp_path):
    async def test(bench: Bench) -> None:
        said = paced(**KEPT)
        bench.origin.say = lambda: said
        answer = await arriving(bench)
        reader = answer.body.read()
        stopping = asyncio.create_task(bench.sources.arrivals.stop(30))
        said.send(BODY, b"")
        await stopping
        assert await take(reader, len(BODY)) == BODY
        hung = paced(**KEPT)
        bench.origin.say = lambda: hung
        answer = await arriving(bench, "/b.jpg")
        reader = answer.body.read()
        hung.send(FIRST)
        await take(reader, len(FIRST))
        await bench.sources.arrivals.stop(0)
        assert hung.is_closed
        assert reader.has_failed
        assert not temp_files(tmp_path)
        assert adds_up(bench)

    run(tmp_path, test)


def test_small_answers_take_the_old_path(tmp_path):
    async def test(bench: Bench) -> None:
        bench.origin.say = lambda: answer(**KEPT)
        await bench.source()
        assert bench.sources.arrivals.stats.kept == 0

    run(tmp_path, test)
