"""ThumbHash, against hashes that its author's own program made and by what it must mean."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resizer.thumbhash import encode


def pattern(width: int, height: int, has_alpha: bool) -> bytes:
    return bytes(
        value
        for y in range(height)
        for x in range(width)
        for value in (
            x * 7 % 256,
            y * 11 % 256,
            x * y * 3 % 256,
            (x + y) * 5 % 256 if has_alpha else 255,
        )
    )


# (width, height, transparent, hash): thumbhash.js on the same pixels
VECTORS = [
    (64, 20, False, "db070a1a964593577077677757906cf488"),
    (40, 30, True, "de1786148a18434b968890b828750a607d3e8157b0478a8607"),
    (1, 1, False, "000802070000000000000000000000000000000000000000"),
    (100, 1, False, "cae91679ba776796888808887788708708"),
    (2, 2, True, "01f8850500007708877887880779c017f886750a858887a808"),
]


@pytest.mark.parametrize(("width", "height", "has_alpha", "wanted"), VECTORS)
def test_vectors(width: int, height: int, has_alpha: bool, wanted: str) -> None:
    assert encode(width, height, pattern(width, height, has_alpha)).hex() == wanted


def mean(code: bytes) -> tuple[float, ...]:
    """The mean colour and alpha, read back by the format's description."""
    head = int.from_bytes(code[:3], "little")
    light = (head & 63) / 63
    p = (head >> 6 & 63) / 31.5 - 1
    q = (head >> 12 & 63) / 31.5 - 1
    blue = light - 2 / 3 * p
    red = (3 * light - blue + q) / 2
    return (red, red - q, blue, (code[5] & 15) / 15 if head >> 23 else 1.0)


COLOUR = st.integers(0, 255)


@given(COLOUR, COLOUR, COLOUR)
def test_the_mean_colour(red: int, green: int, blue: int) -> None:
    code = encode(8, 6, bytes((red, green, blue, 255)) * 48)
    for got, wanted in zip(mean(code), (red / 255, green / 255, blue / 255, 1), strict=True):
        assert got == pytest.approx(wanted, abs=0.05)


def test_the_colour_of_what_is_seen() -> None:
    code = encode(4, 4, bytes((255, 0, 0, 0)) * 8 + bytes((0, 255, 0, 255)) * 8)
    assert mean(code) == pytest.approx((0, 1, 0, 0.5), abs=0.05)
    assert mean(encode(4, 4, bytes((255, 0, 0, 0)) * 16))[3] == 0  # nothing is


@pytest.mark.parametrize(
    ("width", "height", "ratio"), [(70, 50, 7 / 5), (50, 70, 5 / 7), (64, 64, 1), (100, 25, 3.5)]
)
def test_proportions(width: int, height: int, ratio: float) -> None:
    code = encode(width, height, pattern(width, height, False))
    shorter, is_landscape = code[3] & 7, code[4] >> 7
    assert (7 / shorter if is_landscape else shorter / 7) == pytest.approx(ratio)


@given(st.integers(1, 100), st.integers(1, 100), st.randoms(use_true_random=False))
def test_every_picture_has_a_short_one(width: int, height: int, random: object) -> None:
    pixel = random.randbytes(4)  # type: ignore[attr-defined]
    code = encode(width, height, pixel * (width * height))
    assert 5 <= len(code) <= 25
    assert base64.b64encode(code)
