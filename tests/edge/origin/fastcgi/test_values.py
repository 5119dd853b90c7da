import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.origin.errors import OriginBroken
from edge.origin.fastcgi.values import (
    MAX_DIGITS,
    NAMES,
    AnswerReader,
    GetValues,
    UnknownType,
    Values,
    build_question,
)

CONNS, REQS, MPXS = b"\x0e%bFCGI_MAX_CONNS%b", b"\x0d%bFCGI_MAX_REQS%b", b"\x0f%bFCGI_MPXS_CONNS%b"


def pair(form: bytes, value: bytes) -> bytes:
    return form % (bytes((len(value),)), value)


def result(content: bytes, padding: int = 0, type_: int = 10, request_id: int = 0) -> bytes:
    """Written out by hand, so that it shares no mistake with ours."""
    head = bytes((1, type_, request_id >> 8, request_id & 255, len(content) >> 8))
    return head + bytes((len(content) & 255, padding, 0)) + content + bytes(padding)


def test_the_question() -> None:
    content = b"".join(pair(form, b"") for form in (CONNS, REQS, MPXS))
    assert build_question() == result(content, -len(content) % 8, type_=9)
    assert GetValues.parse(content) == GetValues() == GetValues(NAMES)
    assert GetValues.parse(pair(REQS, b"7")).names == (b"FCGI_MAX_REQS",)  # the value says nothing
    assert GetValues.parse(b"").names == ()
    with pytest.raises(OriginBroken):
        GetValues.parse(content[:-1])


# Content of GET_VALUES_RESULT -> what it says
RESULTS = [
    # usual: php-fpm, and an application that knows everything
    (pair(MPXS, b"0"), Values(mpxs_conns=0)),
    (pair(CONNS, b"8") + pair(REQS, b"16") + pair(MPXS, b"1"), Values(8, 16, 1)),
    # edge: nothing known, another order, a name of its own, the largest number, leading zeros
    (b"", Values()),
    (pair(MPXS, b"1") + pair(CONNS, b"1"), Values(1, None, 1)),
    (b"\1\1xy" + pair(REQS, b"5"), Values(max_reqs=5)),
    (b"\1\1xy\1\1xz", Values()),
    (pair(CONNS, b"9" * MAX_DIGITS), Values(10**MAX_DIGITS - 1)),
    (pair(REQS, b"007"), Values(max_reqs=7)),
    (pair(CONNS, b"0"), Values(0)),
]


@pytest.mark.parametrize(("content", "values"), RESULTS)
def test_a_result(content: bytes, values: Values) -> None:
    assert Values.parse(content) == values
    assert Values.parse(values.build()) == values
    for padding in (0, 7, 255):
        wire = result(content, padding)
        assert AnswerReader().receive_data(wire) == values
        assert AnswerReader().receive_data(wire + b"\1\6\0\1 and more") == values
        assert AnswerReader().receive_data(wire + b"garbage") == values
        reader = AnswerReader()
        for byte in wire[:-1]:
            assert reader.receive_data(bytes((byte,))) is None
        with pytest.raises(OriginBroken, match=f"after {len(wire) - 1} bytes"):
            reader.receive_eof()
        assert reader.receive_data(wire[-1:]) == values
        assert reader.receive_data(b"garbage") == values
        reader.receive_eof()


@given(
    st.builds(
        Values,
        st.none() | st.integers(0, 10**MAX_DIGITS - 1),
        st.none() | st.integers(0, 10**MAX_DIGITS - 1),
        st.none() | st.integers(0, 1),
    )
)
def test_values_come_back(values: Values) -> None:
    assert Values.parse(values.build()) == values


@pytest.mark.parametrize("wrong", [{"max_conns": -1}, {"max_reqs": 10**10}, {"mpxs_conns": 2}])
def test_what_are_no_values(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"connections|0 or 1"):
        Values(**wrong)


def test_an_application_that_does_not_know_the_question() -> None:
    unknown = UnknownType(9)
    assert UnknownType.parse(unknown.build()) == unknown
    wire = result(b"\x09" + bytes(7), type_=11)
    assert AnswerReader().receive_data(wire) == unknown
    assert AnswerReader().receive_data(wire[:12]) is None


BROKEN = {
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "version": b"\2\x0a\0\0\0\0\0\0",
    "half a pair": result(pair(MPXS, b"0")[:-1]),
    "twice": result(pair(MPXS, b"0") * 2),
    "no number": result(pair(CONNS, b"many")),
    "no value": result(pair(CONNS, b"")),
    "sign": result(pair(CONNS, b"-1")),
    "space": result(pair(CONNS, b" 1")),
    "other digits": result(pair(CONNS, "٣".encode())),
    "too large": result(pair(CONNS, b"1" * (MAX_DIGITS + 1))),
    "neither yes nor no": result(pair(MPXS, b"2")),
    "of a request": result(pair(MPXS, b"0"), request_id=1),
    "a page": result(b"Content-Type: text/html\n\n", type_=6, request_id=1),
    "another management record": result(b"", type_=9),
    "unknown, of nothing asked": result(b"\x4d" + bytes(7), type_=11),
    "unknown, too short": result(b"\x09", type_=11),
    "unknown, too long": result(b"\x09" + bytes(8), type_=11),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_no_answer(fault: str) -> None:
    with pytest.raises(OriginBroken):
        AnswerReader().receive_data(BROKEN[fault])
    reader = AnswerReader()
    with pytest.raises(OriginBroken):
        for byte in BROKEN[fault]:
            assert reader.receive_data(bytes((byte,))) is None


def test_no_answer_at_all() -> None:
    with pytest.raises(OriginBroken) as raised:
        AnswerReader().receive_eof()
    assert not raised.value.has_begun
