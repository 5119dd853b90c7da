"""The list of inputs that kill."""

import pytest

from resizer.bar import Bar, Fault

A, B, C = b"a", b"b", b"c"


def test_two_crashes_bar_the_picture() -> None:
    bar = Bar(600, 10)
    assert not bar.is_barred(A, "w=1", 0)
    assert not bar.strike(A, "w=1", Fault.CRASH, 0)
    assert not bar.is_barred(A, "w=1", 1)
    assert bar.strike(A, "w=2", Fault.CRASH, 10)  # whatever was to be made of it
    assert not bar.strike(A, "w=1", Fault.CRASH, 10)  # is barred already
    for operation in ("w=1", "w=2", "w=3"):
        assert bar.is_barred(A, operation, 609.9)
    assert not bar.is_barred(B, "w=1", 11)
    assert not bar.is_barred(A, "w=1", 610)
    assert len(bar) == 0


def test_two_overruns_bar_the_transform() -> None:
    bar = Bar(600, 10)
    assert not bar.strike(A, "w=1", Fault.OVERRUN, 0)
    assert not bar.strike(A, "w=2", Fault.OVERRUN, 0)
    assert bar.strike(A, "w=1", Fault.OVERRUN, 1)
    assert [bar.is_barred(A, text, 2) for text in ("w=1", "w=2", "w=3")] == [True, False, False]


@pytest.mark.parametrize(("fault", "is_barred"), [(Fault.CRASH, True), (Fault.OVERRUN, False)])
def test_what_is_done_after_all_forgives_an_overrun(fault: Fault, is_barred: bool) -> None:
    bar = Bar(600, 10)
    bar.strike(A, "w=1", fault, 0)
    bar.forgive(A, "w=1")
    bar.forgive(B, "w=1")
    assert bar.strike(A, "w=1", fault, 1) is is_barred
    assert bar.is_barred(A, "w=1", 2) is is_barred


@pytest.mark.parametrize("fault", Fault)
def test_a_strike_is_forgotten_in_time(fault: Fault) -> None:
    bar = Bar(600, 10)
    bar.strike(A, "w=1", fault, 0)
    assert not bar.strike(A, "w=1", fault, 600)
    assert not bar.is_barred(A, "w=1", 601)


def test_bounded() -> None:
    bar = Bar(600, 2)
    for digest in (A, A, B, B, C, C):
        bar.strike(digest, "", Fault.CRASH, 0)
    assert len(bar) == 2
    assert [bar.is_barred(digest, "", 1) for digest in (A, B, C)] == [False, True, True]
