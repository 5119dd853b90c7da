"""Every error that a request can meet has a row, or inherits one."""

import errno
import inspect
import re
from types import ModuleType

import pytest

import cache.errors
import edge.errors
import edge.origin.errors
import edge.urls.derivative
import resizer.errors
from edge.errors import FAILURES, REFUSALS, RETRY_AFTER_STATUSES, UNEXPECTED, refusal_of
from edge.http.parser import ParseError

MODULES = (cache.errors, resizer.errors, edge.origin.errors, edge.urls.derivative, edge.errors)


def errors_of(module: ModuleType) -> list[type[Exception]]:
    return [
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Exception) and found.__module__ == module.__name__
    ]


# Bases that are never raised themselves.
ABSTRACT = (
    resizer.errors.ResizeError,
    resizer.errors.BadPicture,
    edge.origin.errors.DocrootError,
    edge.errors.RequestError,
)
CONCRETE = [error for module in MODULES for error in errors_of(module) if error not in ABSTRACT]


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
def test_every_error_has_a_row(kind):
    assert refusal_of(kind.__new__(kind)) is not UNEXPECTED


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (cache.errors.StoreBusy, 503),
        (cache.errors.TooManyFlights, 503),
        (cache.errors.FlightLost, 503),
        (cache.errors.DamagedEntry, 503),
        (resizer.errors.TransferFailed, 503),
        (resizer.errors.ResizerStopped, 503),
        (resizer.errors.MarkUnusable, 503),
        (resizer.errors.WorkerCrashed, 500),
        (resizer.errors.CorruptPicture, 422),
        (edge.origin.errors.OriginTruncated, 502),
        (edge.origin.errors.OriginTimeout, 504),
        (edge.origin.errors.DocrootFailed, 503),
        (edge.urls.derivative.NoPicture, 415),
        (edge.urls.derivative.BadUrl, 400),
        (edge.errors.UnknownMark, 400),
        (KeyError, 500),
    ],
)
def test_the_most_particular_row_decides(kind, status):
    assert refusal_of(kind.__new__(kind)).status == status


def test_sentences_and_tokens():
    for refusal in (*REFUSALS.values(), UNEXPECTED):
        assert re.fullmatch(r"[A-Z][^%{}\n]{10,90}\.", refusal.sentence)
        assert re.fullmatch(r"[a-z-]+", refusal.detail)
        assert refusal.status == 503 or "try again" not in refusal.sentence
    assert 503 in RETRY_AFTER_STATUSES


def test_a_head_that_cannot_be_read_keeps_its_status():
    for status in (400, 408, 414, 431, 501, 505, 418):
        refusal = refusal_of(ParseError(status, "\r\nwords of the wire"))
        assert refusal.status == status
        assert "wire" not in refusal.sentence


def test_no_descriptors_is_no_bug():
    for number in (errno.EMFILE, errno.ENFILE):
        refusal = refusal_of(OSError(number, "too many"))
        assert (refusal.status, refusal.detail) == (503, "descriptors")
    assert refusal_of(OSError(errno.EBADF, "bad")) is UNEXPECTED


def test_what_is_counted_as_a_failure():
    assert {"bug", "descriptors", "origin-down", "queue-full"} <= set(FAILURES)
    assert not {"not-found", "forbidden", "off-step"} & set(FAILURES)
