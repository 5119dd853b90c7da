"""Pictures that move: kept or not, every frame's pixels, times, repeats, hostile files."""

import struct

import pytest
from PIL import Image, ImageDraw

from resizer import animation
from resizer.decode import open_picture
from resizer.errors import BadPicture, CorruptPicture, PictureTooLarge
from resizer.formats import MOVING, Format
from resizer.job import Limits
from resizer.render import Source, render
from resizer.transform import parse
from tests.resizer.pictures import BLUE, GREEN, GREY, RED, near, opened, saved

pytestmark = pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")

COLOURS = (RED, GREEN, BLUE, GREY)
TIMES = [40, 120, 70, 500]
LIMITS = Limits()


def moving(source: Format, frames: list[Image.Image], **options: object) -> bytes:
    options = {"duration": TIMES[: len(frames)], "save_all": True, **options}
    if source is not Format.GIF:
        options["quality"] = 95
    return saved(frames[0], source, append_images=frames[1:], **options)


def flags(side: int = 64) -> list[Image.Image]:
    """Each frame of one colour, but for a white bar that stands still."""
    frames = [Image.new("RGB", (side, side), colour) for colour in COLOURS]
    for frame in frames:
        ImageDraw.Draw(frame).rectangle((0, 0, side, side // 4), fill="white")
    return frames


def frames_of(data: bytes) -> list[tuple[Image.Image, int]]:
    image = opened(data)
    found = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        image.load()
        found.append((image.convert("RGBA"), int(image.info.get("duration", 0))))
    return found


@pytest.mark.parametrize("source", sorted(MOVING))
@pytest.mark.parametrize("output", sorted(MOVING))
def test_every_frame(source: Format, output: Format) -> None:
    data = moving(source, flags())
    body, result = render(Source(data, LIMITS), parse(f"w=32,f={output}"))
    assert (result.width, result.height, result.media_type) == (32, 32, output.media_type)
    frames = frames_of(body)
    assert [time for _, time in frames] == TIMES
    for (frame, _), colour in zip(frames, COLOURS, strict=True):
        assert frame.size == (32, 32)
        assert near(frame.getpixel((16, 24)), (*colour, 255), 16)
        assert near(frame.getpixel((16, 2)), (255, 255, 255, 255), 16)


@pytest.mark.parametrize("source", sorted(MOVING))
@pytest.mark.parametrize("output", [Format.JPEG, Format.PNG])
def test_the_first_frame_where_nothing_can_move(source: Format, output: Format) -> None:
    body, _ = render(Source(moving(source, flags()), LIMITS), parse(f"w=32,f={output}"))
    image = opened(body)
    assert getattr(image, "n_frames", 1) == 1
    assert near(image.convert("RGB").getpixel((16, 24)), RED, 16)


def spot(number: int, side: int = 64) -> Image.Image:
    """A spot that wanders over nothing."""
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    # Round: of frames that are opaque rectangles libwebp forgets that the rest is transparent.
    ImageDraw.Draw(image).ellipse((16 * number, 16, 16 * number + 15, 47), fill=(*RED, 255))
    return image


@pytest.mark.parametrize("source", sorted(MOVING))
@pytest.mark.parametrize("output", sorted(MOVING))
def test_what_is_transparent_leaves_no_trail(source: Format, output: Format) -> None:
    options = {"disposal": 2} if source is Format.GIF else {}
    data = moving(source, [spot(number) for number in range(4)], **options)
    frames = frames_of(render(Source(data, LIMITS), parse(f"w=32,f={output}"))[0])
    assert len(frames) == 4
    for number, (frame, _) in enumerate(frames):
        for place in range(4):
            alpha = frame.getpixel((8 * place + 4, 16))[3]  # type: ignore[index]
            assert (alpha > 200) == (place == number), (number, place, alpha)
            assert alpha > 200 or alpha < 40


def test_disposals_of_a_gif() -> None:
    """A screen of red, then a green square: left there, cleared, or taken back."""
    for disposal, under in ((1, GREEN), (3, RED)):
        screen, square = Image.new("RGB", (64, 64), RED), Image.new("RGB", (64, 64), RED)
        square.paste(GREEN, (0, 0, 32, 32))
        last = square.copy() if disposal == 1 else screen.copy()
        last.paste(BLUE, (32, 32, 64, 64))
        data = moving(Format.GIF, [screen, square, last], disposal=[1, disposal, 1])
        frames = frames_of(render(Source(data, LIMITS), parse("w=32"))[0])
        assert near(frames[1][0].getpixel((8, 8)), (*GREEN, 255), 16)
        assert near(frames[2][0].getpixel((8, 8)), (*under, 255), 16)
        assert near(frames[2][0].getpixel((24, 24)), (*BLUE, 255), 16)


@pytest.mark.parametrize(
    ("loop", "plays"), [({}, 1), ({"loop": 0}, 0), ({"loop": 1}, 2), ({"loop": 7}, 8)]
)
def test_repeats_of_a_gif(loop: dict[str, int], plays: int) -> None:
    data = moving(Format.GIF, flags(), **loop)
    assert animation.plays(open_picture(data, LIMITS)) == plays
    again = opened(render(Source(data, LIMITS), parse("w=32"))[0])
    assert again.info.get("loop") == loop.get("loop")
    other = opened(render(Source(data, LIMITS), parse("w=32,f=webp"))[0])
    assert other.info.get("loop") == plays


@pytest.mark.parametrize(("said", "shown"), [(0, 100), (10, 100), (20, 20), (5000, 5000)])
def test_hasty_frames(said: int, shown: int) -> None:
    data = moving(Format.GIF, flags(), duration=said)
    times = {time for _, time in frames_of(render(Source(data, LIMITS), parse("w=32,f=webp"))[0])}
    assert times == {shown}


# (limits, moving after all); four frames of 64x64, 16,384 pixels, to 32x32, 4,096 pixels
@pytest.mark.parametrize(
    ("limits", "count"),
    [
        (Limits(max_frames=4), 4),
        (Limits(max_frames=3), 1),
        (Limits(max_frames=1), 1),
        (Limits(max_animation_pixels=20_480), 4),
        (Limits(max_animation_pixels=20_479), 1),
    ],
)
@pytest.mark.parametrize("source", sorted(MOVING))
def test_within_the_budget_or_standing_still(limits: Limits, count: int, source: Format) -> None:
    data = moving(source, flags())
    frames = frames_of(render(Source(data, limits), parse("w=32"))[0])
    assert len(frames) == count
    assert near(frames[0][0].getpixel((16, 24)), (*RED, 255), 16)


def test_fewer_frames_by_request() -> None:
    picture = open_picture(data := moving(Format.GIF, flags()), LIMITS)
    for asked, count in ((None, 4), (1, 1), (3, 3), (9, 4)):
        kept = animation.frames_kept(picture, data, Format.WEBP, (32, 32), LIMITS, asked)
        assert kept == count
    assert animation.frames_kept(picture, data, Format.JPEG, (32, 32), LIMITS, None) == 1


# --- hostile -------------------------------------------------------------------------------------

SCREEN = b"GIF89a\2\0\2\0\x80\0\0" + b"\0\0\0\xff\xff\xff"
IMAGE = b",\0\0\0\0\2\0\2\0\0\x02\x03\x84\x8f\x05\0"


def test_endless_frames() -> None:
    data = SCREEN + IMAGE * 200_000
    body, _ = render(Source(data, LIMITS), parse("w=1"))
    assert len(frames_of(body)) == 1


def test_a_file_with_fewer_frames_than_it_shows() -> None:
    data = moving(Format.WEBP, flags())
    with pytest.raises(BadPicture):
        render(Source(data[:-40], LIMITS), parse("w=32"))
    # A frame without pixels, counted and not to be read.
    data = SCREEN + IMAGE * 3 + IMAGE[:10] + b"\x02\0;"
    with pytest.raises(CorruptPicture):
        render(Source(data, LIMITS), parse("w=1"))


def test_a_later_frame_beyond_the_screen() -> None:
    image = struct.pack("<cHHHHB", b",", 0, 0, 60_000, 60_000, 0) + b"\x02\x03\x84\x8f\x05\0"
    with pytest.raises(PictureTooLarge):
        render(Source(SCREEN + IMAGE + image + b";", LIMITS), parse("w=1"))
    # Within the limits, the screen stays what it was.
    image = struct.pack("<cHHHHB", b",", 1, 1, 2, 2, 0) + IMAGE[10:]
    picture = open_picture(SCREEN + IMAGE + image + b";", LIMITS)
    assert [frame.image.size for frame in animation.read_frames(picture, 2)] == [(2, 2), (2, 2)]


def test_frames_are_read_one_at_a_time() -> None:
    picture = open_picture(SCREEN + IMAGE * 50, LIMITS)
    reader = animation.read_frames(picture, 50)
    next(reader)
    next(reader)
    assert picture.image.tell() == 1
