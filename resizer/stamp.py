"""Stamping: a watermark's own picture on the finished one.

The mark has been decoded as every picture is (resizer/decode.py), once a job.
"""

from PIL import Image

from resizer.errors import ImpossibleTransform
from resizer.transform import Transform
from resizer.watermark import Watermark


def stamp(image: Image.Image, mark: Image.Image | None, transform: Transform) -> Image.Image:
    """The image with the mark where the transform's watermark says, in RGB or RGBA.

    A mark that does not fit between the margins is shrunk until it does; where nothing is between
    them there is no mark. Raises ImpossibleTransform when a mark is asked for and there is none: a
    picture without it would be a wrong one.
    """
    wanted = transform.watermark
    if wanted is None:
        return image
    if mark is None:
        raise ImpossibleTransform(f"no watermark {wanted.name!r}")
    size = _size(image.size, mark.size, wanted)
    if size is None:
        return image
    mark = mark.convert("RGBA")
    if size != mark.size:
        mark = mark.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    if wanted.opacity < 100:
        alpha = mark.getchannel("A").point([round(v * wanted.opacity / 100) for v in range(256)])
        mark.putalpha(alpha)
    at = _place(image.size, size, wanted)
    if image.mode in ("LA", "RGBA"):
        stamped = image.convert("RGBA") if image.mode == "LA" else image.copy()
        stamped.alpha_composite(mark, at)
        return stamped
    stamped = image.convert("RGB") if image.mode == "L" else image.copy()
    stamped.paste(mark, at, mask=mark.getchannel("A"))
    return stamped


def _size(
    image: tuple[int, int], mark: tuple[int, int], wanted: Watermark
) -> tuple[int, int] | None:
    room = (image[0] - 2 * wanted.margin, image[1] - 2 * wanted.margin)
    if min(room) < 1:
        return None
    scale = image[0] * wanted.scale / 100 / mark[0] if wanted.scale else 1.0
    scale = min(scale, room[0] / mark[0], room[1] / mark[1])
    return (max(1, round(mark[0] * scale)), max(1, round(mark[1] * scale)))


def _place(image: tuple[int, int], mark: tuple[int, int], wanted: Watermark) -> tuple[int, int]:
    anchor = wanted.position.anchor
    margin = wanted.margin
    return (
        margin + int((image[0] - 2 * margin - mark[0]) * anchor[0]),
        margin + int((image[1] - 2 * margin - mark[1]) * anchor[1]),
    )
