"""Originals in a bucket: a real server for what is there, a scripted one for what goes wrong."""

import asyncio
import dataclasses
import logging
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

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
from edge.origin.exchange import Deadlines, Result, result_of
from edge.origin.http.client import HttpClient, Tls
from edge.origin.messages import Headers, OriginRequest
from edge.origin.pool import OriginPool
from tests.edge.origin.asking import GET, HEAD, LOGGER, LOOPS, PATIENT, POST, Witness, read_all, run
from tests.peers.certificates import make_certificate, server_context
from tests.peers.http import Behaviour, HttpPeer, Manners, Seen, http_peer
from tests.peers.s3 import S3Server, is_signed, s3_server
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


MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
OBJECT = b'HTTP/1.1 200 OK\r\nETag: "a"\r\nLast-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n'
WHOLE = OBJECT + b"Content-Length: 1000\r\n\r\n" + bytes(1000)
PARTLY = OBJECT + b"Content-Length: 1000\r\n\r\n" + bytes(500)


def document(code: str, message: str = "Because") -> bytes:
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error>'
        + f"<Code>{code}</Code><Message>{message}</Message></Error>".encode()
    )


def said(status: bytes, body: bytes = document("X"), fields: bytes = b"") -> Behaviour:
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    return Behaviour(b"HTTP/1.1 " + status + b"\r\n" + fields + length + body)


# (behaviour, status or error, what the log or the error says)
FAULTS = [
    (said(b"403 Forbidden", document("AccessDenied")), 403, "GetObject"),
    (said(b"403 Forbidden", document("InvalidObjectState")), 403, "archived"),
    (said(b"403 Forbidden", b""), 403, "GetObject"),
    (said(b"404 Not Found", document("NoSuchKey")), 404, ""),
    (said(b"404 Not Found", b"<html>"), 404, ""),
    (said(b"403 Forbidden", document("InvalidAccessKeyId")), OriginBroken, "access_key"),
    (said(b"404 Not Found", document("NoSuchBucket")), OriginBroken, "no such bucket"),
    (said(b"401 Unauthorized"), OriginBroken, "401 X: Because"),
    (said(b"500 Internal Server Error", document("InternalError")), OriginBroken, "500 InternalE"),
    (said(b"503 Slow Down", document("SlowDown")), OriginOverloaded, "503 SlowDown: Because"),
    (said(b"429 Too Many Requests", b""), OriginOverloaded, "429"),
    (said(b"301 Moved", b""), OriginBroken, "another region"),
    (said(b"204 No Content", b""), OriginBroken, "204"),
    (Behaviour(said(b"500 X").wire, cut_at=40), OriginBroken, "500"),
    (Behaviour(b"garbage", keeps=False), OriginBroken, "no answer of HTTP"),
    (Behaviour(b"", keeps=False), OriginBroken, "closed after 0 bytes"),
    (Behaviour(PARTLY, cut_at=len(PARTLY)), OriginTruncated, "500 of 1000"),
    (Behaviour(PARTLY, reset_at=len(PARTLY)), OriginTruncated, "lost"),
]


@pytest.mark.parametrize(("behaviour", "expected", "words"), FAULTS, ids=range(len(FAULTS)))
@pytest.mark.parametrize("loop", LOOPS)
def test_faults(
    behaviour: Behaviour, expected: object, words: str, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, LOGGER.name)

    async def main() -> tuple[Outcome, HttpPeer]:
        async with http_peer(behaviour, manners=Manners()) as peer:
            return await ask(peer.address, "/a.jpg"), peer

    outcome, peer = run(main(), loop)
    if isinstance(expected, int):
        assert (outcome.status, outcome.body, outcome.length) == (expected, b"", 0)
        assert outcome.witness.results == [Result.ANSWERED]
    else:
        assert type(outcome.error) is expected
        assert not outcome.is_cacheable
        assert outcome.witness.results == [result_of(outcome.error)]
        assert str(peer.address) in str(outcome.error)
    told = f"{outcome.error}{caplog.text}"
    assert words in told
    assert "<" not in told.replace("<class", "")
    assert "Signature=" not in told + repr(outcome.error)
    [request] = peer.requests  # whether once more is the pool's to say
    assert "SECRET" not in told + request.head
    assert is_signed(request, "SECRET")


