"""Where a request begins and ends, and that a second parser agrees.

h11 is the oracle: whatever we take, it takes, with the same method, target and fields, ending at
the same byte. It forgives more than we do, so what it takes says nothing of us.
"""

import itertools
import re
from dataclasses import dataclass

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.http.familiar import Familiar
from edge.http.parser import RequestParser, is_plain_target
from tests.edge.http.heads import BODIES, REFUSED, SMUGGLED, get, head, post

# More than any head that we take.
ORACLE_BYTES = 128 * 1024
# RFC 3986 appendix B, without a fragment.
ABSOLUTE = re.compile(rb"[^:/?#]+://[^/?#]*([^?#]*)(\?[^#]*)?")


@dataclass(frozen=True)
class Seen:
    method: bytes
    target: bytes
    fields: dict[bytes, bytes]


def ours(*receives: bytes) -> tuple[list[Seen], int | None, bool]:
    """Requests taken, the status of what was refused, and whether a request ended it.

    Behind one that does not keep the connection nothing is answered, so nothing counts.
    """
    parser = RequestParser()
    for data in receives:
        for at in range(0, len(data), 65_536):
            parser.receive_data(data[at : at + 65_536])
    seen = []
    for request in parser.requests:
        seen.append(Seen(request.method, request.target, request.fields))
        if not request.keep_alive:
            return seen, None, True
    return seen, parser.error and parser.error.status, False


def oracle(data: bytes) -> tuple[list[Seen], bool]:
    """What h11 takes of the same bytes, and whether it then refused."""
    found = []
    while True:
        data = without_what_llhttp_skips(data)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=ORACLE_BYTES)
        connection.receive_data(data)
        try:
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                return found, False
            found.append(seen_by_oracle(request))
            while not isinstance(part := connection.next_event(), h11.EndOfMessage):
                if not isinstance(part, h11.Data):
                    return found, False
        except h11.RemoteProtocolError:
            return found, True
        # A connection of its own for each, for whether one is kept is not asked here.
        data = connection.trailing_data[0]


def without_what_llhttp_skips(data: bytes) -> bytes:
    """The two liberties that our tokenizer takes and h11 does not; neither moves a request's end.

    Ends of lines before a request (RFC 9112 section 2.2 asks to skip one empty line), and more than
    one space in the request line (section 3 lets a recipient split a request line at white space).
    """
    return re.sub(rb"\A([A-Z]+) +([^ \r\n]+) +HTTP", rb"\1 \2 HTTP", data.lstrip(b"\r\n"))


def seen_by_oracle(request: h11.Request) -> Seen:
    fields: dict[bytes, bytes] = {}
    for name, value in request.headers:
        fields[name] = fields[name] + b", " + value if name in fields else value
    return Seen(request.method, origin_form(request.target), fields)


def origin_form(target: bytes) -> bytes:
    """RFC 9112 section 3.2: what an absolute target asks of its authority."""
    parts = ABSOLUTE.fullmatch(target)
    if parts is None:
        return target
    return (parts[1] or b"/") + (parts[2] or b"")


def check_agreement(*receives: bytes) -> None:
    data = b"".join(receives)
    taken, status, last = ours(*receives)
    theirs, refused = oracle(data)
    assert taken == theirs[: len(taken)]
    if status is None and not last:
        # We wait for more of a head, and so do they.
        assert (len(theirs), refused) == (len(taken), False)


