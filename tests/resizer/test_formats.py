"""Magic numbers."""

import pytest

from resizer.formats import SNIFF_BYTES, Format, InputOnly, SourceFormat, sniff


@pytest.mark.parametrize(
    ("head", "found"),
    [
        # usual
        (b"\xff\xd8\xff\xe0\0\x10JFIF", Format.JPEG),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Format.PNG),
        (b"GIF87a", Format.GIF),
        (b"GIF89a", Format.GIF),
        (b"RIFF\1\2\3\4WEBPVP8 ", Format.WEBP),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", Format.AVIF),
        # edge: the brand stands among the compatible ones
        (b"\0\0\0\x20ftypmif1\0\0\0\0miafavif", Format.AVIF),
        # other formats and no picture
        (b"\0\0\0\x20ftypheic\0\0\0\0mif1heic", None),
        (b"%!PS-Adobe-3.0 EPSF", None),
        (b"II*\0", InputOnly.TIFF),
        (b"MM\0*", InputOnly.TIFF),
        (b"\0\0\0\x0cjP  \r\n\x87\n", InputOnly.JPEG2000),
        (b"\xff\x4f\xff\x51", InputOnly.JPEG2000),
        (b"II+\0", None),  # BigTIFF
        (b"BM", None),
        (b"<svg", None),
        (b"RIFF\1\2\3\4WAVE", None),
        (b"\x89PNG\n", None),
        (b"", None),
    ],
)
def test_sniff(head: bytes, found: SourceFormat | None) -> None:
    assert sniff(head) is found
    assert sniff((head + bytes(SNIFF_BYTES))[:SNIFF_BYTES]) is found