def test_overload_is_learnt_from() -> None:
    behaviour = said(b"503 Slow Down", document("SlowDown"), b"Retry-After: 7\r\n")

    async def main() -> tuple[HttpPeer, OriginPool, OriginOverloaded]:
        async with http_peer(behaviour) as peer:
            client = client_at(peer.address)
            pool = OriginPool(
                "app", [peer.address], client,
                clock=asyncio.get_running_loop().time, chance=lambda: 0.5, logger=LOGGER,
            )  # fmt: skip
            with pytest.raises(OriginOverloaded) as caught:
                await pool.fetch(dataclasses.replace(GET, path="/a.jpg"))
            await client.aclose()
            return peer, pool, caught.value

    peer, pool, failed = run(main())
    assert (len(peer.requests), failed.retry_after_s) == (1, 7)
    [host] = pool.hosts
    assert host.stats.results == {Result.OVERLOADED: 1}
    assert (host.limit.decreases, pool.stats.retries) == (1, 0)


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


async def seen_by_peer(
    request: OriginRequest,
    behaviour: Behaviour,
    *,
    times: int = 1,
    keep: int = 0,
    **of_bucket: object,
) -> tuple[HttpPeer, S3Client, list[Headers]]:
    async with http_peer(behaviour) as peer:
        own = dataclasses.replace(bucket(f"http://{peer.address}"), **of_bucket)
        client = S3Client(HttpClient(PATIENT, LOGGER, keep=keep), own, PATIENT, LOGGER)
        told = []
        for _ in range(times):
            response = await client.fetch(peer.address, request, Witness())
            await read_all(response)
            await response.aclose()
            told.append(response.headers)
        await client.aclose()
        return peer, client, told


def at_path(path: str, request: OriginRequest = GET, **fields: str) -> OriginRequest:
    named = asked(**fields).headers
    return dataclasses.replace(request, path=path, headers=named)


@pytest.mark.parametrize("path", ["/a.jpg", f"/{KEY}", "/a+b=&'()*!@$:;,~_.-", "/ä/漢.jpg"])
@pytest.mark.parametrize("request_", [GET, HEAD])
def test_keys_are_signed_as_they_are_sent(path: str, request_: OriginRequest) -> None:
    for given in ({}, {"is_virtual_host": True, "endpoint": "http://localhost:1", "prefix": ""}):
        peer, *_ = run(seen_by_peer(at_path(path, request_), Behaviour(OBJECT + EMPTY), **given))
        [seen] = peer.requests
        assert is_signed(seen, "SECRET")
        place = "/" if given else "/pics/originals/"
        assert unquote(seen.target.partition("?")[0]) == place + path[1:]
        assert seen.field("host") == ("pics.localhost:1" if given else str(peer.address))


EMPTY = b"Content-Length: 0\r\n\r\n"


def test_only_what_the_storage_needs_goes_there() -> None:
    request = at_path(
        "/a.jpg", cookie="a=b", authorization="Basic x", accept="image/*", via="1.1 squid",
        x_forwarded_for="192.0.2.1", if_none_match='"a"', x_amz_acl="public-read",
    )  # fmt: skip
    peer, *_ = run(seen_by_peer(request, Behaviour(OBJECT + EMPTY)))
    names = [line.partition(":")[0].lower() for line in peer.requests[0].head.split("\r\n")[1:]]
    assert names == ["host", "user-agent", "if-none-match", "connection"]


# (what is asked, what goes over the wire)
CONDITIONS = [
    ({"if_none_match": '"a"', "if_modified_since": MODIFIED}, {"if-none-match": '"a"'}),
    ({"if_match": '"a"', "if_unmodified_since": MODIFIED}, {"if-match": '"a"'}),
    ({"if_modified_since": MODIFIED}, {"if-modified-since": MODIFIED}),
    ({"if_modified_since": "soon"}, {}),
    ({"range": "bytes=1-2"}, {"range": "bytes=1-2"}),
    ({"range": "bytes=1-2", "if_range": '"a"'}, {}),
    ({"range": "bytes=1-2", "if_range": '"a"', "if_match": '"b"'}, {"if-match": '"b"'}),
    ({"range": "bytes=1-2", "if_range": '"a"', "if_match": '"a"'},
     {"if-match": '"a"', "range": "bytes=1-2"}),
    ({"range": "bytes=2-1"}, {}),
    ({"range": "bytes=1-2,4-5"}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "sent"), CONDITIONS)
