"""The file that says which process is the master, for scripts and for `halftone drain`.

Its process holds a lock on it (fcntl(2), F_SETLK), which the kernel takes back however it ends: a
number that was left behind, and is another process's by now, is never believed.
"""

import contextlib
import fcntl
import os


class PidFile:
    """Nothing until write()."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._fd = -1

    def has(self, path: str) -> bool:
        """True where it is held already: then nobody else may be asked for, since closing any
        descriptor of it would give up the lock (fcntl(2))."""
        return self._path == path

    def write(self, path: str) -> None:
        """This process is the master now; whole or not at all. Raises OSError."""
        temporary = f"{path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(fd, f"{os.getpid()}\n".encode())
            os.rename(temporary, path)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if self._path != path:
            self.remove()
        elif self._fd >= 0:
            os.close(self._fd)
        self._path, self._fd = path, fd

    def remove(self) -> None:
        """The name too, unless a successor has taken it."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self._path), os.fstat(self._fd)):
                os.unlink(self._path)
        os.close(self._fd)
        self._path, self._fd = None, -1


def maybe_running(path: str) -> int | None:
    """The process that holds this file; None when there is none. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        text = os.read(fd, 32).strip()
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(text) if text.isdigit() else None
    finally:
        os.close(fd)
    return None
