"""Familiar heads: what is recognised, and that no line out of place is.

test_framing.py compares with the parser on heads drawn at random; here are those that matter by
name.
"""

import pytest

from edge.http.familiar import Familiar
from edge.http.parser import RequestParser
from tests.edge.http.heads import head

HOST = b"Host: a.example"
AGENT = b"User-Agent: b/1 (c)"
ACCEPT = b"Accept: image/webp,*/*"
OTHER_ACCEPT = b"accept: image/avif"
FIREFOX = (HOST, AGENT, ACCEPT, b"Accept-Language: en", b"Accept-Encoding: gzip")
CHROME = (HOST, AGENT, ACCEPT, b"Sec-Fetch-Dest: image")
SQUID = (b"Via: 1.1 squid", b'Surrogate-Capability: farm="Surrogate/1.0"')
REFERER = b"Referer: http://a.example/page?x=1"
COOKIE = b"Cookie: session=1; theme=light"
CLIENT = b"X-Forwarded-For: 192.0.2.7"
END = (b"Cache-Control: max-age=259200", b"Connection: keep-alive")

HEADS = {
    "bare": (HOST,),
    "no page": (*FIREFOX, *END),
    "Firefox behind Squid": (*FIREFOX, REFERER, COOKIE, *SQUID, CLIENT, *END),
    "without a cookie": (*FIREFOX, REFERER, *SQUID, CLIENT, *END),
    "Chrome behind Squid": (
        *(*CHROME, REFERER, b"Accept-Encoding: gzip", b"Accept-Language: en", COOKIE),
        *(*SQUID, CLIENT, *END),
    ),
    "cookie before the client": (*CHROME, REFERER, b"DNT: 1", COOKIE, CLIENT, *END),
    "client last": (*FIREFOX, REFERER, COOKIE, *SQUID, CLIENT),
    "no Squid": (*FIREFOX, REFERER, COOKIE, *END),
    "page last": (*FIREFOX, REFERER),
    "host behind the page": (AGENT, REFERER, HOST, *SQUID, CLIENT, *END),
    "nothing between": (*FIREFOX, REFERER, CLIENT, *END),
    "what it accepts behind the page": (HOST, AGENT, REFERER, ACCEPT, *SQUID, CLIENT, *END),
    "what it accepts at the end": (HOST, AGENT, REFERER, *SQUID, CLIENT, ACCEPT, *END),
}


def educated() -> Familiar:
    """One that has met every head of the table, by lines and by blocks."""
    familiar = Familiar(frozenset({b"save-data"}))
    for fields in HEADS.values():
        familiar.learn(head(b"GET / HTTP/1.1", *fields))
    for fields in HEADS.values():
        familiar.read(head(b"GET / HTTP/1.1", *fields))
    return familiar


@pytest.mark.parametrize("name", HEADS)
def test_what_a_head_says(name):
    fields = HEADS[name]
    expected = (
        b"GET /b.jpg HTTP/1.1",
        HOST,
        REFERER[9:] if REFERER in fields else b"-",
        AGENT if AGENT in fields else b"",
        CLIENT[17:] if CLIENT in fields else b"",
        ACCEPT if ACCEPT in fields else b"",
    )
    assert educated().read(head(b"GET /b.jpg HTTP/1.1", *fields)) == expected


@pytest.mark.parametrize("name", HEADS)
def test_other_pages_cookies_and_clients_are_familiar(name):
    told = {REFERER: b"Referer: /2", COOKIE: b"Cookie: b", CLIENT: b"X-Forwarded-For: ::1"}
    fields = [told.get(field, field) for field in HEADS[name]]
    found = educated().read(head(b"GET /b.jpg HTTP/1.1", *fields))
    assert found is not None
    assert found[2] == (b"/2" if REFERER in HEADS[name] else b"-")
    assert found[4] == (b"::1" if CLIENT in HEADS[name] else b"")


