"""Whose picture it is: read from everywhere, written as little, hostile text."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resizer.decode import open_picture, rights_of
from resizer.encode import encode
from resizer.formats import Format
from resizer.job import Limits
from resizer.rights import TEXT_CHARS, Rights, build_exif, clean, gather
from tests.resizer.pictures import opened, quarters, saved

# As a worker has them, settle_warnings().
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ARTIST, COPYRIGHT = 0x013B, 0x8298


def dataset(number: int, text: bytes, record: int = 2) -> bytes:
    return struct.pack(">BBBH", 0x1C, record, number, len(text)) + text


IPTC = dataset(5, b"a title") + dataset(80, b"Ida") + dataset(116, b"(c) Ida")
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description>'
    b"<dc:creator><rdf:Seq><rdf:li>Xenia &amp; Co</rdf:li></rdf:Seq></dc:creator>"
    b'<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">(c) Xenia</rdf:li></rdf:Alt></dc:rights>'
    b"<exif:GPSLatitude>47,1N</exif:GPSLatitude></rdf:Description></rdf:RDF></x:xmpmeta>"
)


@pytest.mark.parametrize(
    ("artist", "notice", "iptc", "xmp", "expected"),
    [
        # usual: EXIF before IPTC before XMP, each of the two for itself
        ("Eva", "(c) Eva", IPTC, XMP, Rights("Eva", "(c) Eva")),
        ("Eva", None, IPTC, XMP, Rights("Eva", "(c) Ida")),
        (None, None, IPTC, XMP, Rights("Ida", "(c) Ida")),
        (None, None, None, XMP, Rights("Xenia & Co", "(c) Xenia")),
        (None, None, None, None, Rights()),
        # edge
        ("Eva\0Editor\0", "", None, None, Rights("Eva Editor")),
        (b"Eva", "Zoë", None, None, Rights("Eva", "Zoë")),
        (b"Zo\xc3\xab", b"Zo\xeb", None, None, Rights("Zoë", "Zoë")),
        # damaged or of no meaning
        (7, (1, 2), b"\x1c", b"<dc:rights>", Rights()),
        ("\r\n\t\x1b[2J", "\u202e", None, None, Rights("[2J")),
        (None, None, dataset(80, b"Ida")[:-1], None, Rights()),
        (None, None, b"\x1c\x02\x50\xff\xff" + bytes(99), None, Rights()),
        (None, None, dataset(80, b"Ida", record=3), None, Rights()),
        (None, None, dataset(5, b"") * 2000 + IPTC, None, Rights()),
        (None, None, None, b"</dc:rights><dc:rights>" * 9, Rights()),
        (None, None, None, b"<dc:rights>" + b"<rdf:li" * 30_000 + b"</dc:rights>", Rights()),
        (None, None, None, b"\xff\xfe" + XMP[:190], Rights("Xenia & Co")),
        (None, None, None, b" " * (256 << 10) + XMP, Rights()),
    ],
)
def test_gather(
    artist: object, notice: object, iptc: bytes | None, xmp: bytes | None, expected: Rights
) -> None:
    assert gather(artist, notice, iptc, xmp) == expected


def test_long_text_is_cut() -> None:
    assert clean("a" * 100_000) == "a" * TEXT_CHARS


@given(st.text(max_size=40).map(clean), st.text(max_size=40).map(clean))
def test_what_is_written_is_read(artist: str, notice: str) -> None:
    built = build_exif(Rights(artist, notice))
    assert bool(built) == bool(artist or notice)
    if not built:
        return
    exif = Image.Exif()
    exif.load(built)
    assert set(exif) == {ARTIST} & {ARTIST if artist else 0} | {COPYRIGHT if notice else 0} - {0}
    assert gather(_text(exif.get(ARTIST)), _text(exif.get(COPYRIGHT))) == Rights(artist, notice)


def _text(value: object) -> object:
    # Pillow takes ASCII for Latin-1.
    return value.encode("latin-1") if isinstance(value, str) else value


@pytest.mark.parametrize("source", [Format.JPEG, Format.PNG, Format.WEBP, Format.AVIF])
@pytest.mark.parametrize("output", [Format.JPEG, Format.PNG, Format.WEBP, Format.AVIF])
def test_from_a_file_into_a_file(source: Format, output: Format) -> None:
    exif = Image.Exif()
    exif[ARTIST], exif[COPYRIGHT], exif[0x010E], exif[0x0112] = "Eva", "(c) Eva", "secret", 6
    data = saved(quarters(), source, exif=exif)
    picture = open_picture(data, Limits())
    picture.image.load()
    rights = rights_of(picture)
    assert rights == Rights("Eva", "(c) Eva")
    body = encode(quarters(), output, None, 1 << 20, exif=build_exif(rights))
    assert b"secret" not in body
    kept = opened(body).getexif()
    assert dict(kept) == {ARTIST: "Eva", COPYRIGHT: "(c) Eva"}


def test_from_iptc_and_xmp_of_a_jpeg() -> None:
    data = saved(quarters(), Format.JPEG)
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">L", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
    for name, body, expected in (
        (0xED, b"Photoshop 3.0\0" + resource, Rights("Ida", "(c) Ida")),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP, Rights("Xenia & Co", "(c) Xenia")),
        (0xED, b"Photoshop 3.0\0" + resource[:-9], Rights("Ida")),
    ):
        segment = struct.pack(">BBH", 0xFF, name, len(body) + 2) + body
        assert rights_of(open_picture(data[:2] + segment + data[2:], Limits())) == expected


def test_broken_exif_says_nothing() -> None:
    data = saved(quarters(), Format.JPEG, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert not rights_of(open_picture(data, Limits()))
