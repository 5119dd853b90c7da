"""One room for all renders: what goes down a ladder, what goes by itself, and in what order."""

from collections.abc import Iterator, Sequence

import pytest
from PIL import Image, ImageChops, ImageStat

from resizer import decode, ladder
from resizer.formats import Format
from resizer.job import Failure, FailureKind, Limits, Result
from resizer.render import Outcome, Source, render_all
from resizer.transform import parse
from tests.resizer.pictures import noise, opened, quarters, saved

STARTS_OF_FRAME = {"baseline": b"\xff\xc0", "progressive": b"\xff\xc2"}


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The size of the pixels of each decoding."""
    sizes: list[tuple[int, int]] = []
    load = decode.load_pixels

    def counted(*args: object) -> tuple[Image.Image, tuple[float, ...]]:
        found = load(*args)  # type: ignore[arg-type]
        sizes.append(found[0].size)
        return found

    monkeypatch.setattr(decode, "load_pixels", counted)
    return sizes


def photo(side: int = 512, output: Format = Format.JPEG) -> bytes:
    return saved(quarters(side), output)


def moving() -> bytes:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "lime", "blue")]
    return saved(frames[0], Format.GIF, save_all=True, append_images=frames[1:], duration=50)


def outcomes(data: bytes, texts: Sequence[str], limits: Limits | None = None) -> list[Outcome]:
    return list(render_all(Source(data, limits or Limits()), [*map(parse, texts)]))


def told(outcome: Outcome) -> int | FailureKind:
    """The width, or why there is none."""
    return outcome.kind if isinstance(outcome, Failure) else outcome[1].width


def results(found: Sequence[Outcome]) -> Iterator[Result]:
    for outcome in found:
        assert not isinstance(outcome, Failure), outcome
        yield outcome[1]


BAD, HUGE = FailureKind.IMPOSSIBLE, "w=16384,h=16384,fit=stretch,up=1"

# (transforms, what becomes of them, how often the picture is decoded)
ORDERS: list[tuple[list[str], list[int | FailureKind], int]] = [
    ([], [], 0),
    (["w=9"], [9], 1),
    (["w=300", "w=200", "w=100"], [300, 200, 100], 1),
    (["w=100", "w=200", "w=300"], [100, 200, 300], 1),
    (["w=200", "w=300", "w=100", "w=200"], [200, 300, 100, 200], 1),
    (["w=200,crisp=1", "w=100,f=webp", "w=50,pr=1"], [200, 100, 50], 1),
    # the impossible fails alone
    (["w=200", HUGE, "w=100"], [200, BAD, 100], 1),
    ([HUGE, HUGE], [BAD, BAD], 0),
    # the source's own size, effects and what is found among the pixels go by themselves
    (["w=512", "w=200", "w=100"], [512, 200, 100], 2),
    (["w=100", "w=512", "", "w=200"], [100, 512, 512, 200], 3),
    (["w=200,blur=9", "w=200", "w=100,tone=grey", "w=100"], [200, 200, 100, 100], 3),
    (["w=90,h=50,fit=cover,g=smart", "w=200", "w=100"], [90, 200, 100], 2),
    (["w=100,fr=1", "w=50,fr=1"], [100, 50], 2),
    (["w=90,ph=thumbhash", "w=200"], [90, 200], 2),
]


@pytest.mark.parametrize(("texts", "wanted", "count"), ORDERS)
def test_in_the_order_asked(
    texts: list[str],
    wanted: list[int | FailureKind],
    count: int,
    decodings: list[tuple[int, int]],
) -> None:
    found = outcomes(photo(), texts)
    assert [told(outcome) for outcome in found] == wanted
    assert len(decodings) == count


def test_lineage_tells_what_is_another_render() -> None:
    data = photo()
    texts = ["w=300", "w=512", "w=150", "w=150,blur=9", "w=40"]
    found = outcomes(data, texts)
    assert [result.lineage for result in results(found)] == [
        "",
        "",
        "1/1>300x300",
        "",
        "1/1>300x300>150x150",
    ]
    for text, outcome in zip(texts, found, strict=True):
        assert not isinstance(outcome, Failure)
        body, result = outcome
        alone = outcomes(data, [text])[0]
        assert not isinstance(alone, Failure)
        assert result.lineage or body == alone[0]


def test_the_originals_own_file_stands_for_its_size() -> None:
    data = noise(64, Format.JPEG, quality=20)
    found = outcomes(data, ["w=64", "w=32", "w=16"])
    assert not isinstance(found[0], Failure)
    assert opened(found[0][0]).tobytes() == opened(data).tobytes()
    assert [result.width for result in results(found)] == [64, 32, 16]


def test_what_moves_is_rendered_alone_each_time() -> None:
    found = outcomes(moving(), ["w=32", "w=16", "w=16,f=webp", "w=8,fr=1", "w=8,f=jpeg"])
    assert [result.lineage for result in results(found)] == [""] * 5
    counts = [getattr(opened(each[0]), "n_frames", 1) for each in found if isinstance(each, tuple)]
    assert counts == [3, 3, 3, 1, 1]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", FailureKind.UNSUPPORTED),
        (b"no picture", FailureKind.UNSUPPORTED),
        (photo()[:100], FailureKind.CORRUPT),
        (noise(256, Format.JPEG)[:9000], FailureKind.CORRUPT),
        (noise(256)[:9000], FailureKind.CORRUPT),
    ],
)
def test_a_source_that_is_broken_fails_all(data: bytes, kind: FailureKind) -> None:
    for texts in (["w=64", "w=32", "w=16"], ["w=16", "w=256", "w=32,blur=3", "w=64"]):
        assert [told(outcome) for outcome in outcomes(data, texts)] == [kind] * len(texts)


def test_without_memory_all_fail_and_nothing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*args: object) -> object:
        raise MemoryError

    texts = ["w=100", "w=50", "w=50,blur=3", "w=512"]
    for name in ("load_pixels", "open_picture"):
        with monkeypatch.context() as patch:
            patch.setattr(decode, name, short)
            assert {told(outcome) for outcome in outcomes(photo(), texts)} == {
                FailureKind.TOO_LARGE
            }


def test_whoever_stops_asking_stops_the_work(decodings: list[tuple[int, int]]) -> None:
    steps = render_all(Source(photo(), Limits()), [*map(parse, ("w=9,blur=3", "w=100", "w=50"))])
    assert decodings == []
    assert told(next(steps)) == 9
    assert len(decodings) == 1
    assert told(next(steps)) == 100
    assert len(decodings) == 2


@pytest.mark.parametrize("texts", [["w=64{}"], ["w=128", "w=64{}"], ["w=128{}", "w=64{}"]])
def test_progressive_where_asked(texts: list[str]) -> None:
    for more, marker in (("", "baseline"), (",pr=1", "progressive")):
        found = outcomes(photo(), [text.format(more) for text in texts])
        assert not isinstance(found[-1], Failure)
        body = found[-1][0]
        assert [name for name, mark in STARTS_OF_FRAME.items() if mark in body] == [marker]


def test_crisp_on_every_rung() -> None:
    """A rung is made from one that is not crisp yet, so nothing is sharpened twice."""
    data = noise(512)
    texts = ["w=300,f=png,crisp=1", "w=150,f=png,crisp=1"]
    plain = outcomes(data, [text.removesuffix(",crisp=1") for text in texts])
    crisp = outcomes(data, texts)
    mixed = outcomes(data, [texts[0], "w=150,f=png"])
    bodies = [each[0] for each in (*plain, *crisp, *mixed) if not isinstance(each, Failure)]
    assert len(bodies) == 6
    assert bodies[4] == bodies[2]
    assert bodies[5] == bodies[1]
    assert bodies[2] != bodies[0]
    assert bodies[3] != bodies[1]


# --- from a parent -------------------------------------------------------------------------------


def derived(data: bytes, made: str, wanted: str, side: int = 512) -> Outcome:
    facts = ladder.Source((side, side), Format.JPEG)
    parent = ladder.Parent(ladder.Encoded(parse(made), Format.JPEG, 80), facts)
    (outcome,) = render_all(Source(data, Limits(), parent=parent), [parse(wanted)])
    return outcome


@pytest.mark.parametrize("wanted", ["w=100", "w=100,f=webp", "w=100,h=50,fit=letterbox"])
def test_from_a_parent_it_looks_the_same_and_says_how(wanted: str) -> None:
    (above, direct) = outcomes(photo(), ["w=400"]) + outcomes(photo(), [wanted])
    assert not isinstance(above, Failure)
    outcome = derived(above[0], "w=400", wanted)
    assert not isinstance(outcome, Failure)
    assert not isinstance(direct, Failure)
    assert outcome[1].lineage == "jpeg:80>w=400"
    assert (outcome[1].width, outcome[1].height) == (direct[1].width, direct[1].height)
    assert (outcome[1].source_width, outcome[1].source_format) == (512, Format.JPEG)
    difference = ImageChops.difference(
        *(opened(body).convert("L") for body in (outcome[0], direct[0]))
    )
    assert ImageStat.Stat(difference).mean[0] < 3


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (photo(399), FailureKind.CORRUPT),  # another size than it should have
        (photo(400, Format.PNG), FailureKind.CORRUPT),
        (photo(400)[:600], FailureKind.CORRUPT),
        (b"no picture", FailureKind.UNSUPPORTED),
    ],
)
def test_what_is_no_parent_fails(data: bytes, kind: FailureKind) -> None:
    outcome = derived(data, "w=400", "w=100")
    assert isinstance(outcome, Failure)
    assert outcome.kind is kind
