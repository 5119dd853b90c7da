"""Request heads recognised without the tokenizer, where they ask for nothing but the picture.

Behind a cache, heads differ in a few lines: the request line, the page that the picture stands on
and the client's address. The rest repeats in blocks. So a head is cut at those lines; blocks that
were met before are looked up whole, others line by line among the lines that the parser has
accepted and that cannot change the answer:

    GET /thumb/... HTTP/1.1            the request line
    Host: ... Accept-Encoding: ...     a block
    Referer: ...                       varies
    Via: ... Surrogate-Capability: ... a block
    X-Forwarded-For: ...               varies
    Cache-Control: ... (blank line)    the last block

Whatever else a head holds (a precondition, a Range, a body, a Host that is not known, a byte out of
place) makes read() answer None, and the parser decides. Nothing is accepted here that the parser
refuses: lines are learnt from heads that it took, and a line that varies has a name of VARYING and
only bytes that any value may have.
"""

from typing import Final

from edge.http.parser import MAX_FIELDS

# What is remembered, and how long one may be: 2 MB of lines and 8 MB of blocks at the most.
MAX_LINES: Final = 8192
MAX_LINE_BYTES: Final = 256
MAX_BLOCKS: Final = 8192
MAX_BLOCK_BYTES: Final = 1024
# Three blocks and two lines between them hold no more fields than the parser takes.
MAX_BLOCK_LINES: Final = (MAX_FIELDS - 2) // 3

