"""The list of inputs that kill."""

from resizer.bar import Bar

A, B, C = ((name, "w=220") for name in (b"a", b"b", b"c"))


def test_two_strikes() -> None:
    bar = Bar(600, 10)
    assert not bar.is_barred(A, 0)
    bar.strike(A, 0)
    assert not bar.is_barred(A, 1)
    bar.strike(A, 10)
    assert bar.is_barred(A, 11)
    assert not bar.is_barred((b"a", "w=120"), 11)  # another size of it may be harmless
    assert bar.is_barred(A, 609.9)
    assert not bar.is_barred(A, 610)
    assert len(bar) == 0


def test_a_strike_is_forgotten() -> None:
    bar = Bar(600, 10)
    bar.strike(A, 0)
    bar.strike(A, 600)
    assert not bar.is_barred(A, 601)
    bar.forgive(A)
    bar.strike(A, 602)
    assert not bar.is_barred(A, 603)
    bar.forgive(B)


def test_bounded() -> None:
    bar = Bar(600, 2)
    for key in (A, A, B, B, C, C):
        bar.strike(key, 0)
    assert len(bar) == 2
    assert [bar.is_barred(key, 1) for key in (A, B, C)] == [False, True, True]
