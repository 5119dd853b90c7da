"""What is remembered is bounded in bytes as in number, and never another's."""

import dataclasses
import tracemalloc
from collections.abc import Callable

import pytest

from edge.asking import Asking
from edge.fetching import MAX_NEUTRAL, Node, _neutral
from edge.http.forwarding import passed_fields_of
from edge.http.writer import field_lines
from edge.origin.fastcgi.params import build_params
from edge.origin.messages import REMEMBERED, OriginRequest
from edge.remembered import _size_of, remembered
from tests.edge.origin.asking import GET, SCRIPT

NODE = Node("edge1", "192.0.2.9", 80)
LONG = 30_000
# All that a worker may hold for whoever sends the longest heads and targets that there are.
MOST_BYTES = 24 * 1024 * 1024


def test_what_was_made_is_there_until_there_is_too_much():
    made: list[str] = []

    @remembered(100, 2000)
    def double(text: str) -> str:
        """Twice."""
        made.append(text)
        return text + text

    assert [double("a"), double("a"), double("b")] == ["aa", "aa", "bb"]
    assert made == ["a", "b"]
    assert double.__doc__ == "Twice."
    double("c" * 1900)  # a few bytes too many: it alone stays
    assert double("c" * 1900) == "c" * 3800
    assert len(made) == 3
    double("a")
    assert made[-1] == "a"


def test_no_more_than_so_many():
    made: list[int] = []

    @remembered(2, 1000)
    def negative(number: int) -> int:
        made.append(number)
        return -number

    for number in (1, 2, 3, 3, 2, 1):
        assert negative(number) == -number
    assert made == [1, 2, 3, 1]


def test_a_failure_is_not_remembered():
    made: list[int] = []

    @remembered(10, 10)
    def fail(number: int) -> int:
        made.append(number)
        raise ValueError(number)

    for _ in range(2):
        with pytest.raises(ValueError, match="7"):
            fail(7)
    assert made == [7, 7]


def test_sizes():
    assert _size_of((("a", "bc"), ("d", ""))) == 4
    assert 1000 < _size_of("a" * 1000, 80, b"abc") < 1100
    assert _size_of("a" * 1000 + "\N{SMILING FACE WITH OPEN MOUTH}") > 4000


def ask_at_length(number: int) -> None:
    """As an application is asked for a client with the longest head that the parser takes."""
    fields = {"cookie": f"{number:08d}".ljust(LONG, "c"), "accept": "*/*"}
    asking = Asking(fields, "192.0.2.1", "http")
    build_params(asking.dress(GET), SCRIPT)


def answer_at_length(number: int) -> None:
    headers = (("set-cookie", f"{number:08d}".ljust(LONG, "c")), ("content-type", "text/html"))
    field_lines(passed_fields_of(headers, "edge1"))


def want_at_length(number: int) -> None:
    """A path as long as it may be, wide by its last letter."""
    folders = "/".join([f"{number:08d}".ljust(250, "a")] * 15)
    _neutral(NODE, "h.example", f"/{folders}/\N{SMILING FACE WITH OPEN MOUTH}")


@pytest.mark.parametrize("call", [ask_at_length, answer_at_length, want_at_length])
def test_who_says_everything_at_length_does_not_fill_the_memory(call: Callable[[int], None]):
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(min(3 * REMEMBERED, MAX_NEUTRAL)):
            call(number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < MOST_BYTES


def test_the_same_words_of_others_are_not_mixed_up():
    """Each request differs from the first in one thing that stands beside what is remembered."""
    first = dataclasses.replace(GET, headers=(("accept", "*/*"), ("cookie", "a=b")))
    others: list[OriginRequest] = [
        dataclasses.replace(first, **{name: value})  # type: ignore[arg-type]
        for name, value in (
            ("method", "HEAD"),
            ("host", "other.example"),
            ("scheme", "https"),
            ("remote_addr", "192.0.2.77"),
            ("remote_port", 1),
            ("server_addr", "192.0.2.78"),
            ("server_port", 1),
            ("server_protocol", "HTTP/1.0"),
            ("target", "/other"),
            ("path", "/other"),
            ("query", "other=1"),
            ("headers", (("accept", "*/*"), ("cookie", "a=c"))),
            ("headers", (("cookie", "a=b"), ("accept", "*/*"))),
            ("body", b"a=b"),
        )
    ]
    asked = [first, *others, first]
    wires = [build_params(request, SCRIPT) for request in asked]
    assert wires[0] == wires[-1]
    assert len(set(wires)) == len(asked) - 1
    assert [build_params(request, SCRIPT) for request in reversed(asked)] == wires[::-1]
