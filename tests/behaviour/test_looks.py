"""What a site adds to its pictures: marks, sharpness, quality, and what only originals are."""

import io
import itertools
import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from resizer.job import MAX_MARK_BYTES
from tests.behaviour.conftest import draw
from tests.behaviour.test_serve import a_bomb
from tests.peers.node import Node, Reply, ask, node, quote, until

MAGENTA, CYAN = (255, 0, 255), (0, 255, 255)


def opened(body: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def put_mark(path: Path, colour: tuple[int, int, int], size: int = 40) -> None:
    """In the place of the old one, whole."""
    fresh = path.with_suffix(".new")
    Image.new("RGB", (size, size), colour).save(fresh, "PNG")
    fresh.rename(path)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    path = tmp_path / "logo.png"
    put_mark(path, MAGENTA)
    return path


def marked_site(root: Path, mark: Path) -> str:
    return f"[[site]]\nroot = {quote(root)}\npictures.watermarks.logo = {quote(mark)}\n"


MARKED = "/photo.jpg?w=400&fm=png&mark=logo&mark-pad=10"


def made_anew(edge: Node) -> Reply:
    """A marked picture that was not asked for before, so that nothing comes from the cache."""
    pad, width = divmod(next(FRESH), 1000)
    return edge.get(f"/photo.jpg?w={width + 30}&mark=logo&mark-pad={pad}")


FRESH = itertools.count()


def test_a_watermark_lies_where_the_url_says(tmp_path, originals, mark):
    with node(tmp_path, marked_site(originals, mark)) as edge:
        made = edge.get(MARKED)
        assert made.status == 200
        image, bare = opened(made.body), opened(edge.get("/photo.jpg?w=400&fm=png").body)
        box = ImageChops.difference(image.convert("RGB"), bare.convert("RGB")).getbbox()
        assert box == (350, 175, 390, 215)  # south-east, 10 pixels from each edge
        assert image.getpixel((370, 195)) == MAGENTA
        top = opened(edge.get(f"{MARKED}&mark-align=top,left").body)
        assert top.getpixel((10, 10)) == MAGENTA != top.getpixel((9, 9))
        again = edge.get(MARKED)
        assert again.is_hit
        assert again.headers["etag"] == made.headers["etag"]
        # The same picture moves on with its mark through every way of answering.
        assert edge.get(MARKED, headers={"If-None-Match": made.headers["etag"]}).status == 304
        unknown = edge.get("/photo.jpg?w=400&mark=other")
        assert (unknown.status, b"other" in unknown.body) == (400, False)
        assert edge.get("/photo.jpg?w=400&mark=../logo").status == 400
        assert edge.get("/missing.jpg?w=400&mark=logo").status == 404


def test_a_mark_that_is_replaced_makes_new_pictures_at_once(tmp_path, originals, mark):
    with node(tmp_path, marked_site(originals, mark)) as edge:
        old = edge.get(MARKED)
        for _ in range(4):  # until it is a ready answer
            assert edge.get(MARKED).body == old.body
        put_mark(mark, CYAN)
        replies: list[Reply] = []

        def is_new() -> bool:
            replies.append(edge.get(MARKED))
            return replies[-1].body != old.body

        until(is_new, "the new mark")
        assert opened(replies[-1].body).getpixel((370, 195)) == CYAN
        assert replies[-1].headers["etag"] != old.headers["etag"]
        # Old bytes never under the new tag, nor the other way round.
        assert len({(each.headers["etag"], each.body) for each in replies}) <= 2
        # What was made with the old bytes is still there, under the key that names them.
        put_mark(mark, MAGENTA)
        until(lambda: edge.get(MARKED).headers["etag"] == old.headers["etag"], "the old mark")
        assert edge.get(MARKED).body == old.body
        assert edge.renders() == 2


@pytest.mark.parametrize("how", ["gone", "too large", "a link"])
def test_a_mark_that_cannot_be_opened_fails_no_hit(tmp_path, originals, mark, how):
    with node(tmp_path, marked_site(originals, mark)) as edge:
        made = edge.get(MARKED)
        plain = edge.get("/photo.jpg?w=300")
        good = mark.rename(tmp_path / "good.png")
        match how:
            case "too large":
                with mark.open("wb") as file:
                    file.truncate(MAX_MARK_BYTES + 1)
            case "a link":
                mark.symlink_to(good)
        until(lambda: made_anew(edge).status == 503, "a refusal")
        reply = made_anew(edge)
        assert "detail=mark" in reply.cache_status
        assert "retry-after" in reply.headers
        for target, before in ((MARKED, made), ("/photo.jpg?w=300", plain)):
            again = edge.get(target)
            assert (again.status, again.is_hit, again.body) == (200, True, before.body)
        assert edge.metrics()['halftone_watermark_reads_total{result="failed"}'] >= 1
        good.replace(mark)
        until(lambda: made_anew(edge).status == 200, "the mark again")


@pytest.mark.parametrize(
    "data",
    [a_bomb(), b"\x89PNG\r\n\x1a\n" + bytes(MAX_MARK_BYTES - 8)],
    ids=["bomb", "zeroes"],
)
def test_a_hostile_mark_is_refused_before_it_is_decoded(tmp_path, originals, mark, data):
    mark.write_bytes(data)
    with node(tmp_path, f"resizer.deadline = '30s'\n{marked_site(originals, mark)}") as edge:
        reply = edge.get(MARKED)
        assert (reply.status, "detail=mark" in reply.cache_status) == (503, True)
        metrics = edge.metrics()
        assert metrics['halftone_renders_total{result="mark_unusable"}'] == 1
        assert metrics['halftone_renders_total{result="late"}'] == 0
        assert metrics['halftone_renders_total{result="crashed"}'] == 0
        # Neither the picture nor its worker is blamed.
        assert edge.get("/photo.jpg?w=400&fm=png").status == 200


def sites(root: Path, *pictures: str) -> str:
    """One without looks, and site0, site1 with these."""
    table = f"root = {quote(root)}\n"
    dressed = (
        f"[[site]]\nhosts = ['site{number}']\n{table}[site.pictures]\n{looks}\n"
        for number, looks in enumerate(pictures)
    )
    return "".join((f"[[site]]\n{table}", *dressed))


def looking(edge: Node, target: str, number: int = 0) -> Reply:
    return edge.get(target, headers={"Host": f"site{number}"})


LOOKS = [
    # settings, target, whether something changes
    ("sharpen = true", "/photo.jpg?w=300", True),
    ("sharpen = true", "/photo.jpg?w=300&blur=20", False),
    ("sharpen = true", "/photo.jpg?w=300&sharp=20", False),
    ("sharpen = true", "/photo.jpg?w=300&placeholder=thumbhash", False),
    ("sharpen = true", "/photo.jpg", False),
    ("progressive = true", "/photo.jpg?w=300", True),
    ("progressive = true", "/logo.png?w=100&fm=webp", False),
    ("quality_jpeg = 20", "/photo.jpg?w=300", True),
    ("quality_jpeg = 20", "/thumb/photo.jpg/300px-photo.jpg", True),
    ("quality_jpeg = 20", "/vi/photo/hqdefault.jpg", True),
    ("quality_jpeg = 20", "/photo.jpg?w=300&q=90", False),
    ("quality_jpeg = 20", "/photo.jpg?w=300&fm=webp", False),
    ("quality_webp = 20", "/photo.jpg?w=300&fm=webp", True),
]


def test_settings_change_bytes_and_names(tmp_path, originals):
    # Edges that a sharpening finds.
    Image.effect_noise((1600, 900), 90).convert("RGB").save(originals / "photo.jpg", quality=95)
    settings = list(dict.fromkeys(row[0] for row in LOOKS))
    with node(tmp_path, sites(originals, *settings)) as edge:
        for setting, target, changes in LOOKS:
            number = settings.index(setting)
            plain, looks = edge.get(target), looking(edge, target, number)
            assert (plain.status, looks.status) == (200, 200), target
            assert (plain.body != looks.body) is changes, target
            # A tag has no site in it, so it differs just where the transform does.
            assert (plain.headers["etag"] != looks.headers["etag"]) is changes, target
            assert looking(edge, target, number).is_hit
        number = settings.index("progressive = true")
        made = looking(edge, "/photo.jpg?w=300", number)
        assert opened(made.body).info.get("progressive")
        # One key in every grammar, also where the ending is found first (youtube).
        number = settings.index("quality_jpeg = 20")
        assert looking(edge, "/photo.jpg?w=301", number).status == 200
        assert looking(edge, "/thumb/photo.jpg/301px-photo.jpg", number).is_hit
        made = looking(edge, "/photo.jpg?w=320&h=180&fit=fill&bg=000&frames=all&up=1", number)
        same = looking(edge, "/vi/photo/mqdefault.jpg", number)
        assert same.headers["etag"] == made.headers["etag"]


def test_formats_that_only_originals_have(tmp_path, originals):
    draw(300, 200).save(originals / "scan.tif", compression="tiff_lzw")
    clear = draw(300, 200).convert("RGBA")
    clear.putalpha(99)
    clear.save(originals / "clear.TIFF")
    draw(300, 200).save(originals / "scan.jp2")
    (originals / "lie.jpg").write_bytes((originals / "scan.tif").read_bytes())
    (originals / "half.tif").write_bytes((originals / "scan.tif").read_bytes()[:100])
    types = {"/scan.tif": "image/tiff", "/clear.TIFF": "image/tiff", "/scan.jp2": "image/jp2"}
    with node(tmp_path, sites(originals, "inputs = ['tiff', 'jpeg2000']")) as edge:
        for path, media_type in types.items():
            original = edge.get(path)
            assert (original.status, original.headers["content-type"]) == (200, media_type)
            assert original.headers["x-content-type-options"] == "nosniff"
            assert edge.get(f"{path}?w=100").status == 415
            made = "image/png" if path == "/clear.TIFF" else "image/jpeg"
            reply = looking(edge, f"{path}?w=100")
            assert (reply.status, reply.headers["content-type"]) == (200, made)
            assert opened(reply.body).size == (100, 67)
            assert looking(edge, f"{path}?w=100").is_hit
            webp = looking(edge, f"{path}?w=100&fm=webp")
            assert (webp.status, webp.headers["content-type"]) == (200, "image/webp")
        assert edge.metrics()['halftone_renders_total{result="unsupported"}'] == 0
        # What its name hides is found by the resizer.
        assert edge.get("/lie.jpg?w=100").status == 415
        assert looking(edge, "/lie.jpg?w=100").status == 200
        assert looking(edge, "/half.tif?w=100").status == 422


def test_a_client_that_floods_gives_way_to_another(tmp_path, originals):
    settings = "trusted_proxies = ['127.0.0.0/8']\nresizer.processes = 1\nresizer.queue = 4\n"
    waiting = 'halftone_resize_lane_depth{lane="cheap"}'
    with (
        node(tmp_path, f"{settings}[[site]]\nroot = {quote(originals)}\n") as edge,
        ThreadPoolExecutor(8) as threads,
    ):

        def get(target: str, client: str) -> Future[int]:
            return threads.submit(
                lambda: ask(edge.public, target, headers={"X-Forwarded-For": client}).status
            )

        assert edge.get("/logo.png").status == 200
        (resizer,) = edge.resizers()
        os.kill(resizer, signal.SIGSTOP)
        try:
            greedy = [get(f"/logo.png?w={width}", "192.0.2.1") for width in range(20, 25)]
            until(lambda: edge.metrics()[waiting] == 4, "a full queue")
            newcomer = get("/logo.png?w=30", "192.0.2.2")
            displaced = 'halftone_renders_total{result="displaced"}'
            until(lambda: edge.metrics()[displaced] == 1, "one that gives way")
        finally:
            os.kill(resizer, signal.SIGCONT)
        assert newcomer.result() == 200
        assert sorted(each.result() for each in greedy) == [200, 200, 200, 200, 503]


def test_a_marked_picture_is_upgraded_with_its_mark(tmp_path, originals, mark):
    text = marked_site(originals, mark) + 'negotiate.formats = ["avif", "webp"]\n'
    asked = "/photo.jpg?w=400&mark=logo&mark-pad=10"
    chrome = {"Accept": "image/avif,image/webp,*/*"}
    with node(tmp_path, text) as edge:
        quick = edge.get(asked, headers=chrome)
        assert (quick.status, quick.headers["content-type"]) == (200, "image/webp")

        replies: list[Reply] = []

        def is_avif() -> bool:
            replies.append(edge.get(asked, headers=chrome))
            return replies[-1].headers["content-type"] == "image/avif"

        until(is_avif, "the slow format")
        slow = edge.get(asked, headers=chrome)
        for reply in (quick, slow):
            red, green, blue = opened(reply.body).convert("RGB").getpixel((370, 195))
            assert min(red, blue) > 200 > 60 > green
        # Another mark: other pictures, in either format.
        put_mark(mark, CYAN)
        until(lambda: not is_avif(), "the new mark")
        renewed = [replies[-1]]
        until(is_avif, "the slow format with the new mark")
        renewed.append(replies[-1])
        assert not {each.headers["etag"] for each in renewed} & {
            each.headers["etag"] for each in (quick, slow)
        }
        for reply in renewed:
            assert opened(reply.body).convert("RGB").getpixel((370, 195))[0] < 60


def test_a_ladder_has_the_looks_of_its_site(tmp_path, originals):
    text = (
        f'[[site]]\nroot = {quote(originals)}\nsteps = [60, 120, 240]\nladder = "on-first-miss"\n'
        "pictures.sharpen = true\npictures.progressive = true\npictures.quality_jpeg = 40\n"
    )
    with node(tmp_path, text) as edge:
        assert edge.get("/photo.jpg?w=240").status == 200
        kept = 'halftone_ladder_rungs_total{result="kept"}'
        until(lambda: edge.metrics()[kept] == 2, "the ladder")
        for width in (60, 120):
            reply = edge.get(f"/photo.jpg?w={width}")
            assert reply.is_hit
            assert opened(reply.body).info.get("progressive")
        assert edge.renders() == 1
