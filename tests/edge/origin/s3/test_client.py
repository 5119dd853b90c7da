"""Originals in a bucket: a real server for what is there, a scripted one for what goes wrong."""

import asyncio
import dataclasses
import logging
import os
from collections.abc import Iterator

import pytest

from edge.origin.address import Address
from edge.origin.errors import (
    OriginBroken,
    OriginError,
    OriginOverloaded,
    OriginRefused,
    OriginTimeout,
    OriginTruncated,
    Phase,
)
from edge.origin.exchange import Deadlines, Result
from edge.origin.http.client import HttpClient, Tls
from edge.origin.messages import OriginRequest
from tests.edge.origin.asking import GET, HEAD, LOGGER, LOOPS, PATIENT, POST, Witness, read_all, run
from tests.peers.http import Behaviour, HttpPeer, Manners, http_peer
from tests.peers.s3 import S3Server, s3_server
from tests.peers.sockets import black_hole, refusing

pytest.importorskip("obstore")
pytest.importorskip("moto")

from edge.origin.s3.bucket import Bucket
from edge.origin.s3.client import S3Client

DATA = os.urandom(3_000_000)
SMALL = b"0123456789"
SHORT_S = 0.2
KEY = "sub/a b%25~ż#?.jpg"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        running.put("pics")
        running.put(
            "pics", f"originals/{KEY}", SMALL, content_type="image/jpeg",
            cache_control="max-age=60", content_disposition="inline", content_language="pl",
            **{"x-amz-meta-secret": "s"},
        )  # fmt: skip
        running.put("pics", "originals/large.bin", DATA, content_type="application/x-large")
        running.put("pics", "originals/empty.jpg", b"", content_type="image/jpeg")
        running.put("pics", "outside.jpg", SMALL, content_type="image/jpeg")
        yield running


def bucket(endpoint: str) -> Bucket:
    return Bucket("pics", "originals", "us-east-1", endpoint, "id", "SECRET")


def client_at(address: Address, deadlines: Deadlines = PATIENT) -> S3Client:
    http = HttpClient(deadlines, LOGGER)
    return S3Client(http, bucket(f"http://{address}"), deadlines, LOGGER)


@dataclasses.dataclass
class Outcome:
    body: bytes = b""
    status: int = 0
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    length: int | None = None
    is_cacheable: bool = False
    error: OriginError | None = None
    witness: Witness = dataclasses.field(default_factory=Witness)


async def ask(
    address: Address, path: str, request: OriginRequest = GET, deadlines: Deadlines = PATIENT
) -> Outcome:
    outcome = Outcome()
    client = client_at(address, deadlines)
    try:
        asked = dataclasses.replace(request, path=path)
        response = await client.fetch(address, asked, outcome.witness)
        outcome.status, outcome.fields = response.status, dict(response.headers)
        outcome.length = response.content_length
        assert (response.controls, response.local_redirect) == ((), None)
        try:
            outcome.body = await read_all(response)
        finally:
            outcome.is_cacheable = response.is_cacheable
            await response.aclose()
    except OriginError as failed:
        outcome.error = failed
    await client.aclose()
    assert len(outcome.witness.results) == 1
    return outcome


def asked(**fields: str) -> OriginRequest:
    headers = tuple((name.replace("_", "-"), value) for name, value in fields.items())
    return dataclasses.replace(GET, headers=headers)


@pytest.fixture
def at(server: S3Server) -> Address:
    return Address("127.0.0.1", server.port)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_object_is_an_answer(at: Address, loop: str) -> None:
    outcome = run(ask(at, f"/{KEY}"), loop)
    assert (outcome.status, outcome.body, outcome.length) == (200, SMALL, 10)
    assert outcome.fields.pop("etag").strip('"') == "781e5e245d69b566979b86e28d23f2c7"
    assert outcome.fields.pop("last-modified").endswith(" GMT")
    assert outcome.fields == {
        "cache-control": "max-age=60", "content-disposition": "inline", "content-language": "pl",
        "content-type": "image/jpeg", "accept-ranges": "bytes",
    }  # fmt: skip
    assert outcome.is_cacheable
    assert (outcome.witness.connects, outcome.witness.results) == (1, [Result.ANSWERED])
    large = run(ask(at, "/large.bin"), loop)
    assert (large.body == DATA, large.is_cacheable) == (True, True)
    assert run(ask(at, "/empty.jpg"), loop).length == 0


