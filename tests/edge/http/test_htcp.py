"""CLR and its reply: the very bytes that Squid 5.7 took and gave, and all that is no reply."""

import pytest

from edge.http.htcp import BadReply, Reply, Verdict, build_clr, parse_reply

URL = "http://img.example.com/a.jpg"
# Accepted by Squid 5.7.
CLR = bytes.fromhex(
    "003f 0001 0039 40 02 00000002 0000 0003"
    + b"GET".hex()
    + "001c"
    + URL.encode().hex()
    + "0008"
    + b"HTTP/1.1".hex()
    + "0000 0002"
)
FOUND = bytes.fromhex("000e 0001 0008 40 01 00000002 0002")
ABSENT = bytes.fromhex("000e 0001 0008 42 01 00000002 0002")


def test_a_clr_is_what_squid_takes():
    assert build_clr(URL, 2) == CLR


@pytest.mark.parametrize("url", ["http://h/\N{SNOWMAN}", "http://h/" + "a" * 70_000])
def test_what_cannot_be_a_clr(url):
    with pytest.raises(ValueError):
        build_clr(url, 1)


def test_the_longest_url_that_a_request_may_have():
    datagram = build_clr("http://h/" + "a" * 8192, 2**32 - 1)
    assert int.from_bytes(datagram[:2], "big") == len(datagram)


@pytest.mark.parametrize(
    ("datagram", "verdict"),
    [
        (FOUND, Verdict.FORGOTTEN),
        (ABSENT, Verdict.ABSENT),
        (bytes.fromhex("000e 0001 0008 41 01 00000002 0002"), Verdict.KEPT),
        # F1 in a reply: the response is about the message, whatever its number
        (bytes.fromhex("000e 0001 0008 40 03 00000002 0002"), Verdict.REFUSED),
        (bytes.fromhex("000e 0001 0008 45 03 00000002 0002"), Verdict.REFUSED),
        # with op-data of a later minor use, and with authentication that we do not read
        (bytes.fromhex("0010 0001 000a 40 01 00000002 abcd 0002"), Verdict.FORGOTTEN),
        (bytes.fromhex("0010 0001 0008 40 01 00000002 0004 abcd"), Verdict.FORGOTTEN),
    ],
)
def test_replies(datagram, verdict):
    assert parse_reply(datagram) == Reply(2, verdict)


@pytest.mark.parametrize("whole", [FOUND, ABSENT])
def test_a_part_of_a_reply_is_none(whole):
    for end in range(len(whole)):
        with pytest.raises(BadReply):
            parse_reply(whole[:end])
    with pytest.raises(BadReply):
        parse_reply(whole + b"x")


@pytest.mark.parametrize(
    ("hexadecimal", "why"),
    [
        ("000e 0000 0008 40 01 00000002 0002", "version"),
        ("000e 0101 0008 40 01 00000002 0002", "version"),
        ("000e 0001 0008 40 00 00000002 0002", "request"),
        ("000e 0001 0008 40 02 00000002 0002", "request"),  # a CLR sent back
        ("000e 0001 0008 10 01 00000002 0002", "opcode"),  # TST
        ("000e 0001 0008 04 01 00000002 0002", "opcode"),  # the halves the other way
        ("000e 0001 0008 43 01 00000002 0002", "response"),
        ("000e 0001 ffff 40 01 00000002 0002", "outside"),
        ("000e 0001 0007 40 01 00000002 0002", "outside"),
        ("ffff 0001 0008 40 01 00000002 0002", "announced"),
    ],
)
def test_hostile_replies(hexadecimal, why):
    with pytest.raises(BadReply, match=why):
        parse_reply(bytes.fromhex(hexadecimal))
