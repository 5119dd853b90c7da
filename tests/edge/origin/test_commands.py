"""What an application tells the server in front: which file, for how long."""

import pytest

from edge.origin.commands import (
    MAX_PARTS,
    Commands,
    Part,
    SendfileRoot,
    parse_commands,
    with_charset,
    with_lifetime,
)
from edge.origin.errors import OriginBroken

NOW = 1_700_000_000

# (controls, parts)
PARTS = [
    # usual
    ((("x-sendfile", "/srv/a.jpg"),), (Part("/srv/a.jpg"),)),
    ((("x-lighttpd-send-file", "/srv/a.jpg"),), (Part("/srv/a.jpg"),)),
    ((("x-accel-redirect", "/protected/a.jpg"),), (Part("/protected/a.jpg", is_uri=True),)),
    ((("x-accel-redirect", "/protected/a.jpg?token=1"),), (Part("/protected/a.jpg", is_uri=True),)),
    ((("x-sendfile2", "/srv/a 0-499,/srv/b 5-"),),
     (Part("/srv/a", stop=500), Part("/srv/b", start=5))),
    ((("x-accel-buffering", "no"),), ()),
    ((), ()),
    # decoded once, simplified
    ((("x-sendfile", "/srv/a%20b%2525.jpg"),), (Part("/srv/a b%25.jpg"),)),
    ((("x-sendfile", "/srv/\xc5\xbc%C5%BC.jpg"),), (Part("/srv/żż.jpg"),)),
    ((("x-sendfile", "//srv/./a//b/../c.jpg"),), (Part("/srv/a/c.jpg"),)),
    ((("x-sendfile", "/srv/%2e%2e/etc/passwd"),), (Part("/etc/passwd"),)),
    ((("x-sendfile", "/srv%2f..%2F..%2fetc"),), (Part("/etc"),)),
    ((("x-sendfile", "/../../.."),), (Part("/"),)),
    ((("x-sendfile", "/srv/a?b"),), (Part("/srv/a?b"),)),  # a path has no query
    ((("x-sendfile2", "/srv/a%2Cb%20c 0-0"),), (Part("/srv/a,b c", stop=1),)),
]  # fmt: skip

# Which could be understood in two ways, or in none.
REFUSED = [
    (("x-sendfile", "/a"), ("x-accel-redirect", "/b")),
    (("x-sendfile", "/a"), ("x-sendfile", "/a")),
    (("x-sendfile", ""),),
    (("x-sendfile", "a.jpg"),),
    (("x-sendfile", "../a.jpg"),),
    (("x-sendfile", "/srv/%00"),),
    (("x-sendfile", "/srv/a%0Ab"),),
    (("x-sendfile", "/srv/%ff"),),
    (("x-sendfile", "/srv/%c0%ae"),),  # overlong
    (("x-accel-redirect", "@named"),),
    (("x-accel-redirect", "http://127.0.0.1/"),),
    (("x-sendfile2", "/srv/a"),),
    (("x-sendfile2", "/srv/a 5"),),
    (("x-sendfile2", "/srv/a 5-4"),),
    (("x-sendfile2", "/srv/a -5"),),
    (("x-sendfile2", "/srv/a 0-,"),),
    (("x-sendfile2", ",".join(["/srv/a 0-"] * (MAX_PARTS + 1))),),
]


@pytest.mark.parametrize(("controls", "parts"), PARTS)
def test_parts(controls, parts):
    assert parse_commands(controls).parts == parts


@pytest.mark.parametrize("controls", REFUSED)
def test_refused(controls):
    with pytest.raises(OriginBroken):
        parse_commands(controls)


def test_what_goes_with_them():
    controls = (("x-accel-expires", "5"), ("x-sendfile", "/a"), ("x-accel-charset", "utf-8"))
    assert parse_commands(controls) == Commands("x-sendfile", (Part("/a"),), "5", "utf-8")


ROOTS = (
    SendfileRoot("/srv/files"),
    SendfileRoot("/srv/files/inner"),
    SendfileRoot("/srv/private", "/protected"),
)