def test_head(at: Address) -> None:
    outcome = run(ask(at, "/large.bin", HEAD))
    assert (outcome.status, outcome.body, outcome.length) == (200, b"", len(DATA))
    assert (outcome.is_cacheable, outcome.witness.results) == (True, [Result.ANSWERED])


@pytest.mark.parametrize(
    "path", ["/missing.jpg", "/", "/sub", "/sub/", "//large.bin", "/../outside.jpg", "/outside.jpg",
             "/sub/../../outside.jpg", "/./large.bin", "/large.bin/"]
)  # fmt: skip
def test_what_is_no_key(at: Address, path: str) -> None:
    outcome = run(ask(at, path))
    assert (outcome.status, outcome.body, outcome.fields) == (404, b"", {})


def test_preconditions(at: Address) -> None:
    known = run(ask(at, "/large.bin")).fields
    for request, status in [
        (asked(if_none_match=known["etag"]), 304),
        (asked(if_none_match='"other"'), 200),
        (asked(if_modified_since=known["last-modified"]), 304),
        (asked(if_modified_since="Sun, 06 Nov 1994 08:49:37 GMT"), 200),
        (asked(if_modified_since="soon"), 200),
        (asked(if_none_match='"other"', if_modified_since=known["last-modified"]), 200),
    ]:
        outcome = run(ask(at, "/large.bin", request))
        assert (outcome.status, len(outcome.body)) == (status, len(DATA) if status == 200 else 0)
        assert outcome.length == (len(DATA) if status == 200 else None)
        assert outcome.is_cacheable


@pytest.mark.parametrize(
    ("wanted", "body", "content_range"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=2-", b"23456789", "bytes 2-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=-99", SMALL, "bytes 0-9/10"),
        ("bytes=10-", None, "bytes */10"),
        ("bytes=10-11", None, "bytes */10"),
        # the whole is always right
        ("bytes=0-1,3-4", SMALL, None),
        ("bytes=4-2", SMALL, None),
        ("bytes= 1-2", SMALL, None),
        ("chapters=1-2", SMALL, None),
    ],
)
def test_ranges(at: Address, wanted: str, body: bytes | None, content_range: str | None) -> None:
    outcome = run(ask(at, f"/{KEY}", asked(range=wanted)))
    status = 416 if body is None else 200 if content_range is None else 206
    assert (outcome.status, outcome.body) == (status, body or b"")
    assert outcome.fields.get("content-range") == content_range
    assert outcome.length == len(body or b"")
    if_range = asked(range=wanted, if_range='"other"')
    assert run(ask(at, f"/{KEY}", if_range)).status == 200


def test_only_what_is_read(at: Address) -> None:
    outcome = run(ask(at, "/large.bin", POST))
    assert (outcome.status, outcome.fields) == (405, {"allow": "GET, HEAD"})


OBJECT = b'HTTP/1.1 200 OK\r\nETag: "a"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n'
WHOLE = OBJECT + b"Content-Length: 1000\r\n\r\n" + bytes(1000)
PARTLY = OBJECT + b"Content-Length: 1000\r\n\r\n" + bytes(500)


def said(status: bytes, document: bytes = b"<Error><Code>X</Code></Error>") -> Behaviour:
    length = b"Content-Length: %d\r\n\r\n" % len(document)
    # The connection would wait for more until nothing holds its client any longer.
    return Behaviour(b"HTTP/1.1 " + status + b"\r\n" + length + document, keeps=False)


