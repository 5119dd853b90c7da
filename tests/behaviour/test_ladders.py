"""One miss brings the other sizes of its picture along, at a site that says so."""

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.behaviour.conftest import draw
from tests.peers.node import Node, node, quote, until

STEPS = (120, 250, 330, 500, 960, 1280, 1920)
WIDTHS = tuple(width for width in STEPS if width <= 1600)
STEPPED = f"steps = {list(STEPS)}\n"


def site(root: Path, more: str = STEPPED, ladder: str = "on-first-miss") -> str:
    return f"[[site]]\nroot = {quote(root)}\nladder = {quote(ladder)}\n{more}"


def thumb(width: int, name: str = "photo.jpg") -> str:
    return f"/thumb/{name}/{width}px-{name}"


def rungs(edge: Node) -> float:
    """How many have been made by a ladder, or found to be there."""
    numbers = edge.metrics()
    return sum(numbers[f'halftone_ladder_rungs_total{{result="{word}"}}'] for word in WORDS)


WORDS = ("kept", "held", "lost")


def climbed(edge: Node, count: int) -> None:
    until(lambda: rungs(edge) == count, f"{count} rungs")


def size_of(body: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(body)) as image:
        image.load()
        return image.size


def near(one: bytes, other: bytes) -> bool:
    """The same picture, but for what a resampling and an encoder change."""
    with Image.open(io.BytesIO(one)) as first, Image.open(io.BytesIO(other)) as second:
        assert first.size == second.size
        pairs = zip(first.convert("L").tobytes(), second.convert("L").tobytes(), strict=True)
        return sum(abs(a - b) for a, b in pairs) < 3 * first.width * first.height


def test_one_miss_brings_all_steps(tmp_path, originals):
    with node(tmp_path, site(originals)) as edge:
        first = edge.get(thumb(250))
        assert not first.is_hit
        climbed(edge, len(WIDTHS) - 1)
        rung_tags = {}
        for width in WIDTHS:
            reply = edge.get(thumb(width))
            assert reply.is_hit, (width, reply.cache_status)
            assert size_of(reply.body)[0] == width
            rung_tags[width] = reply.headers["etag"]
        assert edge.renders() == 1
        assert rung_tags[250] == first.headers["etag"]
        # What is made from a larger rung says so in its tag.
        assert rung_tags[120].count("-") == 1
        # Wider than the picture: nobody guessed it.
        assert not edge.get(thumb(1920)).is_hit
        numbers = edge.metrics()
        assert numbers["halftone_ladders_waiting"] == 0
        assert numbers["halftone_ladders_dropped_total"] == 0
    # Alone they look the same, and have another tag where they are other bytes.
    direct_folder = tmp_path / "direct"
    direct_folder.mkdir()
    with (
        node(tmp_path, site(originals)) as edge,
        node(direct_folder, site(originals, ladder="off")) as alone,
    ):
        for width in WIDTHS:
            rung, direct = edge.get(thumb(width)), alone.get(thumb(width))
            assert rung.is_hit
            assert rung.headers["etag"] == rung_tags[width]
            assert near(rung.body, direct.body), width
            same_tag = rung.headers["etag"] == direct.headers["etag"]
            assert same_tag == (rung.body == direct.body), width


def test_preconditions_speak_of_the_bytes_that_are_held(tmp_path, originals):
    with node(tmp_path, site(originals)) as edge:
        edge.get(thumb(250))
        climbed(edge, len(WIDTHS) - 1)
        whole = edge.get(thumb(120))
        tag = whole.headers["etag"]
        direct = f'{tag[: tag.index("-")]}"'
        asked = [
            ({"If-None-Match": tag}, 304),
            ({"If-None-Match": direct}, 200),
            ({"If-Match": tag}, 200),
            ({"If-Match": direct}, 412),
            ({"Range": "bytes=0-9", "If-Range": tag}, 206),
            # A part of a direct render is not completed with bytes of this one.
            ({"Range": "bytes=0-9", "If-Range": direct}, 200),
        ]
        for headers, status in asked:
            assert edge.get(thumb(120), headers=headers).status == status, headers
        head = edge.get(thumb(120), "HEAD")
        assert (head.status, head.headers["etag"]) == (200, tag)


@pytest.mark.parametrize(
    ("target", "hits", "misses"),
    [
        # another format of the same step, and the query grammar
        ("/thumb/photo.jpg/250px-photo.jpg.webp", ["/photo.jpg?w=120&fm=webp"], [thumb(120)]),
        ("/photo.jpg?w=250&q=50", ["/photo.jpg?w=960&q=50"], [thumb(960)]),
        # the names of a video's thumbnails
        (
            "/vi/photo/hqdefault.jpg",
            ["/vi/photo/default.jpg", "/vi/photo/maxresdefault.jpg", "/vi/photo/mq1.jpg"],
            ["/vi_webp/photo/mqdefault.webp", thumb(120)],
        ),
    ],
)
def test_a_ladder_is_of_the_kind_that_was_asked_for(tmp_path, originals, target, hits, misses):
    with node(tmp_path, site(originals)) as edge:
        edge.get(target)
        climbed(edge, 4 if target.startswith("/vi") else len(WIDTHS) - 1)
        for each in hits:
            assert edge.get(each).is_hit, each
        for each in misses:
            assert not edge.get(each).is_hit, each


