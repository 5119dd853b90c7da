"""Opens a stream to an origin, by TCP or Unix socket, within a deadline."""

import asyncio
import socket

from edge.origin.address import Address
from edge.origin.errors import OriginOverloaded, OriginRefused, OriginTimeout, Phase

# StreamReader stops reading from the socket at twice this.
BUFFER_BYTES = 64 * 1024
# A full backlog empties as fast as workers finish; lighttpd's disable-time is as long.
RETRY_AFTER_S = 1

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def open_stream(address: Address, timeout_s: float) -> Stream:
    """Raises OriginRefused, OriginOverloaded (full backlog), OriginTimeout(CONNECT).

    The name is resolved by the event loop on every call, inside the deadline.
    """
    if address.path:
        return await _open_unix(address)
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.open_connection(address.host, address.port, limit=BUFFER_BYTES)
    # Also the kernel's own ETIMEDOUT, which is a TimeoutError as well.
    except TimeoutError as late:
        raise OriginTimeout(f"{address}: no connection in {timeout_s} s", Phase.CONNECT) from late
    except OSError as failed:
        raise OriginRefused(f"{address}: {failed}") from failed


async def _open_unix(address: Address) -> Stream:
    """A connect to a Unix socket is decided at once. It is made here and not by the loop because
    asyncio takes the EAGAIN of a full backlog for "in progress" and then for success."""
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
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