# (behaviour, status or error)
FAULTS = [
    (said(b"403 Forbidden"), 403),
    (said(b"404 Not Found"), 404),
    (said(b"401 Unauthorized"), OriginBroken),
    (said(b"500 Internal Server Error"), OriginBroken),
    (said(b"503 Slow Down"), OriginBroken),
    (said(b"301 Moved", b""), OriginBroken),
    (Behaviour(b"garbage", keeps=False), OriginBroken),
    (Behaviour(b"", keeps=False), OriginBroken),
    (Behaviour(PARTLY, cut_at=len(PARTLY)), OriginTruncated),
    (Behaviour(PARTLY, reset_at=len(PARTLY)), OriginTruncated),
]


@pytest.mark.parametrize(("behaviour", "expected"), FAULTS, ids=range(len(FAULTS)))
@pytest.mark.parametrize("loop", LOOPS)
def test_faults(
    behaviour: Behaviour, expected: object, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, LOGGER.name)

    async def main() -> tuple[Outcome, HttpPeer]:
        async with http_peer(behaviour, manners=Manners()) as peer:
            return await ask(peer.address, "/a.jpg"), peer

    outcome, peer = run(main(), loop)
    if isinstance(expected, int):
        assert outcome.status == expected
    elif outcome.error is not None:
        assert isinstance(outcome.error, expected | OriginBroken)
        assert not outcome.is_cacheable
        assert "\n" not in str(outcome.error)
        assert "<Error>" not in str(outcome.error)
    else:
        pytest.fail(f"{outcome}")
    assert 1 <= len(peer.requests) <= 2
    assert "SECRET" not in f"{outcome.error}{caplog.text}{peer.requests[0].head}"
    assert "AWS4-HMAC-SHA256" in (peer.requests[0].field("authorization") or "")


@pytest.mark.parametrize(
    ("behaviour", "deadline", "phase"),
    [
        (Behaviour(WHOLE, stall_at=0), "first_byte_s", Phase.FIRST_BYTE),
        (Behaviour(WHOLE, stall_at=0), "total_s", Phase.TOTAL),
        (Behaviour(PARTLY, stall_at=len(PARTLY)), "progress_s", Phase.PROGRESS),
    ],
)
@pytest.mark.parametrize("loop", LOOPS)
def test_deadlines(behaviour: Behaviour, deadline: str, phase: Phase, loop: str) -> None:
    async def main() -> Outcome:
        async with http_peer(behaviour) as peer:
            deadlines = dataclasses.replace(PATIENT, **{deadline: SHORT_S})
            return await ask(peer.address, "/a.jpg", deadlines=deadlines)

    outcome = run(main(), loop)
    assert isinstance(outcome.error, OriginTimeout)
    assert outcome.error.phase is phase
    assert outcome.witness.results == [Result.TIMEOUT]


def test_nobody_there() -> None:
    outcome = run(ask(refusing(), "/a.jpg"))
    assert isinstance(outcome.error, OriginRefused)
    assert (outcome.witness.connects, outcome.witness.results) == (0, [Result.REFUSED])
    with black_hole() as address:
        deadlines = dataclasses.replace(PATIENT, connect_s=SHORT_S)
        outcome = run(ask(address, "/a.jpg", deadlines=deadlines))
    assert isinstance(outcome.error, OriginTimeout)
    assert outcome.error.phase is Phase.CONNECT


def test_an_answer_that_is_left(at: Address) -> None:
    async def main() -> None:
        client, witness = client_at(at), Witness()
        request = dataclasses.replace(GET, path="/large.bin")
        response = await client.fetch(at, request, witness)
        await response.read()
        await response.aclose()
        assert (witness.results, response.is_cacheable) == ([Result.ABANDONED], False)
        task = asyncio.ensure_future(client.fetch(at, request, witness))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert witness.results == [Result.ABANDONED] * 2
        await client.aclose()

    run(main(), "uvloop")


def test_a_bucket_shows_no_secret() -> None:
    assert "SECRET" not in repr(bucket("http://a"))