def test_conditions(wanted: dict[str, str], sent: dict[str, str]) -> None:
    peer, *_ = run(seen_by_peer(at_path("/a.jpg", **wanted), Behaviour(OBJECT + EMPTY)))
    names = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
             "range")  # fmt: skip
    found = {name: peer.requests[0].field(name) for name in names}
    assert {name: value for name, value in found.items() if value is not None} == sent


def test_what_is_said_of_an_object() -> None:
    told = (
        b"Content-Type: binary/octet-stream\r\nVary: Origin\r\nExpires: 0\r\nAge: 3\r\n"
        b"Content-Encoding: gzip\r\nServer: AmazonS3\r\nx-amz-meta-secret: s\r\nSet-Cookie: a=b\r\n"
    )
    *_, [fields] = run(seen_by_peer(at_path("/a.jpg"), Behaviour(OBJECT + told + EMPTY)))
    assert dict(fields) == {
        "etag": '"a"', "last-modified": MODIFIED, "content-type": "image/jpeg", "expires": "0",
        "age": "3", "content-encoding": "gzip",
    }  # fmt: skip
    # What a revalidation brings is the lifetime from now on.
    not_modified = b'HTTP/1.1 304 X\r\nETag: "a"\r\nCache-Control: max-age=9\r\nServer: x\r\n\r\n'
    *_, [fields] = run(seen_by_peer(at_path("/a.jpg"), Behaviour(not_modified)))
    assert dict(fields) == {"etag": '"a"', "cache-control": "max-age=9"}


@pytest.mark.parametrize("behaviour", [Behaviour(OBJECT + EMPTY), said(b"404 Not Found")])
def test_connections_are_kept(behaviour: Behaviour) -> None:
    peer, client, _ = run(seen_by_peer(at_path("/a.jpg"), behaviour, times=3, keep=1))
    assert (peer.connections, len(peer.requests)) == (1, 3)
    assert (client.connections.opened, client.connections.reused) == (1, 2)


def test_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://elsewhere.example:1")
    for name, value in {
        "ACCESS_KEY_ID": "env", "SECRET_ACCESS_KEY": "ENV", "SESSION_TOKEN": "token",
        "SKIP_SIGNATURE": "true", "VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)

    def target(**of_bucket: object) -> Seen:
        request = at_path("/a.jpg")
        peer, *_ = run(seen_by_peer(request, Behaviour(OBJECT + EMPTY), **of_bucket))
        return peer.requests[0]

    # Those of the settings, and no token of others beside them.
    seen = target()
    assert is_signed(seen, "SECRET")
    assert "Credential=id%2F" in seen.target
    assert "Token" not in seen.target
    seen = target(access_key="", secret_key="")
    assert is_signed(seen, "ENV")
    assert "Credential=env%2F" in seen.target
    assert "X-Amz-Security-Token=token" in seen.target
    assert target(is_anonymous=True, access_key="").target == "/pics/originals/a.jpg"


def test_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{refusing()}/role")
    client = S3Client(
        HttpClient(PATIENT, LOGGER), Bucket("pics", endpoint="http://localhost:1"), PATIENT, LOGGER
    )
    witness = Witness()
    with pytest.raises(OriginBroken, match="localhost:1: no credentials to sign with"):
        run(client.fetch(Address("localhost", 1), GET, witness))
    assert (witness.connects, witness.results) == (0, [Result.BROKEN])


def test_an_endpoint_with_an_authority_of_its_own(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "localhost")

    async def main(context: ssl.SSLContext) -> Outcome:
        behaviour = Behaviour(OBJECT + EMPTY)
        async with http_peer(behaviour, tls=server_context(certificate, key)) as peer:
            own = bucket(f"https://localhost:{peer.address.port}")
            http = HttpClient(PATIENT, LOGGER, tls=Tls(context))
            client, outcome = S3Client(http, own, PATIENT, LOGGER), Outcome()
            try:
                response = await client.fetch(own.address, at_path("/a.jpg"), outcome.witness)
                outcome.status = response.status
                await read_all(response)
            except OriginRefused as failed:
                outcome.error = failed
            await client.aclose()
            return outcome

    assert run(main(ssl.create_default_context(cafile=str(certificate)))).status == 200
    outcome = run(main(ssl.create_default_context()))
    assert "certificate verify failed" in str(outcome.error)
