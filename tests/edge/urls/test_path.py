"""Request targets: what is decoded, what is refused, and the way back."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.urls.derivative import BadUrl, NotExpressible
from edge.urls.path import MAX_PATH_BYTES, MAX_QUERY_BYTES, Target, build_path, decode, split_target

DECODED = [
    # usual
    (b"/Dune.jpg", ("Dune.jpg",), ""),
    (b"/a/b/Dune.jpg?w=220&h=3", ("a", "b", "Dune.jpg"), "w=220&h=3"),
    (b"/D%C3%BCne.jpg", ("Düne.jpg",), ""),
    (b"/%44une%20%28x%29.jpg", ("Dune (x).jpg",), ""),
    # edge
    (b"/", ("",), ""),
    (b"/a/", ("a", ""), ""),
    (b"/a?", ("a",), ""),
    (b"/a?b?c/../d", ("a",), "b?c/../d"),  # the query is not ours to split here
    (b"/...", ("...",), ""),
    (b"/.hidden", (".hidden",), ""),
    (b"/a%3Fb%23c", ("a?b#c",), ""),
    (b"/a+b", ("a+b",), ""),  # plus is a space in forms, not in paths
    (b"/%C2%A0", ("\u00a0",), ""),
    (b"/" + b"a" * 255, ("a" * 255,), ""),
    (b"/" + b"%C3%BC" * 127, ("ü" * 127,), ""),
    (b"/a" * 2048, ("a",) * 2048, ""),  # exactly MAX_PATH_BYTES
    (b"/a?" + b"b" * MAX_QUERY_BYTES, ("a",), "b" * MAX_QUERY_BYTES),
    # hostile, and harmless once it is decoded no second time
    (b"/%252e%252e/x", ("%2e%2e", "x"), ""),
    (b"/%252f", ("%2f",), ""),
    (b"/a;b=c/d", ("a;b=c", "d"), ""),  # no path parameters here
    (b"/..;/x", ("..;", "x"), ""),
    (b"/\"<>^`{|}'", ("\"<>^`{|}'",), ""),
]

REFUSED = [
    # usual mistakes
    b"",
    b"Dune.jpg",
    b"*",
    b"http://example.org/Dune.jpg",
    b"/Dune one.jpg",
    # edge
    b"//",
    b"//Dune.jpg",
    b"/a//b",
    b"/a//",
    b"/" + b"a" * 256,
    b"/" + b"%C3%BC" * 128,
    b"/a" * 2048 + b"/",
    b"/" + b"%61" * 4097,
    b"/" + b"a" * 20_000,
    b"/a?" + b"b" * (MAX_QUERY_BYTES + 1),
    b"/%",
    b"/%4",
    b"/%4g",
    b"/%%41",
    b"/% 41",
    b"/%+1",
    # hostile
    b"/.",
    b"/..",
    b"/a/../b",
    b"/a/./b",
    b"/a/..",
    b"/%2e",
    b"/%2e%2e/etc/passwd",
    b"/%2E./x",
    b"/.%2e/x",
    b"/a%2fb",
    b"/a%2Fb",
    b"/..%2f..%2fetc",
    b"/a%5cb",
    b"/a\\b",
    b"/a%00.jpg",
    b"/a\0.jpg",
    b"/a#b",
    b"/a\r\nX: y",
    b"/a%0d%0aX:%20y",
    b"/a%7f",
    b"/a\x7f",
    b"/a%C2%85",  # NEL
    b"/a%C2%9B",  # CSI: would drive a terminal
    b"/a%E2%80%A8",  # line separator
    b"/a%E2%80%A9",  # paragraph separator
    b"/D\xc3\xbcne.jpg",  # raw UTF-8 is no URL
    b"/a?b\xff",
    b"/%FF",
    b"/%C3",  # cut short
    b"/%C3/%BC",  # one character over two segments
    b"/%C0%AF",  # overlong slash
    b"/%C0%AE%C0%AE/x",  # overlong dots
    b"/%E0%80%AF",
    b"/%F0%80%80%AF",
    b"/%ED%A0%80",  # surrogate
    b"/%F4%90%80%80",  # past U+10FFFF
    b"/%u002e",
]


@pytest.mark.parametrize(("target", "segments", "query"), DECODED)
def test_decoded(target: bytes, segments: tuple[str, ...], query: str) -> None:
    found = split_target(target)
    assert (found.segments, found.query) == (segments, query)
    assert found.raw_path == target.decode().partition("?")[0]


@pytest.mark.parametrize("target", REFUSED)
def test_refused(target: bytes) -> None:
    with pytest.raises(BadUrl):
        split_target(target)


@pytest.mark.parametrize("target", [row[0] for row in DECODED])
def test_every_byte_matters(target: bytes) -> None:
    """Cut anywhere, a target is still read or refused, never anything else."""
    for end in range(min(len(target), 64)):
        with contextlib.suppress(BadUrl):
            split_target(target[:end])


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(rest: bytes) -> None:
    try:
        target = split_target(b"/" + rest)
    except BadUrl:
        return
    for segment in target.segments:
        assert segment not in (".", "..")
        assert not set(segment) & set("/\\\0\r\n\x7f\x85\u2028")
    assert "" not in target.segments[:-1]
    # What was read has one spelling of ours, and that reads the same.
    assert split_target(build_path(target.source).encode()).segments == target.segments


SEGMENT = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\\u2028\u2029"),
    min_size=1,
    max_size=40,
).filter(lambda segment: segment not in (".", ".."))


@given(st.lists(SEGMENT, min_size=1, max_size=6))
def test_round_trip(segments: list[str]) -> None:
    url = build_path("/" + "/".join(segments))
    assert url.isascii()
    assert not set(url) & set(' ?#"<>\\')
    assert split_target(url.encode()).segments == tuple(segments)


BUILT = [
    ("/Dune.jpg", "/Dune.jpg"),
    ("/", "/"),
    ("/a b/Düne!1.jpg", "/a%20b/D%C3%BCne!1.jpg"),
    ("/%2e%2e?#", "/%252e%252e%3F%23"),
    ('/"<>', "/%22%3C%3E"),
]


@pytest.mark.parametrize(("source", "url"), BUILT)
def test_built(source: str, url: str) -> None:
    assert build_path(source) == url
    assert split_target(url.encode()).source == source


def test_a_path_too_long_to_be_read_is_not_built() -> None:
    with pytest.raises(NotExpressible):
        build_path("/" + "a" * MAX_PATH_BYTES)


def test_decode_is_done_once() -> None:
    assert decode("%2541") == "%41"


MOUNTS = [
    # usual
    ("/images/a/b.jpg", "/images", (("a", "b.jpg"), "/a/b.jpg")),
    ("/images/a/b.jpg", "/images/a", (("b.jpg",), "/b.jpg")),
    ("/images/b.jpg", "/images/", (("b.jpg",), "/b.jpg")),
    # edge
    ("/b.jpg", "", (("b.jpg",), "/b.jpg")),
    ("/b.jpg", "/", (("b.jpg",), "/b.jpg")),
    ("/images/", "/images", (("",), "/")),
    ("/images", "/images", ((), "/")),
    ("/%69mages/%62.jpg", "/images", (("b.jpg",), "/%62.jpg")),
    # hostile
    ("/images2/b.jpg", "/images", None),
    ("/b.jpg", "/images", None),
    ("/", "/images", None),
]


@pytest.mark.parametrize(("path", "prefix", "expected"), MOUNTS)
def test_below(path: str, prefix: str, expected: tuple[tuple[str, ...], str] | None) -> None:
    seen = split_target(f"{path}?q".encode()).below(prefix)
    assert seen == (None if expected is None else Target(*expected, "q"))


@pytest.mark.parametrize(
    ("path", "is_folder"), [("/", True), ("/a/", True), ("/a", False), ("/a.jpg", False)]
)
def test_is_folder(path: str, is_folder: bool) -> None:
    assert split_target(path.encode()).is_folder is is_folder
    assert Target((), "/").is_folder
