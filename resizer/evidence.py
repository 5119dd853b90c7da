"""Copies of pictures that killed workers, kept for a report.

Each is what a decoder could not bear: read them where nothing is lost. A file is named by the
digest that the pool knows its source by, can be read by its owner alone, and is never overwritten.
At most `files` of them, of `size` bytes together; the oldest give way to a new one.
"""

import contextlib
import os
from typing import Final

_ONLY_OWNER: Final = 0o600


class Evidence:
    """A folder of barred pictures, made when it is first needed. Its calls block on the disk."""

    def __init__(self, folder: str, files: int, size: int) -> None:
        self.folder = folder
        self.files = files
        self.size = size

    def keep(self, name: str, source: int, offset: int, length: int) -> str | None:
        """Copy length bytes of source; the path of the copy, None when one is there or it is too
        large. name is hexadecimal digits. Raises OSError, and leaves no part of a copy then.
        """
        assert set(name) <= set("0123456789abcdef"), "a name that is no digest"
        if length > self.size or self.files < 1:
            return None
        path = os.path.join(self.folder, name)
        if os.path.lexists(path):
            return None
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self._make_room(length)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            copy = os.open(path, flags, _ONLY_OWNER)
        except FileExistsError:
            return None
        try:
            _copy(source, copy, offset, length)
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(copy)
        return path

    def _make_room(self, length: int) -> None:
        """Unlink the oldest until one more of this length fits."""
        found: list[tuple[float, int, str]] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                # Gone meanwhile: another process of the node keeps evidence here too.
                with contextlib.suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    found.append((about.st_mtime, about.st_size, entry.path))
        found.sort(reverse=True)
        held = sum(size for _, size, _ in found)
        while found and (len(found) >= self.files or held + length > self.size):
            _, size, path = found.pop()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            held -= size


def _copy(source: int, copy: int, offset: int, length: int) -> None:
    while length > 0:
        sent = os.sendfile(copy, source, offset, length)
        if sent == 0:
            raise OSError("the source shrank")
        offset += sent
        length -= sent
