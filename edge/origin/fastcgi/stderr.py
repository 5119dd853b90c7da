"""What an application writes to STDERR, as lines that are safe in a log. Pure.

The cap is per exchange: an application in a loop must not fill the disk of its edge.
"""

from typing import Final

MAX_STDERR_BYTES: Final = 16 * 1024
MAX_LINE_BYTES: Final = 1024


class StderrLines:
    """Feed bytes, get complete lines; end() gives the rest and says what was dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._taken_bytes = 0
        self.dropped_bytes = 0

    def receive_data(self, data: bytes) -> list[str]:
        room = MAX_STDERR_BYTES - self._taken_bytes
        taken, dropped = data[:room], data[room:]
        self._taken_bytes += len(taken)
        self.dropped_bytes += len(dropped)
        *lines, rest = (self._rest + taken).split(b"\n")
        # A line without an end is cut into lines, so that what is held stays bounded.
        while len(rest) > MAX_LINE_BYTES:
            lines.append(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._rest = rest
        return [_escape(line) for line in lines if line.strip()]

    def end(self) -> list[str]:
        lines = [_escape(self._rest)] if self._rest.strip() else []
        self._rest = b""
        if self.dropped_bytes:
            lines.append(f"({self.dropped_bytes} more bytes dropped)")
            self.dropped_bytes = 0
        return lines


def _escape(line: bytes) -> str:
    """Printable text only: no terminal sequence and no forged second line reaches the log."""
    text = line[:MAX_LINE_BYTES].rstrip(b"\r").decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
