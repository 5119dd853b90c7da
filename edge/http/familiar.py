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

Of the harmless lines one is told on, Accept: formats may be negotiated. What else a site looks at
(minds) makes a head unfamiliar, as every line does that is unknown here: DPR, Width.

Whatever else a head holds (a precondition, a Range, a body, a Host that is not known, a byte out of
place) makes read() answer None, and the parser decides. Nothing is accepted here that the parser
refuses: lines are learnt from heads that it took, and a line that varies has a name of VARYING and
only bytes that any value may have.
"""

from collections.abc import Set as AbstractSet
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
        *(b"accept-charset", b"accept-encoding", b"accept-language", b"cache-control"),
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
COOKIE: Final = b"\r\nCookie: "
# Heads whose blocks are learnt in one second, at some ten microseconds each.
LESSONS_PER_TURN: Final = 200
# What may stand in a value, and in a quoted part of an access line as it is.
PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
NONE: Final = b"-"

# request line, host line, referer or "-", the user agent's line or b"", forwarded addresses or b"",
# the Accept line or b""
Head = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
# The Host line, the agent's line and the Accept line of a block, b"" for none.
Block = tuple[bytes, bytes, bytes]


class Familiar:
    """minds: lower-case names of fields that are not harmless on this node."""

    def __init__(self, minds: AbstractSet[bytes] = frozenset()) -> None:
        self._harmless_names = HARMLESS - minds
        self._harmless: set[bytes] = set()
        self._accepts: set[bytes] = set()
        self._agents: set[bytes] = set()
        self._hosts: set[bytes] = set()
        # Blocks by their lines, without the CRLF before and behind. Those at the end of a head have
        # their last CRLF and the blank line, and stand apart. No block is empty: a blank line in
        # the middle of a head would look like one.
        self._blocks: dict[bytes, Block] = {}
        self._last_blocks: dict[bytes, Block] = {}
        self._lessons = LESSONS_PER_TURN

    def read(self, data: bytes) -> Head | None:
        """The parts of a head that is one whole HTTP/1.1 request to be kept alive, or None."""
        line, _, rest = data.partition(b"\r\n")
        first, mark, rest = rest.partition(REFERER)
        if not mark:
            # Without a page, a head is one block.
            known = self._last_blocks.get(first)
            if known is None:
                return self._read_lines(data)
            return (line, known[0], NONE, known[1], b"", known[2]) if known[0] else None
        # As Squid forwards a browser's: both fields, in this order. All else goes line by line.
        middle, mark, rest = rest.rpartition(FORWARDED)
        if not mark:
            return self._read_lines(data)
        forwarded, _, last = rest.partition(b"\r\n")
        referer, _, middle = middle.partition(b"\r\n")
        cookie = b""
        if middle[:8] == b"Cookie: ":
            cookie, _, middle = middle.partition(b"\r\n")
        try:
            host, agent, accept = self._blocks[first]
            behind = self._blocks.get(middle) or self._around_cookie(middle)
            end = self._last_blocks[last]
        except KeyError:
            return self._read_lines(data)
        if not behind or not referer:
            return self._read_lines(data)
        if (referer + forwarded + cookie).translate(None, PLAIN):
            return None
        # One Host, at most one agent and one Accept. Browsers send all of them before Referer.
        if behind is _NOTHING and end is _NOTHING and host:
            return line, host, referer, agent, forwarded, accept
        return self._read_lines(data)

    def _around_cookie(self, middle: bytes) -> Block | None:
        """The block that is left of a stretch without its one Cookie line, where both sides of it
        are known; pictures are nobody's own here, so what it says is of no account."""
        before, mark, rest = middle.partition(COOKIE)
        cookie, end, after = rest.partition(b"\r\n")
        if not mark or cookie.translate(None, PLAIN):
            return None
        blocks = self._blocks
        if blocks.get(before) is not _NOTHING:
            return None
        # An end without anything behind it is a blank line.
        if end and blocks.get(after) is not _NOTHING:
            return None
        return _NOTHING

    def next_turn(self) -> None:
        """Once a second: a few more blocks may be learnt."""
        self._lessons = LESSONS_PER_TURN

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
        host = agent = forwarded = accept = b""
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
            elif line in self._accepts:
                # Two of them are one list (RFC 9110 section 5.3); the parser joins them.
                if accept:
                    return None
                accept = line
            elif name not in VARYING or line.translate(None, PLAIN):
                return None
            elif name.lower() == b"referer:":
                if referer != NONE:
                    return None
                referer = line[8:].strip(b" ")
            elif name.lower() == b"x-forwarded-for:":
                if forwarded:
                    return None
                forwarded = line[16:].strip(b" ")
                if not forwarded:
                    return None
        # An empty page could not be told from none, should a second one follow.
        if not host or not referer:
            return None
        self._learn_blocks(data)
        return lines[0], host, referer, agent, forwarded, accept

    def learn(self, data: bytes) -> None:
        """Remember the lines of a head that the parser took and that was answered from memory."""
        lines = data.split(b"\r\n")
        known = len(self._harmless) + len(self._agents) + len(self._accepts)
        if known + len(lines) > MAX_LINES:
            self._harmless.clear()
            self._agents.clear()
            self._accepts.clear()
        harmless = self._harmless_names
        for line in lines[1:-2]:
            name, colon, value = line.partition(b":")
            name = name.lower()
            if not colon or len(line) > MAX_LINE_BYTES:
                continue
            if name == b"cache-control" and b"only-if-cached" in value.lower():
                continue  # answered otherwise, where the answer is not here
            if line.translate(None, PLAIN):
                # Quotes may stand where no access line repeats them.
                if line.translate(None, PLAIN + b'"'):
                    continue
                if name in harmless:
                    self._harmless.add(line)
                elif name == b"accept":
                    self._accepts.add(line)
            elif name in harmless or (name == b"connection" and value.strip() == b"keep-alive"):
                self._harmless.add(line)
            elif name == b"user-agent":
                self._agents.add(line)
            elif name == b"accept":
                self._accepts.add(line)
            elif name == b"host" and len(self._hosts) < MAX_LINES:
                self._hosts.add(line)

    def _learn_blocks(self, data: bytes) -> None:
        # A head whose blocks cannot be learnt must not cost a lesson with every request.
        if self._lessons <= 0:
            return
        self._lessons -= 1
        if len(self._blocks) + len(self._last_blocks) > MAX_BLOCKS:
            self._blocks.clear()
            self._last_blocks.clear()
        # As read() cuts it: what varies, and between it the blocks.
        _, _, rest = data.partition(b"\r\n")
        first, mark, rest = rest.partition(REFERER)
        if not mark:
            self._learn(self._last_blocks, first)
            return
        middle, mark, rest = rest.rpartition(FORWARDED)
        if not mark:
            return
        self._learn(self._blocks, first)
        self._learn(self._last_blocks, rest.partition(b"\r\n")[2])
        middle = middle.partition(b"\r\n")[2]
        if middle[:8] == b"Cookie: ":
            self._learn(self._blocks, middle.partition(b"\r\n")[2])
            return
        before, mark, rest = middle.partition(COOKIE)
        self._learn(self._blocks, before)
        if mark:
            self._learn(self._blocks, rest.partition(b"\r\n")[2])

    def _learn(self, blocks: dict[bytes, Block], block: bytes) -> None:
        """Keep a block, if it is made of harmless lines and at most one each of the others."""
        is_last = blocks is self._last_blocks
        if not block or len(block) > MAX_BLOCK_BYTES:
            return
        lines = block.split(b"\r\n")
        if is_last:
            # Only here is a blank line, at the very end; b"\r\n" is one behind the line before.
            if lines[-2:] != [b"", b""]:
                return
            lines = lines[:-2]
        if b"" in lines or len(lines) > MAX_BLOCK_LINES:
            return
        hosts, agents, accepts = [], [], []
        for line in lines:
            if line in self._hosts:
                hosts.append(line)
            elif line in self._agents:
                agents.append(line)
            elif line in self._accepts:
                accepts.append(line)
            elif line not in self._harmless:
                return
        if max(len(hosts), len(agents), len(accepts)) > 1:
            return
        host, agent, accept = (found[0] if found else b"" for found in (hosts, agents, accepts))
        blocks[block] = (host, agent, accept) if host or agent or accept else _NOTHING


# Of a block of harmless lines only; there is one such object.
_NOTHING: Final[Block] = (b"", b"", b"")