def test_without_steps_the_usual_ones(tmp_path, originals):
    with node(tmp_path, site(originals, "")) as edge:
        edge.get(thumb(220, "logo.png"))
        climbed(edge, 2)  # 120 and 250 of the 300 that it is wide
        assert edge.get(thumb(120, "logo.png")).is_hit
        assert edge.get(thumb(250, "logo.png")).is_hit


@pytest.mark.parametrize(
    ("ladder", "target"),
    [
        ("off", thumb(250)),
        # nothing that a step says anything of
        ("on-first-miss", "/photo.jpg?w=250&h=250&fit=crop"),
        ("on-first-miss", "/photo.jpg"),
        ("on-first-miss", "/notes.jpg?w=250"),
    ],
)
def test_nothing_is_brought_along(tmp_path, originals, ladder, target):
    with node(tmp_path, site(originals, ladder=ladder)) as edge:
        edge.get(target)
        if ladder == "on-first-miss":
            # One ladder after the other: when this one's rungs are there, none came before.
            edge.get(thumb(250, "tall.jpg"))
            climbed(edge, 3)  # 120, 330 and 500 of the 900 that it is wide
        assert not edge.get(thumb(120)).is_hit


def test_a_changed_original_is_another_ladder(tmp_path, originals):
    with node(tmp_path, site(originals)) as edge:
        before = edge.get(thumb(250))
        climbed(edge, len(WIDTHS) - 1)
        rung = edge.get(thumb(120))
        draw(1400, 1400).save(originals / "new.jpg")
        (originals / "new.jpg").rename(originals / "photo.jpg")
        after = before
        while after.headers["etag"] == before.headers["etag"]:
            after = edge.get(thumb(250))
        assert size_of(after.body) == (250, 250)
        climbed(edge, 2 * (len(WIDTHS) - 1))
        again = edge.get(thumb(120), headers={"If-None-Match": rung.headers["etag"]})
        assert again.status == 200
        assert again.is_hit
        assert size_of(again.body) == (120, 120)
        assert edge.renders() == 2


def test_a_live_miss_comes_first(tmp_path, originals):
    """One process, and a ladder of steps that each take it a while."""
    Image.effect_noise((700, 600), 90).convert("RGB").save(originals / "noise.png")
    steps = list(range(550, 700, 6))
    more = f"steps = {[100, *steps]}\n"
    with node(tmp_path, "[resizer]\nprocesses = 1\n" + site(originals, more)) as edge:
        edge.get(thumb(100, "noise.png"))
        until(lambda: rungs(edge) >= 1, "a rung")
        reply = edge.get(thumb(100))
        done = rungs(edge)
        numbers = edge.metrics()
        assert reply.status == 200
        assert done < len(steps)
        assert numbers["halftone_ladder_pauses_total"] >= 1
        # A rung of the ladder itself: rendered at once, and left alone by the ladder.
        reply = edge.get(thumb(steps[0], "noise.png"))
        assert not reply.is_hit
        assert rungs(edge) < len(steps)
    # Leaving the node ends the ladder: the drain does not wait for it.


def test_a_large_original_is_left_alone(tmp_path, originals):
    """From 24 megapixels a larger derivative that is stored stands in for it."""
    draw(6000, 4000).save(originals / "large.jpg", quality=90)
    more = f"steps = {[100, 200, 600]}\n"
    with node(tmp_path, site(originals, more, ladder="off")) as edge:
        target = thumb(600, "large.jpg")
        parent = edge.get(target)
        assert "-" not in parent.headers["etag"]
        assert edge.metrics()["halftone_renders_derived_total"] == 0
        derived = edge.get(thumb(200, "large.jpg"))
        assert edge.metrics()["halftone_renders_derived_total"] == 1
        assert size_of(derived.body) == (200, 133)
        tag = derived.headers["etag"]
        assert tag.count("-") == 1
        again = edge.get(thumb(200, "large.jpg"))
        assert (again.is_hit, again.headers["etag"], again.body) == (True, tag, derived.body)
        # 200 is no parent, since it has one; 600 is.
        other = edge.get(thumb(100, "large.jpg"))
        assert other.headers["etag"].count("-") == 1
        # Without it the original serves.
        kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        (file,) = [path for path in kept if parent.body in path.read_bytes()]
        file.unlink()
        direct = edge.get("/large.jpg?w=200&q=79")
        assert "-" not in direct.headers["etag"]
        assert near(direct.body, derived.body)
        assert edge.metrics()["halftone_renders_derived_total"] == 2
