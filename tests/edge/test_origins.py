"""What answers for an origin, by its settings."""

import asyncio
import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge.origin.address import Address
from edge.origin.pool import OriginPool
from edge.origin.probe import Prober
from edge.origins import build_client, hosts_of, maybe_check
from edge.settings.addresses import parse_endpoint
from edge.settings.sections import S3, Origin, OriginKind
from tests.edge.origin.asking import LOGGER, run
from tests.peers.http import Behaviour, http_peer

STORAGE = Origin(name="app", kind=OriginKind.S3, s3=S3(bucket="pics", prefix="originals"))


@pytest.mark.parametrize(
    ("changes", "address"),
    [
        ({}, Address("s3.us-east-1.amazonaws.com", 443)),
        ({"region": "eu-west-1", "virtual_host": True},
         Address("pics.s3.eu-west-1.amazonaws.com", 443)),
        ({"endpoint": parse_endpoint("http://minio:9000")}, Address("minio", 9000)),
        ({"endpoint": parse_endpoint("https://minio")}, Address("minio", 443)),
        ({"endpoint": parse_endpoint("http://[::1]")}, Address("::1", 80)),
    ],
)  # fmt: skip
def test_where_a_bucket_is(changes: dict[str, object], address: Address) -> None:
    section = dataclasses.replace(STORAGE, s3=dataclasses.replace(STORAGE.s3, **changes))
    assert hosts_of(section) == [address]


def said(status: int, code: str = "") -> Behaviour:
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
    return Behaviour(head.encode() + body)


@pytest.mark.parametrize(
    ("behaviour", "is_well"),
    [
        (said(206), True),
        (said(404, "NoSuchKey"), True),  # it has answered
        (said(403, "AccessDenied"), True),
        (said(416), True),  # the object is empty
        (said(403, "InvalidAccessKeyId"), False),
        (said(404, "NoSuchBucket"), False),
        (said(301, "PermanentRedirect"), False),
        (said(500, "InternalError"), False),
        (said(503, "SlowDown"), False),
    ],
)
def test_storage_is_probed_by_an_object(behaviour: Behaviour, is_well: bool) -> None:
    pytest.importorskip("obstore")

    async def main(threads: ThreadPoolExecutor) -> None:
        async with http_peer(behaviour) as peer:
            s3 = dataclasses.replace(
                STORAGE.s3, endpoint=parse_endpoint(f"http://{peer.address}"), anonymous=True
            )
            section = dataclasses.replace(STORAGE, s3=s3, probe="/sub/probe.txt")
            client = build_client(section, threads=threads, wall=lambda: 0, logger=LOGGER)
            pool = OriginPool(
                "app", hosts_of(section), client, clock=asyncio.get_running_loop().time,
                chance=lambda: 0.5, logger=logging.getLogger("tests"),
            )  # fmt: skip
            check = maybe_check(section, client, logger=LOGGER)
            assert check is not None
            prober = Prober(pool, check, interval_s=60, timeout_s=20,
                            chance=lambda: 0.5, logger=LOGGER)  # fmt: skip
            stats = pool.hosts[0].stats
            prober.start()
            async with asyncio.timeout(20):
                while not (stats.checks_passed or stats.checks_failed):
                    await asyncio.sleep(0.002)
            assert (stats.checks_passed, stats.checks_failed) == (is_well, not is_well)
            [seen] = peer.requests
            assert (seen.method, seen.target) == ("GET", "/pics/originals/sub/probe.txt")
            assert seen.field("range") == "bytes=0-0"
            await prober.stop()
            await client.aclose()

    with ThreadPoolExecutor(1) as threads:
        run(main(threads))
