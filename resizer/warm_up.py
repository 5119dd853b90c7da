"""Every codec and every step used once, both ways, before a worker is sealed.

Pillow and Python import on first use, and the sealed process can't open a file.
"""

import contextlib
import io
from typing import Final

from PIL import Image, ImageCms

from resizer import colour, decode
from resizer.errors import ResizeError
from resizer.formats import MOVING, Format, InputOnly, SourceFormat
from resizer.job import Limits
from resizer.placeholder import STAND_INS
from resizer.render import Source, render, render_all
from resizer.transform import Transform
from resizer.transform import parse as parse_transform

# Transforms that between them use all that a render can do to pixels.
LOOKS: Final = (
    "w=9,h=5,fit=cover,g=smart,bri=5,sat=5,sh=50,cr=2,crisp=1",
    "w=9,h=9,fit=letterbox,fill=blur,rot=123,tone=bitonal,blur=9",
    *(f"ph={kind}" for kind in STAND_INS),
)
LADDER: Final = ("w=20", "w=12,f=jpeg,pr=1", "w=7,h=7,fit=cover")
_SAMPLES: Final[dict[SourceFormat, dict[str, object]]] = {
    Format.JPEG: {"comment": b"a comment"},
    Format.GIF: {"comment": b"a comment"},
    # Through libtiff; without compression Pillow reads the pixels itself.
    InputOnly.TIFF: {"compression": "tiff_lzw"},
}
# One AVIF that moves leaves 4 MB in every worker, and there is nothing in it to import.
_MOVING_SAMPLES: Final = (Format.GIF, Format.WEBP)


def warm_up(*, thorough: bool = False) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    sample = Image.linear_gradient("L").resize((48, 32)).convert("RGBA")
    sample.putalpha(sample.getchannel("R"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = b""
    for source in (*Format, *InputOnly):
        image = sample.convert("RGB") if source is Format.JPEG else sample
        name = decode.DECODERS[source].name
        with io.BytesIO() as buffer:
            image.save(buffer, name, exif=exif, icc_profile=profile, **_SAMPLES.get(source, {}))
            file = buffer.getvalue()
        for asked in ("", "w=9,h=5,fit=cover", "w=7,h=7,fit=letterbox,up=1"):
            render(_source(file), parse_transform(asked))
        # Cut short: what is raised, and what raising imports.
        for cut in (file[: len(file) * 3 // 4], file[:40]):
            with contextlib.suppress(ResizeError):
                render(_source(cut), Transform())
    with io.BytesIO() as buffer:
        sample.save(buffer, Format.PNG.name)
        for asked in LOOKS:
            render(_source(buffer.getvalue()), parse_transform(asked))
        for _ in render_all(_source(buffer.getvalue()), [*map(parse_transform, LADDER)]):
            pass
    frames = [sample, sample.rotate(90)]
    for moving in MOVING if thorough else _MOVING_SAMPLES:
        with io.BytesIO() as buffer:
            frames[0].save(buffer, moving.name, save_all=True, append_images=frames[1:])
            file = buffer.getvalue()
        render(_source(file), Transform(width=9))
    colour.to_srgb(Image.new("CMYK", (8, 8)), profile)
    colour.to_srgb(Image.new("RGB", (8, 8)), file)


def _source(data: bytes) -> Source:
    return Source(data, Limits(), inputs=tuple(InputOnly))
