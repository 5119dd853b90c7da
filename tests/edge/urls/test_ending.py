"""Endings of file names, and the format that is no wish."""

import pytest

from edge.urls.derivative import Derivative
from edge.urls.ending import ENDINGS, extension, output_format, own_format, resolve
from resizer.formats import EXTENSIONS, Format
from resizer.transform import Transform

ENDED = [
    ("/Dune.jpg", "jpg", Format.JPEG),
    ("/Dune.JPEG", "JPEG", Format.JPEG),
    ("/a.png/Dune.webp", "webp", Format.WEBP),
    ("/Dune.tar.gif", "gif", Format.GIF),
    ("/Dune.svg", "svg", None),
    ("/Dune", "", None),
    ("/a.jpg/Dune", "", None),  # the folder's ending is not the file's
    ("/.jpg", "", None),
    ("/Dune.", "", None),
    ("/Dune.jpg ", "jpg ", None),
]


@pytest.mark.parametrize(("path", "ending", "own"), ENDED)
def test_ending(path: str, ending: str, own: Format | None) -> None:
    assert extension(path) == ending
    assert own_format(path) is own


@pytest.mark.parametrize(
    ("source", "wanted", "field"),
    [
        ("/Dune.jpg", Format.JPEG, None),
        ("/Dune.JPE", Format.JPEG, None),
        ("/Dune.jpg", Format.WEBP, Format.WEBP),
        ("/Dune.jpg", None, None),
        ("/Dune", Format.JPEG, Format.JPEG),
        ("/Dune", None, None),
    ],
)
def test_output_format(source: str, wanted: Format | None, field: Format | None) -> None:
    assert output_format(source, wanted) is field


def test_every_format_has_an_ending_that_reads_back() -> None:
    assert {form: EXTENSIONS[ENDINGS[form]] for form in Format} == {form: form for form in Format}


def test_resolving_an_extension_finds_the_key_of_the_other_grammars() -> None:
    asked = Derivative("/Dune", Transform(width=9, format=Format.JPEG), ("jpg", "png"), True)
    as_jpeg, as_png = resolve(asked, "jpg"), resolve(asked, "png")
    assert as_jpeg == Derivative("/Dune.jpg", Transform(width=9), (), True)
    assert as_png == Derivative("/Dune.png", Transform(width=9, format=Format.JPEG), (), True)