@pytest.mark.parametrize(
    ("path", "is_uri", "place"),
    [
        ("/srv/files/a.jpg", False, (0, "/a.jpg")),
        ("/srv/files/inner/a.jpg", False, (1, "/a.jpg")),  # the innermost
        ("/srv/private/x/a.jpg", False, (2, "/x/a.jpg")),
        ("/protected/a.jpg", True, (2, "/a.jpg")),
        ("/srv/files/a.jpg", True, (0, "/a.jpg")),  # without a prefix the path is the URI
        ("/srv/private/a.jpg", True, None),  # with one it is not
        ("/protected/a.jpg", False, None),
        ("/srv/files", False, None),
        ("/srv/files-evil/a.jpg", False, None),
        ("/protected-evil/a.jpg", True, None),
        ("/srv", False, None),
        ("/", True, None),
        ("/etc/passwd", False, None),
    ],
)
def test_places(path, is_uri, place):
    found = Part(path, is_uri=is_uri).maybe_place(ROOTS)
    assert found == (None if place is None else (ROOTS[place[0]], place[1]))


def test_roots_as_they_are_written():
    assert [str(root) for root in ROOTS] == [
        "/srv/files", "/srv/files/inner", "/protected=/srv/private",
    ]  # fmt: skip


CONTROL = ("cache-control", "max-age=5")
LONG = ("cdn-cache-control", "max-age=500")


@pytest.mark.parametrize(
    ("headers", "expires", "told"),
    [
        ((CONTROL,), None, (CONTROL,)),
        # nginx's field, before all others
        ((CONTROL,), "60", (CONTROL, ("cdn-cache-control", "max-age=60"))),
        ((CONTROL, LONG), "60", (CONTROL, ("cdn-cache-control", "max-age=60"))),
        ((CONTROL,), "0", (CONTROL, ("cdn-cache-control", "no-store"))),
        ((), f"@{NOW + 30}", (("cdn-cache-control", "max-age=30"),)),
        ((), f"@{NOW - 30}", (("cdn-cache-control", "no-store"),)),
        ((CONTROL,), "-1", (CONTROL,)),
        ((CONTROL,), "soon", (CONTROL,)),
        ((CONTROL,), "", (CONTROL,)),
        ((CONTROL,), "@", (CONTROL,)),
        # Surrogate-Control, where nothing else is for us alone
        ((CONTROL, ("surrogate-control", "max-age=7")), None,
         (CONTROL, ("cdn-cache-control", "max-age=7"))),
        ((("surrogate-control", "max-age=7+9;halftone, max-age=1"),), None,
         (("cdn-cache-control", "max-age=7, stale-while-revalidate=9"),)),
        ((("surrogate-control", "no-store"),), None, (("cdn-cache-control", "no-store"),)),
        ((("surrogate-control", "max-age=7;elsewhere"),), None, ()),
        ((("surrogate-control", 'content="ESI/1.0"'),), None, ()),
        ((("surrogate-control", "max-age=7"), LONG), None, (LONG,)),
        ((("surrogate-control", "max-age=7"), ("cdn-cache-control", ",")), None,
         (("cdn-cache-control", "max-age=7"),)),
        ((("surrogate-control", "max-age=7"),), "60", (("cdn-cache-control", "max-age=60"),)),
    ],
)  # fmt: skip
def test_lifetimes(headers, expires, told):
    assert with_lifetime(headers, expires, NOW) == told


@pytest.mark.parametrize(
    ("media_type", "charset", "whole"),
    [
        ("text/plain", "utf-8", "text/plain; charset=utf-8"),
        ("text/plain; charset=a", "utf-8", "text/plain; charset=a"),
        ("text/plain", None, "text/plain"),
        ("text/plain", 'u"8', "text/plain"),
        ("text/plain", "", "text/plain"),
    ],
)
def test_charset(media_type, charset, whole):
    assert with_charset(media_type, charset) == whole