@pytest.mark.parametrize(
    ("data", "status"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused_and_closed(data, status):
    # The tokenizer stops behind an upgrade, and is replaced there by a new one.
    upgrade = get(b"Connection: upgrade", b"Upgrade: h2c")
    for before in (b"", get(b"X: before"), upgrade):
        for receives in ([before + data + SMUGGLED], [before, data, SMUGGLED]):
            taken, found, _ = ours(*receives)
            assert (len(taken), found) == (1 if before else 0, status)
    if len(data) < 1000:
        one_by_one = [data[at : at + 1] for at in range(len(data))]
        taken, found, _ = ours(*one_by_one, SMUGGLED)
        assert (taken, found) == ([], status)


@pytest.mark.parametrize("data", [row[1] for row in BODIES], ids=[row[0] for row in BODIES])
def test_a_body_ends_the_connection(data):
    for receives in (
        [data + SMUGGLED],
        [data[at : at + 1] for at in range(len(data))] + [SMUGGLED],
    ):
        taken, _, last = ours(*receives)
        assert [request.method for request in taken] == [b"POST"]
        assert last
        check_agreement(*receives)


METHODS = [b"GET", b"HEAD", b"OPTIONS", b"POST", b"PUT", b"DELETE", b"PATCH", b"PURGE", b"TRACE"]
TARGETS = [
    *(b"/", b"/a.jpg?w=1&h=%20", b"//a", b"/a//b/../c", b"/?", b"/??", b"/%00", b"/a;b=c,d!$'()*+"),
    *(b"http://b/x?y", b"https://b", b"http://b?q", b"HTTP://b:80/", b"http://[::1]/a", b"*"),
    *(b'/"<>^`{|}', b"/a:b@c", b"/http://x/", b"http://b/?", b"http://b//c"),
]
FIELDS = [
    *(b"Accept: image/webp,*/*;q=0.8", b"accept: image/avif", b"User-Agent: a b\tc", b"X:a"),
    *(b"X:", b"X:  ", b"X: \t a \t ", b"Cookie: a=b; c=d", b"X: \xe4\xff", b"X_Y: 1", b"X-Y: 2"),
    *(b"Connection: keep-alive", b"connection: x, Close", b"Upgrade: h2c", b"TE: trailers"),
    *(
        b"Connection: upgrade",
        b"Content-Length: 0",
        b"Content-Length: 000",
        b"Expect: 100-continue",
    ),
    *(b"Trailer: X", b"Keep-Alive: 5", b"Proxy-Connection: keep-alive", b"!#$%&'*+-.^_`|~9: x"),
    *(b'If-None-Match: "a:b", W/"c"', b"Range: bytes=0-", b"X-Forwarded-For: 1.2.3.4", b"X: a:b"),
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0"]

good_lines = st.builds(
    b"%b %b %b".__mod__,
    st.tuples(st.sampled_from(METHODS), st.sampled_from(TARGETS), st.sampled_from(VERSIONS)),
)
good_fields = st.lists(st.sampled_from(FIELDS), max_size=6)
good_heads = st.builds(
    lambda line, fields: head(line, b"Host: a", *fields), good_lines, good_fields
)
bodies = st.sampled_from(
    [
        post(b"Content-Length: 3") + b"abc",
        *(row[1] for row in BODIES),
        *(r[1] for r in REFUSED[:-2]),
    ]
)
# Bytes that mean something to a parser, and some that should mean nothing.
MEANING = [bytes((byte,)) for byte in b'\r\n \t:,;\x00\x0b\x0c\x7f\x85\xa0\xff/?#%0aZ"\\']
MEANING += [b"\r\n", b"\r\n\r\n", b"\n\n", b"\r\n ", b" HTTP/1.1", b"chunked", b"0\r\n\r\n"]


@st.composite
def damaged(draw, streams):
    """A stream with up to three places changed."""
    data = draw(streams)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        data = data[:at] + draw(st.sampled_from(MEANING) | st.binary(max_size=3)) + data[at + cut :]
    return data


@st.composite
def pieces(draw, streams):
    data = draw(streams)
    places = sorted(draw(st.sets(st.integers(0, len(data)), max_size=5)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


pipelines = st.lists(good_heads | bodies, min_size=1, max_size=4).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(pieces(pipelines))
def test_what_we_take_of_a_pipeline_h11_takes(receives):
    check_agreement(*receives)


@settings(max_examples=1500, deadline=None)
@given(pieces(damaged(st.lists(good_heads, min_size=1, max_size=2).map(b"".join))))
@example([get(b"X: a ")])
@example([get(b"X: a\t") + get()])
def test_what_we_take_of_a_damaged_pipeline_h11_takes(receives):
    check_agreement(*receives)


@settings(max_examples=300, deadline=None)
@given(st.text('\t !~:;,"\\ab\x80\xff', max_size=20), st.sampled_from(["X", "Host", "Connection"]))
def test_values_come_out_alike(value, name):
    check_agreement(head(b"GET / HTTP/1.0", f"{name}: {value}".encode("latin-1")))


@pytest.mark.parametrize("target", TARGETS)
def test_every_method_target_and_field(target):
    for method, version, field in itertools.product(METHODS, VERSIONS, FIELDS):
        line = b" ".join((method, target, version))
        check_agreement(head(line, b"Host: a", field) + get())


# Familiar heads are read without the tokenizer: a third parser, which must agree with ours.

BROWSER = [
    *(b"Host: a", b"User-Agent: b/1 (c)", b"Accept: image/webp,*/*", b"Accept-Encoding: gzip"),
    *(b"Referer: http://a/x?y", b"Cookie: a=b", b"Via: 1.1 squid", b"X-Forwarded-For: 192.0.2.7"),
    *(b"Cache-Control: max-age=9", b"Connection: keep-alive", b"X-Real-IP: 192.0.2.7", b"DNT: 1"),
]
familiar_heads = st.lists(st.sampled_from(BROWSER[1:]), max_size=8).map(
    lambda fields: head(b"GET /a.jpg?w=1 HTTP/1.1", b"Host: a", *fields)
)
DAMAGE = st.sampled_from([*MEANING, *(field + b"\r\n" for field in BROWSER)])


@st.composite
def rearranged(draw):
    """Familiar heads, one after another, with lines moved in and bytes changed."""
    data = draw(st.lists(familiar_heads, min_size=1, max_size=2).map(b"".join))
    for _ in range(draw(st.integers(0, 3))):
        ends = [0] + [match.end() for match in re.finditer(rb"\r\n", data)]
        at = draw(st.sampled_from(ends) | st.integers(0, len(data)))
        cut = draw(st.sampled_from([0, 0, 1, 2]))
        data = data[:at] + draw(DAMAGE) + data[at + cut :]
    return data


def check_familiar(familiar: Familiar, data: bytes) -> None:
    for _ in range(2):  # line by line, then by blocks
        found = familiar.read(data)
        if found is None:
            return
        line, host, *_, accept = found
        target = line[4:-9]
        if line != b"GET %b HTTP/1.1" % target or not is_plain_target(target):
            return  # the handler asks the parser
        parser = RequestParser()
        parser.receive_data(data)
        assert parser.error is None
        assert parser.is_between_requests
        assert [
            (r.target, r.authority, r.keep_alive, r.fields.get(b"accept", b""))
            for r in parser.requests
        ] == [(target, host[5:].strip(), True, accept[7:].strip())]


def educated() -> Familiar:
    familiar = Familiar()
    for fields in (BROWSER, [b"Host: a"], BROWSER[:4], [b"Host: b", *BROWSER[1:]]):
        familiar.learn(head(b"GET / HTTP/1.1", *fields))
        familiar.read(head(b"GET / HTTP/1.1", *fields))
    return familiar


@settings(max_examples=1500, deadline=None)
@given(rearranged())
@example(get() + b"Accept: image/webp,*/*\r\n")
@example(b"Accept: image/webp,*/*\r\n" + get())
@example(get(*[b"Cookie: a=b"] * 200))
def test_a_familiar_head_is_one_that_the_parser_takes(data):
    check_familiar(educated(), data)


def test_familiar_heads_are_read():
    familiar = educated()
    for fields in (BROWSER, [b"Host: a"]):
        assert familiar.read(head(b"GET /other HTTP/1.1", *fields)) is not None
