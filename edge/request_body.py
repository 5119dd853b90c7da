"""A request's body, whole before any of it is put to an origin: its length is told first, and
another host can be tried. Small ones are in memory, others in a file without a name."""

import asyncio
from concurrent.futures import Executor
from typing import Final

from edge.errors import BodyTooLarge
from edge.http.upload import Upload
from edge.origin.file_body import FileBody
from edge.origin.messages import RequestBody
from edge.spool import Spool, SpooledBody

# Kept in memory up to here.
MEMORY_BYTES: Final = 64 * 1024


async def whole_body(
    upload: Upload | None, limit: int, spool: Spool, threads: Executor
) -> bytes | RequestBody:
    """All of it. Raises BodyTooLarge, before it is asked for where that can be told; ParseError for
    what is malformed or late; StoreBusy."""
    if upload is None:
        return b""
    if upload.length > limit:
        raise BodyTooLarge(f"{upload.length} bytes are announced, {limit} are taken")
    loop = asyncio.get_running_loop()
    kept = bytearray()
    spooled: SpooledBody | None = None
    while not upload.is_done:
        data = upload.take()
        if upload.received > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
        if not data:
            more = asyncio.Event()
            upload.wait(more.set)
            await more.wait()
        elif spooled is None and len(kept) + len(data) <= MEMORY_BYTES:
            kept += data
        else:
            if spooled is None:
                spooled = await loop.run_in_executor(threads, spool.open)
                data = bytes(kept) + data
            await loop.run_in_executor(threads, spooled.write, data)
    return bytes(kept) if spooled is None else FileBody(spooled.slice(), threads)
