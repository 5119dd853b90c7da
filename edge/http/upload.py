"""The body of a request on its way from a client: fed by its connection, taken by who answers.

Nothing is read from the client beyond what is taken from here: a body that nobody wants costs one
receive buffer, and one that is wanted AHEAD_BYTES until it is in a file.
"""

from collections.abc import Callable
from typing import Final

# Read ahead of who takes it; then the client has to wait.
AHEAD_BYTES: Final = 64 * 1024


class Upload:
    """One body. length is what was announced, UNKNOWN_LENGTH where it comes in chunks.

    on_wanted is called once, when somebody begins to take it (then a client that waits for a 100 is
    told to go on); on_taken whenever there is room for more.
    """

    __slots__ = (
        "_error", "_is_wanted", "_pieces", "_waiting", "_wake", "is_complete", "length",
        "on_taken", "on_wanted", "received",
    )  # fmt: skip

    def __init__(self, length: int) -> None:
        self.length = length
        self.received = 0
        self.is_complete = False
        self.on_wanted: Callable[[], object] | None = None
        self.on_taken: Callable[[], object] | None = None
        self._pieces: list[bytes] = []
        self._waiting = 0  # bytes of pieces
        self._is_wanted = False
        self._error: Exception | None = None
        self._wake: Callable[[], object] | None = None

    # The connection

    @property
    def is_full(self) -> bool:
        """Enough has been read ahead."""
        return self._waiting >= AHEAD_BYTES

    def feed(self, data: bytes) -> None:
        self.received += len(data)
        self._waiting += len(data)
        self._pieces.append(data)
        self._tell()

    def end(self) -> None:
        self.is_complete = True
        self._tell()

    def fail(self, error: Exception) -> None:
        """The rest will not come."""
        if not self.is_complete:
            self._error = error
            self._tell()

    def _tell(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    # Who answers

    @property
    def is_done(self) -> bool:
        """Nothing is left to take, and nothing will come."""
        return self.is_complete and not self._pieces

    def take(self) -> bytes:
        """What has come since, b"" where nothing has. Raises what the connection failed it with."""
        if not self._is_wanted:
            self._is_wanted = True
            if self.on_wanted is not None:
                self.on_wanted()
        if not self._pieces and self._error is not None:
            raise self._error
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        if self.on_taken is not None and not self.is_complete:
            self.on_taken()
        return data

    def wait(self, wake: Callable[[], object]) -> None:
        """Have wake called when there is more, or the end, or none to come; at once if that is so
        already."""
        if self._pieces or self.is_complete or self._error is not None:
            wake()
        else:
            self._wake = wake
