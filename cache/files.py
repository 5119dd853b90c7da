"""Every system call of the disk tier, and nothing else.

One place to pass means one place to fail: the tests make the n-th call here fail, for every n.
Names are relative to a folder's descriptor, so a path is never built from what a client sent.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

# O_NONBLOCK: opening a FIFO planted in the folder must not hang. O_NOFOLLOW: no symlink leads out.
READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_read(name: str, folder: int) -> int:
    return os.open(name, READ_FLAGS, dir_fd=folder)


def open_new(name: str, folder: int) -> int:
    return os.open(name, CREATE_FLAGS, 0o600, dir_fd=folder)


def open_folder(path: str) -> int:
    return os.open(path, FOLDER_FLAGS)


def make_root(path: str) -> None:
    """With what is missing above it; no error where it is there."""
    os.makedirs(path, mode=0o700, exist_ok=True)


def make_folder(name: str, folder: int) -> None:
    os.mkdir(name, 0o700, dir_fd=folder)


def status(fd: int) -> os.stat_result:
    return os.fstat(fd)


def status_of(name: str, folder: int) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def status_of_root(path: str) -> os.stat_result:
    return os.stat(path)


def free(fd: int) -> os.statvfs_result:
    """Of the file system that fd is on."""
    return os.fstatvfs(fd)


def read_at(fd: int, size: int, offset: int) -> bytes:
    return os.pread(fd, size, offset)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> int:
    return os.pwrite(fd, data, offset)


def seek(fd: int, offset: int) -> None:
    os.lseek(fd, offset, os.SEEK_SET)


def rename(old: str, new: str, folder: int) -> None:
    os.replace(old, new, src_dir_fd=folder, dst_dir_fd=folder)


def unlink(name: str, folder: int) -> None:
    os.unlink(name, dir_fd=folder)


def remove_folder(name: str, folder: int) -> None:
    os.rmdir(name, dir_fd=folder)


def list_folder(name: str, folder: int) -> Iterator[str]:
    """The names in a folder below folder, in no order."""
    fd = os.open(name, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    try:
        with os.scandir(fd) as entries:
            names = [entry.name for entry in entries]
    finally:
        os.close(fd)
    return iter(names)


def sync_data(fd: int) -> None:
    """Wait until the bytes and the size of a file are on the disk."""
    os.fdatasync(fd)


def sync_folder(name: str, folder: int) -> None:
    """Wait until the names in a folder below folder are on the disk."""
    fd = os.open(name, FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def duplicate(fd: int) -> int:
    return os.dup(fd)


def put_behind(fd: int, other: int) -> None:
    """From now on fd stands for what other stands for; in one step, so nobody meets it closed."""
    os.dup2(other, fd, inheritable=False)


def close(fd: int) -> None:
    os.close(fd)


def close_quietly(fd: int) -> None:
    """close(2) frees the descriptor even where it reports an error; nothing is left to do."""
    with contextlib.suppress(OSError):
        close(fd)


def write_all_at(fd: int, data: bytes, offset: int) -> None:
    """write_at() until everything is written. Raises OSError(ENOSPC) when nothing moves."""
    view = memoryview(data)
    while view:
        written = write_at(fd, view, offset)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]
        offset += written
