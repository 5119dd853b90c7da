"""The node's own Pillow calls in a bare loop: resizer.render, without pool and sandbox.

That is decode.open_picture (header), geometry.plan, decode.load_pixels (DCT scaling, pixels),
pipeline.render (resize, sRGB) and encode.encode, on the bytes of a file that is read whole.
"""

from resizer.decode import settle_warnings
from resizer.formats import Format
from resizer.job import Limits
from resizer.render import Source
from resizer.render import render as render_one
from resizer.transform import Transform
from tests.bench.loops import wire


def render(path: str, width: int, ending: str, quality: int) -> bytes:
    with open(path, "rb") as file:
        data = file.read()
    transform = Transform(width=width, format=Format(ending), quality=quality)
    body, _ = render_one(Source(data, Limits()), transform)
    return body


if __name__ == "__main__":
    settle_warnings()
    wire.run(render)
