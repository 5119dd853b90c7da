"""libvips' thumbnail in a bare loop, by pyvips. Run with VIPS_CONCURRENCY=1, as is its cache: off.

Metadata is stripped, JPEG is 4:2:0 as the others'. Efforts are the node's: WebP 2, AVIF 0 (aom's
speed 9), PNG level 4.
"""

import pyvips
import wire  # beside this file; the Python that has pyvips does not know this repository

NO_LIMIT = 10_000_000  # VIPS_MAX_COORD: only the width counts

pyvips.cache_set_max(0)


def render(path: str, width: int, ending: str, quality: int) -> bytes:
    image = pyvips.Image.thumbnail(path, width, height=NO_LIMIT, size="down")
    match ending:
        case "jpeg":
            return image.jpegsave_buffer(Q=quality, keep="none", subsample_mode="on")
        case "png":
            return image.pngsave_buffer(compression=4, keep="none")
        case "webp":
            return image.webpsave_buffer(Q=quality, effort=2, keep="none")
        case "avif":
            return image.heifsave_buffer(Q=quality, compression="av1", effort=0, keep="none")
    raise ValueError(ending)


if __name__ == "__main__":
    wire.run(render)
