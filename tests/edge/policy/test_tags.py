"""Tags: Surrogate-Key as it comes, and those by the start of a path."""

import pytest

from edge.policy.tags import MAX_TAGS, MAX_TAGS_BYTES, PathTags, is_tag, parse_surrogate_key


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        # usual
        (["a b c"], ("a", "b", "c")),
        (["a", "b"], ("a", "b")),
        (["article/17 author:9"], ("article/17", "author:9")),
        # edge
        ([], ()),
        ([""], ()),
        (["  a \t b  "], ("a", "b")),
        (["a b a", "b"], ("a", "b")),
        (["a,b"], ("a,b",)),  # commas are part of a tag: Fastly separates by spaces
        # hostile
        (["a\x00b ok"], ("ok",)),
        (["\xe4 ok"], ("ok",)),
        (["x" * 1025 + " ok"], ("ok",)),
        ([" ".join(f"t{n}" for n in range(MAX_TAGS + 5))], tuple(f"t{n}" for n in range(MAX_TAGS))),
    ],
)
def test_surrogate_key(lines: list[str], tags: tuple[str, ...]) -> None:
    assert parse_surrogate_key(lines) == tags


def test_all_tags_together_are_bounded() -> None:
    tags = parse_surrogate_key([" ".join(f"{n:01000}" for n in range(10))])
    assert sum(map(len, tags)) <= MAX_TAGS_BYTES
    assert len(tags) == 4


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("a", True),
        ("x" * 1024, True),
        ("x" * 1025, False),
        ("", False),
        ("a b", False),
        ("a\n", False),
        ("ä", False),
    ],
)
def test_is_tag(text: str, is_one: bool) -> None:
    assert is_tag(text) is is_one


def test_path_tags() -> None:
    tags = PathTags((("press", ("/press/", "/2026/")), ("all", ("/",))))
    assert tags.of("/press/a.jpg") == ("press", "all")
    assert tags.of("/pressed.jpg") == ("all",)
    assert PathTags().of("/a.jpg") == ()
