"""Request heads recognised by their lines, for requests that ask for nothing but the picture.

Behind a cache, heads differ in a line or two: the request line, the client's address, the page it
came from. Lines that the parser has once accepted, and that cannot change the answer, are kept in a
set; a head made of them is read with one split and one pass, at a third of the tokenizer's cost.
Whatever else it holds (a precondition, a Range, a body, a Host that is not known, a byte out of
place) makes read() answer None, and the parser decides. It never accepts what the parser refuses:
a line that was never learnt must have a name of VARYING and only bytes that any value may have.
"""

from typing import Final

# Lines that are remembered, and how long one may be: 2 MB at the most.
MAX_LINES: Final = 8192
MAX_LINE_BYTES: Final = 256

# Fields that say nothing about which bytes are the answer, by lower-case name. Those that come with
# few values are learnt line by line; those of VARYING differ with every client or page.
HARMLESS: Final = frozenset(
    {
        *(b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"cache-control"),
        *(b"dnt", b"pragma", b"priority", b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site"),
        *(b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"sec-gpc", b"save-data"),
        *(b"surrogate-capability", b"upgrade-insecure-requests", b"via", b"x-forwarded-proto"),
        *(b"origin", b"cdn-loop"),
    }
)
_FORWARDED: Final = 1
_REFERER: Final = 2
_OTHER: Final = 3
VARYING: Final = {
    spelling: kind
    for name, kind in (
        (b"X-Forwarded-For", _FORWARDED),
        (b"Referer", _REFERER),
        (b"X-Real-IP", _OTHER),
        (b"X-Request-ID", _OTHER),
        (b"Cookie", _OTHER),
    )
    for spelling in (name + b":", name.lower() + b":")
}
# What may stand in a value and in a quoted part of an access line as it is.
PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_NAME: Final = b"abcdefghijklmnopqrstuvwxyz-"

# request line, host line, referer ("-"), the user agent's line (b"" without), forwarded line (b"")
Head = tuple[bytes, bytes, bytes, bytes, bytes]


class Familiar:
    """Learns lines from heads that the parser accepted; is_host tells which Host lines matter."""

    __slots__ = ("_agents", "_harmless", "_hosts")

    def __init__(self) -> None:
        self._harmless: set[bytes] = set()
        self._agents: set[bytes] = set()
        self._hosts: set[bytes] = set()

    def read(self, data: bytes) -> Head | None:
        """The parts of a head that is one whole HTTP/1.1 request to be kept alive, or None."""
        harmless = self._harmless
        rest = [line for line in data.split(b"\r\n") if line not in harmless]
        # The request line, what is not known by heart, and two empty ends behind the blank line.
        if len(rest) < 4 or rest[-1] or rest[-2]:
            return None
        host = agent = forwarded = b""
        referer = b"-"
        hosts, agents = self._hosts, self._agents
        for line in rest[1:-2]:
            if line in agents:
                if agent:
                    return None
                agent = line
                continue
            if line in hosts:
                if host:
                    return None
                host = line
                continue
            kind = VARYING.get(line[: line.find(b":") + 1])
            if kind is None or line.translate(None, PLAIN):
                return None
            if kind == _REFERER:
                if referer != b"-":
                    return None
                referer = line[8:].strip(b" ") or b"-"
            elif kind == _FORWARDED:
                if forwarded:
                    return None
                forwarded = line
        if not host:
            return None
        return rest[0], host, referer, agent, forwarded

    def learn(self, data: bytes) -> None:
        """Remember the lines of a head that the parser took and that was answered from memory."""
        lines = data.split(b"\r\n")
        if len(self._harmless) + len(self._agents) + len(lines) > MAX_LINES:
            self._harmless.clear()
            self._agents.clear()
        for line in lines[1:-2]:
            name, colon, value = line.partition(b":")
            lower = name.lower()
            if not colon or len(line) > MAX_LINE_BYTES or line.translate(None, PLAIN):
                if lower in (b"cache-control", b"surrogate-capability") and _is_quotable(line):
                    self._harmless.add(line)
                continue
            if lower in HARMLESS or (lower == b"connection" and value.strip() == b"keep-alive"):
                self._harmless.add(line)
            elif lower == b"user-agent":
                self._agents.add(line)
            elif lower == b"host" and len(self._hosts) < MAX_LINES:
                self._hosts.add(line)


def _is_quotable(line: bytes) -> bool:
    """A value with quotes in it, which no access line repeats."""
    return len(line) <= MAX_LINE_BYTES and not line.translate(None, PLAIN + b'"')
