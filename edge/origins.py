"""The origins of a node, as the configuration says: pools, and what answers for their hosts.

Beside app.py the only place that knows the clients by name. Of each kind only what a node has is
imported: its start is the shorter for it.
"""

import logging
import os
import random
import ssl
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Final

from edge.clock import Clock
from edge.origin.address import Address
from edge.origin.balance import Balance
from edge.origin.errors import DocrootFailed
from edge.origin.exchange import Client, Deadlines
from edge.origin.files import Docroot
from edge.origin.messages import OriginRequest
from edge.origin.names import Names
from edge.origin.pool import OriginPool
from edge.origin.probe import Check, PathCheck, Prober
from edge.settings.sections import GET_VALUES, Origin, OriginKind

if TYPE_CHECKING:
    from edge.origin.fastcgi.params import Script
    from edge.origin.s3.bucket import Bucket

# Idle connections at the least: one to storage takes a place from nobody, and most have TLS.
KEPT_TO_STORAGE: Final = 16


class CannotBuild(Exception):
    """The text says what to do."""


class Origins:
    """by_name: what sites ask. Raises CannotBuild."""

    def __init__(
        self,
        sections: Iterable[Origin],
        *,
        threads: Executor,
        clock: Clock,
        monotonic: Callable[[], float],
        chance: random.Random,
    ) -> None:
        self._threads = threads
        self._clock = clock
        self._monotonic = monotonic
        self._chance = chance
        self._clients: list[Client] = []
        self._probers: list[Prober] = []
        self.by_name = {section.name: self._build(section) for section in sections}

    def start(self) -> None:
        for prober in self._probers:
            prober.start()

    async def stop(self) -> None:
        for prober in self._probers:
            await prober.stop()
        for client in self._clients:
            await client.aclose()

    def _build(self, section: Origin) -> OriginPool:
        logger = logging.getLogger("halftone.origin")
        client = build_client(
            section, threads=self._threads, wall=lambda: self._clock.wall, logger=logger
        )
        self._clients.append(client)
        origin = OriginPool(
            section.name,
            hosts_of(section),
            client,
            clock=self._monotonic,
            chance=self._chance.random,
            logger=logger,
            balance=Balance(section.balance.value),
            backups=[Address.parse(str(host)) for host in section.backup],
            weights={Address.parse(name): weight for name, weight in section.weights},
            max_per_host=section.max_per_host,
            total_s=section.total_timeout,
        )
        check = maybe_check(section, client, logger=logger)
        if check is not None:
            prober = Prober(
                origin,
                check,
                interval_s=section.probe_interval,
                timeout_s=section.probe_timeout,
                chance=self._chance.random,
                logger=logger,
            )
            self._probers.append(prober)
        return origin


def hosts_of(section: Origin) -> list[Address]:
    """Of a program or a storage one, which is no host of the settings."""
    match section.kind:
        case OriginKind.CGI:
            from edge.origin.cgi import Program

            return [Program(path=section.script_filename or "")]
        case OriginKind.S3:
            return [_bucket(section).address]
        case _:
            return [Address.parse(str(host)) for host in section.hosts]


def build_client(
    section: Origin, *, threads: Executor, wall: Callable[[], int], logger: logging.Logger
) -> Client:
    """threads are for the files of sendfile_roots. Raises CannotBuild."""
    from edge.origin.sendfile import SendfileClient

    deadlines = Deadlines(
        connect_s=section.connect_timeout,
        first_byte_s=section.timeout,
        progress_s=section.timeout,
        total_s=section.total_timeout,
    )
    try:
        client = _BUILDERS[section.kind](section, deadlines, logger)
        roots = {root: Docroot(root.folder) for root in section.sendfile_roots}
    except (DocrootFailed, ImportError, OSError, ValueError) as failed:
        raise CannotBuild(f"origin {section.name}: {failed}") from failed
    return SendfileClient(client, roots, threads=threads, wall=wall, logger=logger)


def maybe_check(section: Origin, client: Client, *, logger: logging.Logger) -> Check | None:
    """How its hosts are probed, client being theirs; None where they are not."""
    match section.probe:
        case None:
            return None
        case path if path != GET_VALUES:
            return PathCheck(client, probe_request_of(section, path))
        case _:
            from edge.origin.fastcgi.check import ValuesCheck

            return ValuesCheck(Names(logger), section.connect_timeout)


def probe_request_of(section: Origin, path: str) -> OriginRequest:
    """Of an object a byte is enough. Not HEAD: a refusal without a document does not tell a key of
    ours that is not known there from an object that may not be read."""
    is_object = section.kind is OriginKind.S3
    return OriginRequest(
        method="GET",
        target=path,
        path=path,
        query="",
        headers=(
            ("User-Agent", "halftone-probe"),
            *((("Range", "bytes=0-0"),) if is_object else ()),
        ),
        host="localhost",
        scheme="http",
        remote_addr="127.0.0.1",
        remote_port=0,
        server_addr="127.0.0.1",
        server_port=80,
        server_protocol="HTTP/1.1",
    )


def _build_fastcgi(section: Origin, deadlines: Deadlines, logger: logging.Logger) -> Client:
    from edge.origin.fastcgi.client import FastCGIClient

    return FastCGIClient(_script(section), deadlines, logger, keep=section.keep_connections)


def _build_http(section: Origin, deadlines: Deadlines, logger: logging.Logger) -> Client:
    from edge.origin.http.client import HttpClient, Tls

    tls = Tls(_tls_context(section), section.tls_name or "") if section.tls else None
    return HttpClient(
        deadlines,
        logger,
        keep=section.keep_connections,
        tls=tls,
        host_header=section.host_header or "",
    )


def _build_cgi(section: Origin, deadlines: Deadlines, logger: logging.Logger) -> Client:
    from edge.origin.cgi import CgiClient

    # As many again may be on their way out, killed and not gone yet.
    return CgiClient(_script(section), deadlines, logger, limit=2 * section.max_per_host)


def _build_s3(section: Origin, deadlines: Deadlines, logger: logging.Logger) -> Client:
    from edge.origin.http.client import HttpClient, Tls
    from edge.origin.s3.client import S3Client

    bucket = _bucket(section)
    tls = Tls(_tls_context(section), section.tls_name or "") if bucket.is_tls else None
    keep = max(section.keep_connections, KEPT_TO_STORAGE)
    return S3Client(HttpClient(deadlines, logger, keep=keep, tls=tls), bucket, deadlines, logger)


def _bucket(section: Origin) -> "Bucket":
    from edge.origin.s3.bucket import Bucket

    s3 = section.s3
    return Bucket(
        name=s3.bucket or "",
        prefix=s3.prefix,
        region=s3.region,
        endpoint="" if s3.endpoint is None else str(s3.endpoint),
        access_key=s3.access_key,
        secret_key=s3.secret_key.reveal(),
        is_anonymous=s3.anonymous,
        is_virtual_host=s3.virtual_host,
    )


_BUILDERS: Final[dict[OriginKind, Callable[[Origin, Deadlines, logging.Logger], Client]]] = {
    OriginKind.FASTCGI: _build_fastcgi,
    OriginKind.HTTP: _build_http,
    OriginKind.CGI: _build_cgi,
    OriginKind.S3: _build_s3,
}


def _script(section: Origin) -> "Script":
    from edge.origin.fastcgi.params import Script

    filename = section.script_filename or ""  # which Script refuses
    return Script(filename, document_root=os.path.dirname(filename))


def _tls_context(section: Origin) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=section.tls_ca)
    if not section.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
