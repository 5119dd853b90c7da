"""edge/http/structured.py: dictionaries of RFC 9651 section 4.2.2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.structured import MAX_MEMBERS, OtherType, Value, parse_dictionary

OTHER = OtherType.OTHER


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # usual
        ("max-age=600", {"max-age": 600}),
        ("max-age=600, must-revalidate", {"max-age": 600, "must-revalidate": True}),
        ("a=1,b=2", {"a": 1, "b": 2}),
        ("a=1 \t,\t b=2", {"a": 1, "b": 2}),
        ("", {}),
        ("   ", {}),
        # every type
        ("a=-5", {"a": -5}),
        ("a=007", {"a": 7}),
        ("a=999999999999999", {"a": 999_999_999_999_999}),
        ("a=1.5", {"a": OTHER}),
        ("a=123456789012.125", {"a": OTHER}),
        ("a=?1, b=?0, c", {"a": True, "b": False, "c": True}),
        ('a="x, \\"y\\" \\\\"', {"a": 'x, "y" \\'}),
        ("a=token/x:y", {"a": OTHER}),
        ("a=*x", {"a": OTHER}),
        ("a=:aGFsZnRvbmU=:", {"a": OTHER}),
        ("a=@1659578233", {"a": OTHER}),
        ('a=%"caf%c3%a9"', {"a": OTHER}),
        ('a=("x" 1;p=2 tok);q', {"a": OTHER}),
        ("a=()", {"a": OTHER}),
        ("a=( 1  2 )", {"a": OTHER}),
        # parameters are checked and dropped
        ("a;x, b;y=1;z=?0", {"a": True, "b": True}),
        ("a=1;x; y=2, b=2", {"a": 1, "b": 2}),
        # the last of equal keys, at its later place
        ("a=1, b=2, a=3", {"b": 2, "a": 3}),
        ("*a._-9=1", {"*a._-9": 1}),
        # malformed: nothing is kept
        ("a=1,", None),
        (",a=1", None),
        ("a=1,,b=2", None),
        ("a=1 b=2", None),
        ("a=1;", None),
        ("a= 1", None),
        ("a =1", None),
        ("a=", None),
        ("=1", None),
        ("A=1", None),
        ("9=1", None),
        ("max-age: 5", None),
        ("a=1.", None),
        ("a=1.2345", None),
        ("a=1.2.3", None),
        ("a=.5", None),
        ("a=+1", None),
        ("a=--1", None),
        ("a=1000000000000000", None),  # sixteen digits
        ("a=1234567890123.1", None),
        ("a=@1.5", None),
        ("a=?2", None),
        ("a=?", None),
        ('a="x', None),
        ('a="x"y', None),
        ('a="\\x"', None),
        ('a="é"', None),
        ('a=%"%C3"', None),  # upper-case hexadecimal
        ("a=:a b:", None),
        ("a=:aGFs", None),
        ("a=(1 2", None),
        ("a=(1,2)", None),
        ('a=("x""y")', None),
        ("a=1)", None),
        ("a=1;X", None),
        ("a=1\t", None),  # only spaces may stand around the whole
        ("a=1\n", None),
        ("a=1 ;x", None),
        # hostile
        (", ".join(f"k{n}" for n in range(MAX_MEMBERS + 1)), None),
        ("a=(" + " " * 50_000 + "x", None),
        ("a" + ";b" * 50_000 + "!", None),
        ('a="' + "\\" * 50_001, None),
        ("a=(" + "1 " * 50_000, None),
        ("a=" + "9" * 50_000, None),
    ],
)
def test_parse(text: str, expected: dict[str, Value] | None) -> None:
    parsed = parse_dictionary(text)
    assert parsed == expected
    if parsed is not None and expected is not None:
        assert list(parsed) == list(expected)
        assert [type(value) for value in parsed.values()] == [
            type(value) for value in expected.values()
        ]


KEYS = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,8}", fullmatch=True)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**15) + 1, 10**15 - 1),
    st.text([chr(c) for c in range(0x20, 0x7F)], max_size=10),
)


def build(key: str, value: bool | int | str) -> str:
    if isinstance(value, bool):
        return key if value else f"{key}=?0"
    if isinstance(value, int):
        return f"{key}={value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key}="{escaped}"'


@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_round_trip(members: dict[str, bool | int | str]) -> None:
    text = ", ".join(build(key, value) for key, value in members.items())
    assert parse_dictionary(text) == members
    if members:
        assert parse_dictionary(f"{text},") is None
        assert parse_dictionary(f"{text}!") is None


@given(st.text('ab1=?;,"\\ .()', max_size=20))
def test_no_text_raises(text: str) -> None:
    parse_dictionary(text)
