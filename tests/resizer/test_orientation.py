"""Orientation: boxes of the upright picture among the stored pixels."""

import pytest

from resizer.orientation import Orientation


# The upper left 1x2 of the upright picture, in a picture stored as 10x20.
@pytest.mark.parametrize(
    ("tag", "box"),
    [
        (1, (0, 0, 1, 2)),
        (2, (9, 0, 10, 2)),
        (3, (9, 18, 10, 20)),
        (4, (0, 18, 1, 20)),
        (5, (0, 0, 2, 1)),
        (6, (0, 19, 2, 20)),
        (7, (8, 19, 10, 20)),
        (8, (8, 0, 10, 1)),
    ],
)
def test_stored_box(tag: int, box: tuple[int, ...]) -> None:
    assert Orientation(tag).stored_box((0, 0, 1, 2), (10, 20)) == box


@pytest.mark.parametrize("tag", range(1, 9))
def test_whole_is_whole(tag: int) -> None:
    turn = Orientation(tag)
    upright = turn.turn((10, 20))
    assert upright == ((20, 10) if tag >= 5 else (10, 20))
    assert turn.turn(upright) == (10, 20)
    assert turn.stored_box((0, 0, *upright), (10, 20)) == (0, 0, 10, 20)


@pytest.mark.parametrize("tag", [0, 9, -1, None, "6", b"6", 6.0, (6,), 1 << 40])
def test_nonsense_is_upright(tag: object) -> None:
    assert Orientation.of(tag) is Orientation.UPRIGHT


@pytest.mark.parametrize("first", Orientation)
@pytest.mark.parametrize("second", Orientation)
def test_one_after_the_other(first: Orientation, second: Orientation) -> None:
    # A box of the last picture, found in the first by two steps or by one.
    stored = (10, 20)
    middle = first.turn(stored)
    both = first.then(second)
    assert both.turn(stored) == second.turn(middle)
    for box in ((0, 0, 1, 2), (3, 4, 6, 5)):
        assert both.stored_box(box, stored) == first.stored_box(
            second.stored_box(box, middle), stored
        )


@pytest.mark.parametrize("turn", Orientation)
def test_inverse(turn: Orientation) -> None:
    assert turn.then(turn.inverse) is turn.inverse.then(turn) is Orientation.UPRIGHT


@pytest.mark.parametrize(
    ("mirror", "turns", "tag"),
    [(False, 0, 1), (True, 0, 2), (False, 2, 3), (True, 2, 4), (False, 1, 6), (False, -1, 8)],
)
def test_made(mirror: bool, turns: int, tag: int) -> None:
    assert Orientation.made(mirror, turns) is Orientation(tag)
