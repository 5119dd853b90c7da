"""Spellings: noted once, written in batches, bounded, and none forgotten by a flush."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from cache.key import SourceId
from edge.spellings import Spellings, under_both_schemes, url_of

A, B = SourceId("*", "/a.jpg"), SourceId("*", "/b.jpg")


class Index:
    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.answer: bool | Exception | None = None
        self.may = asyncio.Event()
        self.may.set()
        self.asked = asyncio.Event()

    async def add(self, source: SourceId, urls: Sequence[str]) -> bool | None:
        self.asked.set()
        await self.may.wait()
        self.calls.append((source.path, tuple(urls)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


def check(spellings: Spellings, written: int, lost: int = 0) -> None:
    stats = spellings.stats
    assert (stats.written, stats.lost, spellings.depth) == (written, lost, 0)
    assert stats.noted == written + lost


def test_what_is_noted_is_written_in_one_go():
    async def test() -> None:
        index = Index()
        spellings = Spellings(index.add)
        assert spellings.note(A, "1") and spellings.note(A, "2") and spellings.note(B, "3")
        assert spellings.note(A, "1")  # waits already
        assert spellings.depth == 3
        await spellings.flush()
        assert sorted(index.calls) == [("/a.jpg", ("1", "2")), ("/b.jpg", ("3",))]
        await spellings.flush()
        assert len(index.calls) == 2
        check(spellings, 3)

    run(test())


def test_a_flush_waits_for_the_one_before():
    async def test() -> None:
        index = Index()
        index.may.clear()
        spellings = Spellings(index.add)
        spellings.note(A, "1")
        first = asyncio.create_task(spellings.flush())
        await index.asked.wait()
        second = asyncio.create_task(spellings.flush())
        spellings.note(A, "2")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not second.done()
        index.may.set()
        await asyncio.gather(first, second)
        assert index.calls == [("/a.jpg", ("1",)), ("/a.jpg", ("2",))]
        check(spellings, 2)

    run(test())


@pytest.mark.parametrize("answer", [False, RuntimeError("bug")])
def test_what_the_index_does_not_take_is_lost(answer):
    async def test() -> None:
        index = Index()
        index.answer = answer
        spellings = Spellings(index.add)
        spellings.note(A, "1")
        await spellings.flush()
        check(spellings, 0, 1)

    run(test())


def test_the_bound():
    async def test() -> None:
        index = Index()
        spellings = Spellings(index.add, limit=2)
        assert spellings.note(A, "1") and spellings.note(B, "2")
        assert not spellings.note(A, "3")
        assert spellings.note(A, "1")
        await spellings.flush()
        check(spellings, 2, 1)
        assert spellings.note(A, "3")
        await spellings.stop()
        check(spellings, 3, 1)

    run(test())


@pytest.mark.parametrize(
    ("source", "url", "fits"),
    [
        (SourceId("*", "/" + "s" * 400), "u" * 400, True),
        (SourceId("*", "/" + "s" * 400), "u" * 900, False),
        (SourceId("*", "/" + "s" * 900), "u" * 400, False),
        (SourceId("*", "/\u20ac" + "s" * 400), "u" * 200, False),  # every letter is wide
    ],
)
def test_the_bound_in_bytes(monkeypatch, source, url, fits):
    monkeypatch.setattr("edge.spellings.MAX_BYTES", 1_000)

    async def test() -> None:
        spellings = Spellings(Index().add)
        for _ in range(3):  # what is written makes room
            assert spellings.note(source, url) is fits
            assert not spellings.note(source, url + "x" * 150)
            assert spellings.note(source, url) is fits
            await spellings.flush()
            assert spellings._bytes == 0
        lost = 3 if fits else 9
        check(spellings, 3 if fits else 0, lost)

    run(test())


def test_it_writes_by_itself(monkeypatch):
    monkeypatch.setattr("edge.spellings.FLUSH_S", 0.001)

    async def test() -> None:
        index = Index()
        spellings = Spellings(index.add)
        spellings.start()
        spellings.note(A, "1")
        await index.asked.wait()
        await spellings.stop()
        check(spellings, 1)

    run(test())


@pytest.mark.parametrize(
    ("scheme", "authority", "target", "url"),
    [
        ("http", b"Img.Example.com", b"/a%20b.jpg?w=1", "http://img.example.com/a%20b.jpg?w=1"),
        ("http", b"h:80", b"/", "http://h/"),
        ("https", b"h:443", b"/", "https://h/"),
        ("https", b"h:80", b"/", "https://h:80/"),
        ("http", b"[::1]:8080", b"/", "http://[::1]:8080/"),
    ],
)
def test_urls(scheme, authority, target, url):
    assert url_of(scheme, authority, target) == url


def test_both_schemes():
    urls = ["http://h/a", "https://h/a", "https://h/b?u=http://x/"]
    assert under_both_schemes(urls) == [
        "http://h/a",
        "https://h/a",
        "http://h/b?u=http://x/",
        "https://h/b?u=http://x/",
    ]