# What must not be overlooked, wherever it stands.
STRAY = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\x80", b"\r\n\r\n", b"\r\n "),
    *(b"\r\nHost: b", b"\r\nRange: bytes=0-1", b"\r\nContent-Length: 1", b"\r\nnonsense"),
    *(b"\r\n" + REFERER, b"\r\n" + COOKIE, b"\r\n" + CLIENT, b"\r\n" + AGENT, b"\r\n" + HOST),
    *(b"\r\n" + ACCEPT, b"\r\n" + OTHER_ACCEPT, b"\r\nSave-Data: on", b"\r\nDPR: 2"),
)


@pytest.mark.parametrize("name", HEADS)
def test_what_is_out_of_place_is_the_parsers(name):
    """Every stray at every place: None, or a request that the parser takes as the same."""
    familiar = educated()
    whole = head(b"GET /b.jpg HTTP/1.1", *HEADS[name])
    line_end = whole.index(b"\r\n")
    for at in range(line_end, len(whole) + 1):
        for stray in STRAY:
            data = whole[:at] + stray + whole[at:]
            found = familiar.read(data)
            if found is None or found[0] != whole[:line_end]:
                continue
            parser = RequestParser()
            parser.receive_data(data)
            assert parser.error is None, data
            assert parser.is_between_requests, data
            (request,) = parser.requests
            assert request.keep_alive
            assert request.authority == found[1][5:].strip(), data
            assert (request.field(b"referer") or "-").encode() == found[2].strip(b" "), data
            assert (request.field(b"x-forwarded-for") or "").encode() == found[4].strip(b" "), data
            assert (request.field(b"accept") or "").encode() == found[5][7:].strip(b" "), data
            assert not {b"range", b"content-length"} & request.fields.keys(), data
            assert not {b"save-data", b"dpr"} & request.fields.keys(), data


ACCEPTS = (b"Accept: image/avif,*/*", b"accept:image/webp", b"Accept: */*", b"Accept:", None)


@pytest.mark.parametrize("name", ["no page", "Firefox behind Squid", "client last", "page last"])
def test_accept_lines_are_told_apart(name):
    """By lines, then by blocks, in turn: no head gets the line of another."""
    familiar = educated()
    heads = {
        accept: head(
            b"GET /b.jpg HTTP/1.1",
            *(accept if field == ACCEPT else field for field in HEADS[name])
            if accept is not None
            else (field for field in HEADS[name] if field != ACCEPT),
        )
        for accept in ACCEPTS
    }
    for data in heads.values():
        familiar.learn(data)
    for _ in range(3):
        for accept, data in heads.items():
            found = familiar.read(data)
            assert found is not None
            assert found[5] == (accept or b"")


def test_two_accept_lines_are_the_parsers():
    familiar = educated()
    data = head(b"GET / HTTP/1.1", *FIREFOX, OTHER_ACCEPT)
    familiar.learn(data)
    assert familiar.read(data) is None


@pytest.mark.parametrize(
    ("minds", "is_familiar"), [(frozenset(), True), (frozenset({b"save-data"}), False)]
)
def test_save_data_is_harmless_where_no_site_looks_at_it(minds, is_familiar):
    familiar = Familiar(minds)
    data = head(b"GET / HTTP/1.1", *FIREFOX, b"Save-Data: on", *END)
    for _ in range(3):
        familiar.learn(data)
        assert (familiar.read(data) is not None) is is_familiar


@pytest.mark.parametrize("hint", [b"DPR: 2", b"Sec-CH-DPR: 2", b"Width: 9", b"sec-ch-width: 9"])
def test_hints_are_never_overlooked(hint):
    familiar = educated()
    data = head(b"GET / HTTP/1.1", *FIREFOX, hint, *END)
    familiar.learn(data)
    assert familiar.read(data) is None


def test_lessons_are_rationed():
    familiar = Familiar()
    first = head(b"GET / HTTP/1.1", *FIREFOX, REFERER, *SQUID, CLIENT, *END)
    familiar.learn(first)
    familiar._lessons = 0
    assert familiar.read(first) is not None
    assert not familiar._blocks
    familiar.next_turn()
    assert familiar.read(first) is not None
    assert len(familiar._blocks) == 2
