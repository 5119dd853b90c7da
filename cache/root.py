"""The folder of a disk tier, open.

Names below it are relative to fd. Its number never changes: renew() puts another folder behind it
in one step, so a system call in another thread has the old one or the new one, never none, and
never somebody else's file.
"""

import os
from collections import deque
from collections.abc import Callable
from typing import Final

from cache import files
from cache.errors import CacheError, DiskFailed
from cache.layout import LAYOUT, LAYOUT_NAME

# Longer than any layout file.
_LAYOUT_READ: Final = 512
_MOST_LEFT: Final = 16
_TRIAL: Final = b"does this disk work?"


class Root:
    """Makes the folder where there is none. Raises DiskFailed when it cannot be used, CacheError
    when it holds something else. temp_name gives names that nobody else uses; leave is told of one
    that could not be unlinked."""

    def __init__(
        self, path: str, temp_name: Callable[[], str], leave: Callable[[str], None]
    ) -> None:
        self.path = path
        self._temp_name = temp_name
        self._leave = leave
        # Likewise, in a folder that never came to be this one; unlinked by the next attempt.
        self._left: deque[str] = deque(maxlen=_MOST_LEFT)
        self.fd = -1
        self.fd = self._open()

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            files.close_quietly(fd)

    def is_gone(self) -> bool:
        """Whether another folder, or none, is under the path by now."""
        try:
            return not os.path.samestat(files.status_of_root(self.path), files.status(self.fd))
        except FileNotFoundError:
            return True
        except OSError:
            return False  # who knows

    def renew(self) -> None:
        """Open the path again, and make the folder where it is gone. Raises as the constructor."""
        fd = self._open()
        try:
            files.put_behind(self.fd, fd)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            files.close_quietly(fd)

    def try_out(self) -> None:
        """Write a file, read it and remove it. Raises DiskFailed."""
        name = self._temp_name()
        try:
            self._write(name, self.fd, _TRIAL)
            fd = files.open_read(name, self.fd)
            try:
                found = files.read_at(fd, len(_TRIAL) + 1, 0)
            finally:
                files.close_quietly(fd)
            files.unlink(name, self.fd)
        except OSError as error:
            self._drop(name, self.fd)
            raise self._failed(error) from error
        if found != _TRIAL:
            raise DiskFailed(f"cache folder {self.path} gives other bytes than were written")

    def _open(self) -> int:
        try:
            files.make_root(self.path)
            fd = files.open_folder(self.path)
        except OSError as error:
            raise self._failed(error) from error
        try:
            for _ in range(len(self._left)):
                self._drop(self._left.popleft(), fd)
            self._check_layout(fd)
        except BaseException:
            files.close_quietly(fd)
            raise
        return fd

    def _check_layout(self, folder: int) -> None:
        try:
            fd = files.open_read(LAYOUT_NAME, folder)
            try:
                found = files.read_at(fd, _LAYOUT_READ, 0)
            finally:
                files.close_quietly(fd)
        except FileNotFoundError:
            found = b""
        except OSError as error:
            raise self._failed(error) from error
        if not found:  # new, or emptied by a power cut
            self._write_layout(folder)
        elif found != LAYOUT.encode():
            raise CacheError(
                f"{self.path} holds another cache layout; empty it or name another folder"
            )

    def _write_layout(self, folder: int) -> None:
        name = self._temp_name()
        try:
            self._write(name, folder, LAYOUT.encode())
            files.rename(name, LAYOUT_NAME, folder)
        except OSError as error:
            self._drop(name, folder)
            raise self._failed(error) from error

    def _write(self, name: str, folder: int, data: bytes) -> None:
        fd = files.open_new(name, folder)
        try:
            files.write_all_at(fd, data, 0)
            # Once for a folder's life, or once a probe: whatever the durability, wait for the disk.
            files.sync_data(fd)
        finally:
            files.close_quietly(fd)

    def _drop(self, name: str, folder: int) -> None:
        try:
            files.unlink(name, folder)
        except FileNotFoundError:
            pass
        except OSError:
            if folder == self.fd:
                self._leave(name)
            else:
                self._left.append(name)

    def _failed(self, error: OSError) -> DiskFailed:
        return DiskFailed(f"cache folder {self.path}: {os.strerror(error.errno or 0)}")
