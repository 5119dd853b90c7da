"""File name endings: the format that a name announces, and the one rule that follows from it.

A wanted format that the source has already is no wish: it becomes None, so that all of
/thumb/Dune.jpg/220px-Dune.jpg, /Dune.jpg?w=220 and /Dune.jpg?w=220&fm=jpg are one file in the
cache.
"""

import dataclasses
from typing import Final

from edge.urls.derivative import Derivative
from resizer.formats import EXTENSIONS, Format

# The spelling of each format that we write.
ENDINGS: Final[dict[Format, str]] = {
    Format.JPEG: "jpg",
    Format.PNG: "png",
    Format.WEBP: "webp",
    Format.AVIF: "avif",
    Format.GIF: "gif",
}


def extension(path: str) -> str:
    """What follows the last dot of the file name, in its own case; "" without one.

    A dot at the start makes a hidden file, not an extension.
    """
    stem, _, ending = path.rpartition("/")[2].rpartition(".")
    return ending if stem else ""


def own_format(path: str) -> Format | None:
    """The format that the ending of a source announces, None when none of ours."""
    return EXTENSIONS.get(extension(path).lower())


def output_format(source: str, wanted: Format | None) -> Format | None:
    """The format field of a transform of source: None when it is the source's own."""
    return None if wanted is own_format(source) else wanted


def resolve(derivative: Derivative, found: str) -> Derivative:
    """The derivative once it is known under which of its extensions the source exists."""
    assert found in derivative.extensions, "only what was offered can be found"
    source = f"{derivative.source}.{found}"
    transform = dataclasses.replace(
        derivative.transform, format=output_format(source, derivative.transform.format)
    )
    return dataclasses.replace(derivative, source=source, transform=transform, extensions=())
