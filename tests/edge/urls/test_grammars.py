"""The table of grammars, and targets under a mount point."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.urls.derivative import BadUrl, Derivative
from edge.urls.ending import resolve
from edge.urls.grammars import (
    GRAMMARS,
    Options,
    UnknownGrammar,
    build_target,
    claim_target,
    make_grammars,
    parse_target,
)
from edge.urls.path import split_target
from resizer.transform import IDENTITY, Transform

ALL = make_grammars(tuple(GRAMMARS))


def read(url: str, prefix: str = "") -> Derivative | None:
    return parse_target(split_target(url.encode()), ALL, prefix)


CLAIMS = [
    # (URL, grammar, source)
    ("/thumb/Dune.jpg/220px-Dune.jpg", "wikipedia", "/Dune.jpg"),
    ("/thumb/Dune.jpg/220px-Dune.jpg?w=9", "wikipedia", "/Dune.jpg"),
    ("/vi/Dune/hqdefault.jpg", "youtube", "/Dune"),
    ("/Dune.jpg?w=220", "query", "/Dune.jpg"),
    ("/thumb/Dune.jpg?w=220", "query", "/thumb/Dune.jpg"),
    ("/Dune.jpg", None, "/Dune.jpg"),
    ("/Dune.jpg?utm_source=x", None, "/Dune.jpg"),
    ("/Dune.jpg?v=3", None, "/Dune.jpg"),
    ("/thumb/Dune.jpg", None, "/thumb/Dune.jpg"),
    ("/style.css?w=3", None, "/style.css"),
]


@pytest.mark.parametrize("prefix", ["", "/images", "/a b/ü"])
@pytest.mark.parametrize(("url", "name", "source"), CLAIMS)
def test_claims(url: str, name: str | None, source: str, prefix: str) -> None:
    mount = {"": "", "/images": "/images", "/a b/ü": "/a%20b/%C3%BC"}[prefix]
    claim = claim_target(split_target(f"{mount}{url}".encode()), ALL, prefix)
    assert claim is not None
    assert (claim.grammar.name if claim.grammar else None) == name
    assert claim.derivative.source == source
    if claim.grammar is None:
        assert claim.derivative == Derivative(source, IDENTITY)
        return
    built = build_target(claim.derivative, claim.grammar, prefix)
    assert built.startswith(mount)
    assert parse_target(split_target(built.encode()), ALL, prefix) == claim.derivative


def test_the_order_of_a_site_decides() -> None:
    target = split_target(b"/thumb/Dune.jpg/220px-Dune.jpg?w=9")
    first = parse_target(target, make_grammars(("wikipedia", "query")))
    last = parse_target(target, make_grammars(("query", "wikipedia")))
    assert first == Derivative("/Dune.jpg", Transform(width=220))
    assert last == Derivative("/thumb/Dune.jpg/220px-Dune.jpg", Transform(width=9))


@pytest.mark.parametrize("url", ["/b.jpg", "/images2/b.jpg", "/", "/thumb/images/X.jpg/9px-X.jpg"])
def test_outside_of_the_mount_point_there_is_nothing(url: str) -> None:
    assert read(url, "/images") is None


@pytest.mark.parametrize("url", ["/images", "/images/", "/images/a/", "/images/a.jpg/?w=9"])
def test_a_folder_is_no_picture(url: str) -> None:
    with pytest.raises(BadUrl):
        read(url, "/images")


@pytest.mark.parametrize(
    "url", ["/thumb/Dune.jpg/220px-Other.jpg", "/vi/Dune/other.jpg", "/Dune.jpg?w=0"]
)
def test_a_claim_that_is_wrong_is_not_the_original(url: str) -> None:
    with pytest.raises(BadUrl):
        read(url)


def test_all_grammars_share_one_key() -> None:
    by_thumb = read("/thumb/Dune.jpg/220px-Dune.jpg")
    assert by_thumb == read("/Dune.jpg?w=220") == read("/Dune.jpg?fm=jpg&fit=max&w=220")
    by_name = read("/vi/Dune/0.jpg")
    by_query = read("/Dune.jpg?w=480&h=360&fit=fill&bg=000&up=1")
    assert by_name is not None
    assert by_query is not None
    found = resolve(by_name, "jpg")
    assert (found.source, found.transform) == (by_query.source, by_query.transform)


def test_options_reach_the_grammars() -> None:
    grammars = make_grammars(("wikipedia", "query"), Options(True, ("v",)))
    with pytest.raises(BadUrl):
        parse_target(split_target(b"/thumb/b/b9/Example.jpg/9px-Example.jpg"), grammars)
    assert parse_target(split_target(b"/X.jpg?w=9&v=3"), grammars) == read("/X.jpg?w=9")


def test_an_unknown_grammar_is_named() -> None:
    with pytest.raises(UnknownGrammar, match="wikipedea"):
        make_grammars(("query", "wikipedea"))


PIECES = st.sampled_from(
    (
        *("/", "thumb", "archive", "20160729183014!", "220px-", "qlow-", "lang-", "Dune.jpg"),
        *("vi", "hqdefault", ".webp", "?", "&", "w=", "9", "fit=crop"),
        *("%", "%2e", "%C3", ".", "..", ";", "="),
    )
)


@given(st.lists(PIECES, max_size=14), st.sampled_from(["", "/thumb", "/vi"]))
def test_any_target_is_claimed_canonically_or_refused(pieces: list[str], prefix: str) -> None:
    try:
        claim = claim_target(split_target(f"/{''.join(pieces)}".encode()), ALL, prefix)
    except BadUrl:
        return
    if claim is None:
        return
    derivative = claim.derivative
    assert derivative.source.startswith("/")
    assert not {"", ".", ".."} & set(derivative.source[1:].split("/"))
    if claim.grammar is None:
        return
    if derivative.transform == IDENTITY and not derivative.extensions:
        return  # ?fm=jpg: the original, whose own URL another grammar may claim
    built = claim.grammar.build(derivative)
    assert claim.grammar.parse(split_target(built.encode())) == derivative