# Fields that say nothing about which bytes are the answer, by lower-case name.
HARMLESS: Final = frozenset(
    {
        *(b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"cache-control"),
        *(b"dnt", b"pragma", b"priority", b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site"),
        *(b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"sec-gpc", b"save-data"),
        *(b"surrogate-capability", b"upgrade-insecure-requests", b"via", b"x-forwarded-proto"),
        *(b"origin", b"cdn-loop"),
    }
)
# Harmless fields with a value for every client, page or request, in the spellings that are met.
VARYING: Final = frozenset(
    spelling
    for name in (b"X-Forwarded-For", b"Referer", b"X-Real-IP", b"X-Request-ID", b"Cookie")
    for spelling in (name + b":", name.lower() + b":")
)
REFERER: Final = b"\r\nReferer: "
FORWARDED: Final = b"\r\nX-Forwarded-For: "
# What may stand in a value, and in a quoted part of an access line as it is.
PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
NONE: Final = b"-"

# request line, host line, referer or "-", the user agent's line or b"", forwarded addresses or b""
Head = tuple[bytes, bytes, bytes, bytes, bytes]
# The Host line and the agent's line of a block, b"" for none.
Block = tuple[bytes, bytes]


class Familiar:
    def __init__(self) -> None:
        self._harmless: set[bytes] = set()
        self._agents: set[bytes] = set()
        self._hosts: set[bytes] = set()
        # Blocks by their bytes, from the end of the line before; the last of a head stand apart.
        self._blocks: dict[bytes, Block] = {b"": (b"", b"")}
        self._last_blocks: dict[bytes, Block] = {}

    def read(self, data: bytes) -> Head | None:
        """The parts of a head that is one whole HTTP/1.1 request to be kept alive, or None."""
        start = data.find(b"\r\n")
        referer_at = data.find(REFERER, start)
        forwarded_at = data.rfind(FORWARDED)  # from the end: it is among the last
        # As Squid forwards a browser's: both, in this order. All else goes line by line, and a
        # head without either is one block.
        if start < referer_at < forwarded_at:
            referer_end = data.find(b"\r\n", referer_at + 11)
            forwarded_end = data.find(b"\r\n", forwarded_at + 19)
            block = self._blocks.get(data[start:referer_at])
            middle = self._blocks.get(data[referer_end:forwarded_at])
            last = self._last_blocks.get(data[forwarded_end:])
            if block is None or middle is None or last is None:
                return self._read_lines(data)
            referer = data[referer_at + 11 : referer_end]
            forwarded = data[forwarded_at + 19 : forwarded_end]
            if (referer + forwarded).translate(None, PLAIN) or not referer:
                return None
            # One Host, at most one agent, wherever they stand.
            if block[0]:
                host = block[0]
                if middle[0] or last[0]:
                    return None
            else:
                host = middle[0] or last[0]
                if not host or (middle[0] and last[0]):
                    return None
            agent = block[1] or middle[1] or last[1]
            if len(block[1]) + len(middle[1]) + len(last[1]) != len(agent):
                return None
            return data[:start], host, referer, agent, forwarded
        if referer_at < 0 and forwarded_at < 0:
            last = self._last_blocks.get(data[start:])
            if last is not None:
                return (data[:start], last[0], NONE, last[1], b"") if last[0] else None
        return self._read_lines(data)

    def _read_lines(self, data: bytes) -> Head | None:
        """read(), line by line; a block that is made of known lines is known from then on."""
        harmless = self._harmless
        lines = data.split(b"\r\n")
        # A request line, fields, and two empty ends behind the blank line; the parser refuses more
        # fields. Judged where they stand: a known line before the first or behind a blank line is
        # no field of this head.
        if not 4 <= len(lines) <= MAX_FIELDS + 3 or lines[-1] or lines[-2]:
            return None
        rest = [line for line in lines[1:-2] if line not in harmless]
        host = agent = forwarded = b""
        referer = NONE
        for line in rest:
            name = line[: line.find(b":") + 1]
            if line in self._agents:
                if agent:
                    return None
                agent = line
            elif line in self._hosts:
                if host:
                    return None
                host = line
            elif name not in VARYING or line.translate(None, PLAIN):
                return None
            elif name.lower() == b"referer:":
                if referer != NONE:
                    return None
                referer = line[8:].strip(b" ") or NONE
            elif name.lower() == b"x-forwarded-for:":
                if forwarded:
                    return None
                forwarded = line[16:].strip(b" ")
        if not host:
            return None
        self._learn_blocks(data)
        return lines[0], host, referer, agent, forwarded

    def learn(self, data: bytes) -> None:
        """Remember the lines of a head that the parser took and that was answered from memory."""
        lines = data.split(b"\r\n")
        if len(self._harmless) + len(self._agents) + len(lines) > MAX_LINES:
            self._harmless.clear()
            self._agents.clear()
        for line in lines[1:-2]:
            name, colon, value = line.partition(b":")
            name = name.lower()
            if not colon or len(line) > MAX_LINE_BYTES:
                continue
            if line.translate(None, PLAIN):
                # Quotes may stand where no access line repeats them.
                if name in HARMLESS and not line.translate(None, PLAIN + b'"'):
                    self._harmless.add(line)
            elif name in HARMLESS or (name == b"connection" and value.strip() == b"keep-alive"):
                self._harmless.add(line)
            elif name == b"user-agent":
                self._agents.add(line)
            elif name == b"host" and len(self._hosts) < MAX_LINES:
                self._hosts.add(line)

    def _learn_blocks(self, data: bytes) -> None:
        if len(self._blocks) + len(self._last_blocks) > MAX_BLOCKS:
            self._blocks.clear()
            self._blocks[b""] = _NO_BLOCK
            self._last_blocks.clear()
        at = data.find(b"\r\n")
        while True:
            cuts = [cut for cut in (data.find(REFERER, at), data.find(FORWARDED, at)) if cut >= 0]
            block = data[at : min(cuts)] if cuts else data[at:]
            known = self._block_of(block, is_last=not cuts)
            if known is not None:
                (self._blocks if cuts else self._last_blocks)[block] = known
            if not cuts:
                return
            at = data.find(b"\r\n", min(cuts) + 2)

    def _block_of(self, block: bytes, *, is_last: bool) -> Block | None:
        """The block, if it is made of harmless lines, at most one Host and one agent."""
        if len(block) > MAX_BLOCK_BYTES:
            return None
        # Every line has its CRLF in front. Only the last block has a blank line, at its very end.
        lines = block.split(b"\r\n")[1:]
        if is_last:
            if lines[-2:] != [b"", b""]:
                return None
            lines = lines[:-2]
        if b"" in lines or len(lines) > MAX_BLOCK_LINES:
            return None
        hosts, agents = [], []
        for line in lines:
            if line in self._hosts:
                hosts.append(line)
            elif line in self._agents:
                agents.append(line)
            elif line not in self._harmless:
                return None
        if len(hosts) > 1 or len(agents) > 1:
            return None
        return (hosts[0] if hosts else b""), (agents[0] if agents else b"")


_NO_BLOCK: Final[Block] = (b"", b"")
