"""BlurHash, read back by its description."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resizer.blurhash import encode

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"


def number(text: str) -> int:
    value = 0
    for digit in text:
        value = value * 83 + DIGITS.index(digit)
    return value


def mean(text: str) -> tuple[int, ...]:
    return tuple(number(text[2:6]).to_bytes(3, "big"))


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_one_colour(red: int, green: int, blue: int) -> None:
    text = encode(8, 6, bytes((red, green, blue)) * 48)
    assert mean(text) == (red, green, blue)
    assert len(text) == 6 + 2 * 11


@pytest.mark.parametrize(
    ("size", "terms"), [((8, 6), (4, 3)), ((6, 8), (3, 4)), ((8, 8), (4, 3)), ((1, 1), (4, 3))]
)
def test_terms(size: tuple[int, int], terms: tuple[int, int]) -> None:
    text = encode(*size, bytes(3 * size[0] * size[1]))
    assert (number(text[0]) % 9 + 1, number(text[0]) // 9 + 1) == terms


def test_the_mean_is_of_light() -> None:
    # Half black, half white: half of the light is 188, not 128.
    assert mean(encode(8, 2, (bytes(12) + b"\xff" * 12) * 2)) == (188, 188, 188)


def test_the_first_term_says_which_side_is_bright() -> None:
    dark_left = encode(8, 2, (bytes(12) + b"\xff" * 12) * 2)
    dark_right = encode(8, 2, (b"\xff" * 12 + bytes(12)) * 2)
    # Nineteen steps a colour, nine in the middle: the cosine falls from left to right.
    middle = (9 * 19 + 9) * 19 + 9
    assert number(dark_left[6:8]) < middle < number(dark_right[6:8])


@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_every_picture_has_one(width: int, height: int, random: object) -> None:
    text = encode(width, height, random.randbytes(3 * width * height))  # type: ignore[attr-defined]
    assert set(text) <= set(DIGITS)
    assert len(text) == 28
