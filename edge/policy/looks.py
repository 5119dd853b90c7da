"""Looks: what a site adds to every derivative, and what its derivatives may be made from.

What a URL says for itself wins: its quality, and its own blur or sharpening in place of the site's.
An original is never touched. All of it goes into the transform, so that a changed setting makes
other keys and other entity tags, and what was made under the old one ages away.
"""

import dataclasses
from dataclasses import dataclass
from typing import Final

from edge.urls.ending import extension
from resizer.formats import INPUT_EXTENSIONS, InputOnly
from resizer.transform import Placeholder, Transform
from resizer.transform import Qualities as Qualities


@dataclass(frozen=True, slots=True)
class Looks:
    """inputs: formats that are only read and are switched on. marks: the site's watermarks, a name
    and a path each."""

    sharpen: bool = False
    progressive: bool = False
    qualities: Qualities = Qualities()  # noqa: RUF009 - a frozen value
    inputs: tuple[InputOnly, ...] = ()
    marks: tuple[tuple[str, str], ...] = ()

    @property
    def adds_nothing(self) -> bool:
        return not (self.sharpen or self.progressive or self.qualities.by_format)

    def apply(self, transform: Transform) -> Transform:
        """The transform in the site's looks; applied twice it is the same."""
        if self.adds_nothing and not transform.qualities.by_format:
            return transform
        # A placeholder is no picture that anybody looks at closely.
        if transform.is_identity or transform.placeholder is not Placeholder.NONE:
            return transform
        is_sharpened = self.sharpen and not (transform.blur or transform.sharpen)
        return dataclasses.replace(
            transform,
            crisp=transform.crisp or is_sharpened,
            progressive=transform.progressive or self.progressive,
            qualities=self._qualities(transform),
        )

    def _qualities(self, transform: Transform) -> Qualities:
        if transform.quality is not None:
            return transform.qualities
        merged = dict(self.qualities.by_format) | dict(transform.qualities.by_format)
        return Qualities(tuple(sorted(merged.items())))

    def may_read(self, path: str) -> bool:
        """Whether derivatives are made of a file with this ending, as far as that tells."""
        found = INPUT_EXTENSIONS.get(extension(path).lower())
        return found is None or found in self.inputs

    def maybe_mark(self, name: str) -> str | None:
        """The path of a watermark, None where the site has none of this name."""
        return dict(self.marks).get(name)


PLAIN: Final = Looks()
