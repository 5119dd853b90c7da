"""Connects to an origin, by TCP (with TLS where asked) or Unix socket, within a deadline."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from edge.origin.address import Address
from edge.origin.errors import OriginOverloaded, OriginRefused, OriginTimeout, Phase
from edge.origin.names import Names

# StreamReader stops reading from the socket at twice this.
BUFFER_BYTES = 64 * 1024
# A full backlog empties as fast as workers finish; lighttpd's disable-time is as long.
RETRY_AFTER_S = 1

# Plain numbers and the plain type: the library's flags and its wrapper cost as much as the call.
_UNIX: Final = int(socket.AF_UNIX)
_STREAM: Final = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
T = TypeVar("T")


async def open_stream(
    address: Address,
    timeout_s: float,
    names: Names,
    *,
    tls: ssl.SSLContext | None = None,
    tls_name: str = "",
) -> Stream:
    """Raises OriginRefused (also for a certificate that does not hold), OriginOverloaded (full
    backlog), OriginTimeout(CONNECT).

    The deadline holds for resolving, connecting and the handshake of TLS together. tls_name is
    what a certificate must be for; "" for the address's own host. Unix sockets have no TLS.
    """
    if address.path:
        raw = socket.socket(fileno=open_unix(address).detach())
        try:
            return await asyncio.open_unix_connection(sock=raw, limit=BUFFER_BYTES)
        except BaseException:
            raw.close()
            raise
    name = None if tls is None else tls_name or address.host
    return await _dial(
        address,
        timeout_s,
        names,
        lambda host: asyncio.open_connection(
            host, address.port, limit=BUFFER_BYTES, ssl=tls, server_hostname=name
        ),
    )


async def open_tcp(address: Address, timeout_s: float, names: Names) -> socket.SocketType:
    """A socket that is connected and does not block. Raises OriginRefused, OriginTimeout(CONNECT);
    the deadline holds for resolving and connecting together."""
    return await _dial(address, timeout_s, names, lambda host: _connect(host, address.port))


def open_unix(address: Address) -> socket.SocketType:
    """A socket that is connected and does not block: a connect to a Unix socket is decided at once.
    Raises OriginOverloaded (full backlog), OriginRefused (also where no descriptor is left).

    Not by an event loop: asyncio takes the EAGAIN of a full backlog for "in progress" and then for
    success.
    """
    try:
        sock = socket.SocketType(_UNIX, _STREAM)
    except OSError as failed:
        raise OriginRefused(f"{address}: {failed}") from failed
    try:
        sock.connect(address.path)
    except BlockingIOError as full:
        sock.close()
        raise OriginOverloaded(f"{address}: backlog is full", RETRY_AFTER_S) from full
    except OSError as failed:
        sock.close()
        raise OriginRefused(f"{address}: {failed}") from failed
    return sock


async def _dial(
    address: Address, timeout_s: float, names: Names, connect: Callable[[str], Awaitable[T]]
) -> T:
    """Raises OriginRefused, OriginTimeout(CONNECT)."""
    try:
        return await _first_that_accepts(address, timeout_s, names, connect)
    # Also the kernel's own ETIMEDOUT, which is a TimeoutError as well.
    except TimeoutError as late:
        names.doubt(address.host)
        raise OriginTimeout(f"{address}: no connection in {timeout_s} s", Phase.CONNECT) from late
    except OSError as failed:
        names.doubt(address.host)
        raise OriginRefused(f"{address}: {failed}") from failed


async def _first_that_accepts(
    address: Address, timeout_s: float, names: Names, connect: Callable[[str], Awaitable[T]]
) -> T:
    """The first of a name's addresses that accepts. Each has its share of the time that is left: a
    black hole in front must not hide the living one behind it. Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    late_at = loop.time() + timeout_s
    async with asyncio.timeout_at(late_at):
        hosts = await names.lookup(address.host)
    failure: OSError = TimeoutError()
    for place, host in enumerate(hosts):
        now = loop.time()
        share_s = (late_at - now) / (len(hosts) - place)
        try:
            async with asyncio.timeout_at(now + share_s):
                return await connect(host)
        except OSError as failed:
            failure = failed
    raise failure


async def _connect(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, _STREAM)
    try:
        # An exchange is one small message each way; Nagle would hold the second one back.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return sock
