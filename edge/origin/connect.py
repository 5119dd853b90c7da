"""Opens a stream to an origin, by TCP (with TLS where asked) or Unix socket, within a deadline."""

import asyncio
import socket
import ssl

from edge.origin.address import Address
from edge.origin.errors import OriginOverloaded, OriginRefused, OriginTimeout, Phase
from edge.origin.names import Names

# StreamReader stops reading from the socket at twice this.
BUFFER_BYTES = 64 * 1024
# A full backlog empties as fast as workers finish; lighttpd's disable-time is as long.
RETRY_AFTER_S = 1

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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
        return await _open_unix(address)
    try:
        return await _open_tcp(address, timeout_s, names, tls, tls_name or address.host)
    # Also the kernel's own ETIMEDOUT, which is a TimeoutError as well.
    except TimeoutError as late:
        names.doubt(address.host)
        raise OriginTimeout(f"{address}: no connection in {timeout_s} s", Phase.CONNECT) from late
    except OSError as failed:
        names.doubt(address.host)
        raise OriginRefused(f"{address}: {failed}") from failed


async def _open_tcp(
    address: Address,
    timeout_s: float,
    names: Names,
    tls: ssl.SSLContext | None,
    tls_name: str,
) -> Stream:
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
                return await asyncio.open_connection(
                    host,
                    address.port,
                    limit=BUFFER_BYTES,
                    ssl=tls,
                    server_hostname=None if tls is None else tls_name,
                )
        except OSError as failed:
            failure = failed
    raise failure


async def _open_unix(address: Address) -> Stream:
    """A connect to a Unix socket is decided at once. It is made here and not by the loop because
    asyncio takes the EAGAIN of a full backlog for "in progress" and then for success."""
    try:
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as failed:
        raise OriginRefused(f"{address}: {failed}") from failed
    try:
        raw.setblocking(False)
        raw.connect(address.path)
        return await asyncio.open_unix_connection(sock=raw, limit=BUFFER_BYTES)
    except BlockingIOError as full:
        raw.close()
        raise OriginOverloaded(f"{address}: backlog is full", RETRY_AFTER_S) from full
    except OSError as failed:
        raw.close()
        raise OriginRefused(f"{address}: {failed}") from failed
    except BaseException:
        raw.close()
        raise
