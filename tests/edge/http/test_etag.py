"""edge/http/etag.py: RFC 9110 section 8.8.3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.etag import (
    ANY,
    MAX_MEMBERS,
    EntityTag,
    Wildcard,
    derivative_etag,
    is_of_derivative,
    lineage_etag,
    original_etag,
    parse_entity_tags,
    strong_match,
    weak_match,
)

OPAQUE = st.text(
    st.sampled_from([chr(c) for c in (0x21, *range(0x23, 0x7F), *range(0x80, 0x100))]), max_size=20
)
TAGS = st.builds(EntityTag, OPAQUE, st.booleans())


def tag(opaque: str) -> EntityTag:
    return EntityTag(opaque)


def weak(opaque: str) -> EntityTag:
    return EntityTag(opaque, weak=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # usual: the examples of sections 8.8.3 and 13.1.1
        ('"xyzzy"', (tag("xyzzy"),)),
        ('W/"xyzzy"', (weak("xyzzy"),)),
        ('""', (tag(""),)),
        ('"xyzzy", "r2d2xxxx", "c3piozzzz"', (tag("xyzzy"), tag("r2d2xxxx"), tag("c3piozzzz"))),
        ('W/"a", "b"', (weak("a"), tag("b"))),
        ("*", ANY),
        # edge
        (" * ", ANY),
        ('"a,b"', (tag("a,b"),)),  # a comma inside a tag
        ('"a, b"', None),  # but no space
        ('",",","', (tag(","), tag(","))),
        ('"a\\"', (tag("a\\"),)),  # a backslash escapes nothing
        ('"*"', (tag("*"),)),
        ('"W/"', (tag("W/"),)),
        ('"é"', (tag("é"),)),  # obs-text
        ('\t"a"\t,\t"b" ', (tag("a"), tag("b"))),
        ('"a","b"', (tag("a"), tag("b"))),
        (',"a",, ,"b",', (tag("a"), tag("b"))),  # section 5.6.1.2: empty members
        ("", ()),
        (" ,, ", ()),
        # malformed
        ("xyzzy", None),
        ('"xyzzy', None),
        ('xyzzy"', None),
        ('w/"a"', None),  # "W/" is case-sensitive
        ('W/ "a"', None),
        ("W/a", None),
        ("W/", None),
        ('"a" "b"', None),
        ('"a""b"', None),
        ('"a"b', None),
        ('"a", b', None),
        ('"a", *', None),
        ("*, *", None),
        ("**", None),
        ("'a'", None),
        # hostile
        ('"a\x00"', None),
        ('"a\x7f"', None),
        ('"a\r\n"', None),
        ('"\u0100"', None),  # no byte of the wire
        ('"a"' + "," * MAX_MEMBERS, None),
        (" " * 100_000 + "x", None),  # quadratic where scanning backtracks
        ('"' + "a" * 100_000, None),
        ('W/"' * 30_000, None),
    ],
)
def test_parse(text: str, expected: tuple[EntityTag, ...] | Wildcard | None) -> None:
    assert parse_entity_tags(text) == expected


def test_the_longest_list() -> None:
    tags = tuple(tag(str(n)) for n in range(MAX_MEMBERS))
    assert parse_entity_tags(",".join(map(str, tags))) == tags
    assert parse_entity_tags(",".join(map(str, (*tags, tag("more"))))) is None


@pytest.mark.parametrize(
    ("one", "other", "strong", "weakly"),
    [
        # the table of section 8.8.3.2
        (weak("1"), weak("1"), False, True),
        (weak("1"), weak("2"), False, False),
        (weak("1"), tag("1"), False, True),
        (tag("1"), weak("1"), False, True),
        (tag("1"), tag("1"), True, True),
        (tag("1"), tag("2"), False, False),
        (tag("a"), tag("A"), False, False),
    ],
)
def test_comparison(one: EntityTag, other: EntityTag, strong: bool, weakly: bool) -> None:
    assert strong_match(one, other) is strong
    assert weak_match(one, other) is weakly


@pytest.mark.parametrize("opaque", ['"', "a b", "\t", "\n", "\x00", "\x7f", "\u0100"])
def test_a_tag_that_cannot_be_sent_cannot_be_made(opaque: str) -> None:
    with pytest.raises(ValueError, match="opaque"):
        EntityTag(opaque)


@given(
    st.lists(TAGS, max_size=12),
    st.lists(st.sampled_from([",", ", ", " ,", ",\t,", ", , ,"]), min_size=12, max_size=12),
)
def test_list_round_trip(tags: list[EntityTag], commas: list[str]) -> None:
    text = "".join(f"{one}{comma}" for one, comma in zip(tags, commas, strict=False))
    assert parse_entity_tags(text) == tuple(tags)
    assert parse_entity_tags(", ".join(map(str, tags))) == tuple(tags)


@given(st.text('"W/*, ab', max_size=12))
def test_what_parses_prints_to_what_parses_equally(text: str) -> None:
    parsed = parse_entity_tags(text)
    if isinstance(parsed, tuple):
        assert parse_entity_tags(",".join(map(str, parsed))) == parsed


# Nodes of different releases share stored files and clients' caches: these may never change.
def test_our_tags_are_stable() -> None:
    assert original_etag("v1") == '"9f1b52cffa4d7d25810e736d43a8f78a"'
    assert derivative_etag("v1", "w=220", "pillow-13") == '"3d6271cf1bf64fa998837f8d73b22d99"'


def test_our_tags_are_strong_and_alone() -> None:
    for text in (original_etag("é ☃"), derivative_etag("", "", "")):
        parsed = parse_entity_tags(text)
        assert isinstance(parsed, tuple)
        assert len(parsed) == 1
        assert not parsed[0].weak
        assert str(parsed[0]) == text


PARTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6), min_size=3, max_size=3
)


@given(PARTS, PARTS)
def test_different_parts_give_different_tags(one: list[str], other: list[str]) -> None:
    equal = derivative_etag(*one) == derivative_etag(*other)
    assert equal is (one == other)


def test_parts_cannot_imitate_their_borders() -> None:
    tags = {
        derivative_etag("ab", "c", "d"),
        derivative_etag("a", "bc", "d"),
        derivative_etag("a", "b", "cd"),
        derivative_etag("abcd", "", ""),
        derivative_etag("", "", "abcd"),
        original_etag("abcd"),
    }
    assert len(tags) == 6


DIRECT = derivative_etag("v1", "w=220", "pillow-13")


def test_a_lineage_is_in_the_tag() -> None:
    assert lineage_etag(DIRECT, "") == DIRECT
    assert lineage_etag(DIRECT, "1/2>1280x720") == f'{DIRECT[:-1]}-ffd0ee4f"'
    assert len({lineage_etag(DIRECT, way) for way in ("", "1/2", "1/4", "1/2>1280x720")}) == 4


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_tag_with_a_lineage_is_strong_and_of_its_derivative(lineage: str) -> None:
    text = lineage_etag(DIRECT, lineage)
    parsed = parse_entity_tags(text)
    assert isinstance(parsed, tuple)
    assert [str(one) for one in parsed] == [text]
    assert not parsed[0].weak
    assert is_of_derivative(text, DIRECT)
    assert not is_of_derivative(text, derivative_etag("v2", "w=220", "pillow-13"))


@pytest.mark.parametrize(
    ("etag", "expected"),
    [
        # usual
        ('"abc"', True),
        ('"abc-0123abcd"', True),
        ('"abd"', False),
        ('"abd-0123abcd"', False),
        # edge
        ('"abc-"', False),
        ('"abc-0123abc"', False),
        ('"abc-0123abcd0"', False),
        ('"abc-0123ABCD"', False),
        ('"abc-0123abcg"', False),
        ('"abc-0123abcd-0123abcd"', False),
        ('"abc0123abcd"', False),
        ('W/"abc"', False),
        ('W/"abc-0123abcd"', False),
        # hostile: a head on disk that is no text of ours
        ("", False),
        ('"', False),
        ('"abc', False),
        ('"abc-0123abcd', False),
        ('"abc-0123abcd""', False),
        ('"abc-"0123abcd"', False),
        ('"abc-0123abc\n"', False),
        ('"abc-０１２３４５６７"', False),
    ],
)
def test_whose_tag_it_is(etag: str, expected: bool) -> None:
    assert is_of_derivative(etag, '"abc"') is expected
