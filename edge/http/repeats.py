"""Request heads of which all but the target has been here before.

A browser asks for the parts of a page in the same words, and so does whoever polls: the lines below
the request line are then looked up as one block, and what the parser made of them is used again.
Unlike familiar.py this takes blocks of any fields, since all of them are handed on; a block is
remembered only as it was in a request that the parser took whole.
"""

from typing import Final

from edge.http.messages import Request
from edge.http.parser import is_plain_target

# 1,024 blocks of 2 KiB and their fields: some 8 MB at the most.
MAX_BLOCKS: Final = 1024
MAX_BLOCK_BYTES: Final = 2048


class Repeats:
    def __init__(self) -> None:
        # The block itself is kept beside what was made of it: a bytes object that is the same one
        # has its hash, and is equal at a glance, wherever something is remembered by it.
        self._known: dict[bytes, tuple[bytes, dict[bytes, bytes], bytes]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def maybe_request(self, data: bytes) -> Request | None:
        """The request in data, if it is one whole head with a block that is known. Its fields are
        shared with others of the same block."""
        line, _, rest = data.partition(b"\r\n")
        known = self._known.get(rest)
        if known is None or line[:5] != b"GET /" or line[-9:] != b" HTTP/1.1":
            return None
        target = line[4:-9]
        if not is_plain_target(target):
            return None
        block, fields, authority = known
        request = Request(b"GET", target, 1, fields, authority, True)
        request.block = block
        return request

    def learn(self, data: bytes, request: Request) -> None:
        """data is all of what was received, and request what the parser made of it."""
        line, _, block = data.partition(b"\r\n")
        # A target in absolute form is an authority of its own. The parser's idea of where the line
        # ends is ours, too: nothing of the fields stood in front of the block.
        if line != b"GET %b HTTP/1.1" % request.target or not request.keep_alive:
            return
        if request.upload is not None or len(block) > MAX_BLOCK_BYTES:
            return
        if len(self._known) >= MAX_BLOCKS:
            self._known.clear()
        self._known[block] = (block, request.fields, request.authority)
        request.block = block
