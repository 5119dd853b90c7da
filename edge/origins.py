"""What answers for an origin, by its kind: the client, and where its hosts are.

Beside app.py the only place that knows the clients by name.
"""

import logging
import os
import ssl
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from edge.origin.address import Address
from edge.origin.cgi import CgiClient, Program
from edge.origin.errors import DocrootFailed
from edge.origin.exchange import Client, Deadlines
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.fastcgi.params import Script
from edge.origin.files import Docroot
from edge.origin.http.client import HttpClient, Tls
from edge.origin.s3 import Bucket, S3Client
from edge.origin.sendfile import SendfileClient
from edge.settings.sections import Origin, OriginKind


class CannotBuild(Exception):
    """The text says what to do."""


def hosts_of(section: Origin) -> list[Address]:
    """Of a program or a storage one, which is no host of the settings."""
    match section.kind:
        case OriginKind.CGI:
            return [Program(path=section.script_filename or "")]
        case OriginKind.S3:
            endpoint = section.s3.endpoint
            if endpoint is not None:
                return [Address(endpoint.address.host, endpoint.address.port)]
            return [Address(f"s3.{section.s3.region}.amazonaws.com", 443)]
        case _:
            return [Address.parse(str(host)) for host in section.hosts]


def build_client(
    section: Origin, *, threads: Executor, wall: Callable[[], int], logger: logging.Logger
) -> Client:
    """threads are for the files of sendfile_roots. Raises CannotBuild."""
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


def _build_fastcgi(section: Origin, deadlines: Deadlines, logger: logging.Logger) -> Client:
    return FastCGIClient(_script(section), deadlines, logger, keep=section.keep_connections)


def _build_http(section: Origin, deadlines: Deadlines, logger: logging.Logger) -> Client:
    tls = Tls(_tls_context(section), section.tls_name or "") if section.tls else None
    return HttpClient(
        deadlines,
        logger,
        keep=section.keep_connections,
        tls=tls,
        host_header=section.host_header or "",
    )


def _build_cgi(section: Origin, deadlines: Deadlines, logger: logging.Logger) -> Client:
    # As many again may be on their way out, killed and not gone yet.
    return CgiClient(_script(section), deadlines, logger, limit=2 * section.max_per_host)


def _build_s3(section: Origin, deadlines: Deadlines, logger: logging.Logger) -> Client:
    s3 = section.s3
    bucket = Bucket(
        name=s3.bucket or "",
        prefix=s3.prefix,
        region=s3.region,
        endpoint="" if s3.endpoint is None else str(s3.endpoint),
        access_key=s3.access_key,
        secret_key=s3.secret_key.reveal(),
        is_anonymous=s3.anonymous,
    )
    return S3Client(bucket, deadlines, logger)


_BUILDERS: Final[dict[OriginKind, Callable[[Origin, Deadlines, logging.Logger], Client]]] = {
    OriginKind.FASTCGI: _build_fastcgi,
    OriginKind.HTTP: _build_http,
    OriginKind.CGI: _build_cgi,
    OriginKind.S3: _build_s3,
}


def _script(section: Origin) -> Script:
    filename = section.script_filename or ""  # which Script refuses
    return Script(filename, document_root=os.path.dirname(filename))


def _tls_context(section: Origin) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=section.tls_ca)
    if not section.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
