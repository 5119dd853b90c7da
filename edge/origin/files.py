"""A docroot: originals in a folder, opened so that no name and no link can lead out of it.

openat2(2) with RESOLVE_BENEATH lets the kernel judge the whole path in one step; where it is
missing (before Linux 5.6, or filtered by seccomp) the path is walked one component at a time with
O_NOFOLLOW, and links, where allowed, are resolved here. Both give the same verdicts.

The folder is opened once: a rename of it does not move the docroot, a reload does. All calls block
on the disk and belong on a disk thread.
"""

import ctypes
import enum
import errno
import functools
import os
import stat
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from edge.origin.errors import DocrootFailed, NotAllowed, Refusal

_OPENAT2: Final = 437  # the same number on every architecture but alpha
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
_RESOLVE_CACHED: Final = 0x20  # since Linux 5.12
# RESOLVE_BENEATH answers EAGAIN when a rename raced with it (openat2(2)); renames are rare.
_ATTEMPTS: Final = 8
# The kernel's own bound on links in one path (path_resolution(7)).
_MAX_LINKS: Final = 40
# PATH_MAX with its NUL; the walk could go deeper and shall not, so that both ways agree.
_MAX_PATH_BYTES: Final = 4095

# O_NONBLOCK: the open of a FIFO must not wait for its writer; without effect on regular files.
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOWAIT: Final = int(os.RWF_NOWAIT)
_WALK: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_REFUSALS: Final = {
    errno.ELOOP: Refusal.ESCAPE,
    errno.EXDEV: Refusal.ESCAPE,
    errno.EACCES: Refusal.PERMISSION,
    errno.EPERM: Refusal.PERMISSION,
    errno.ENXIO: Refusal.NOT_REGULAR,  # a socket, or a device without a driver
    errno.ENODEV: Refusal.NOT_REGULAR,
}


class Resolver(enum.Enum):
    """Who keeps a path inside the docroot."""

    OPENAT2 = "openat2"
    COMPONENTS = "components"


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_HOW_BYTES: Final = ctypes.sizeof(_OpenHow)
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(_OpenHow),
    ctypes.c_size_t,
)


@functools.cache
def _how(flags: int, resolve: int) -> "ctypes._CArgObject":
    """There are half a dozen; the kernel only reads them."""
    return ctypes.byref(_OpenHow(flags, 0, resolve))


def _openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    how = _how(flags, resolve)
    # With RESOLVE_CACHED it is the answer.
    for _ in range(1 if resolve & _RESOLVE_CACHED else _ATTEMPTS):
        fd: int = _syscall(_OPENAT2, directory, path, how, _HOW_BYTES)
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number))


def has_openat2() -> bool:
    """ENOSYS on an old kernel; seccomp filters answer EPERM as well."""
    try:
        os.close(_openat2(-100, b".", os.O_PATH | os.O_CLOEXEC, 0))  # -100: AT_FDCWD
    except OSError as failed:
        return failed.errno not in (errno.ENOSYS, errno.EPERM)
    return True


# Neither is changed; not frozen, since that makes their making, for every file met, dear.
@dataclass(slots=True)
class FileStatus:
    size: int
    mtime_ns: int
    inode: int
    dev: int

    @property
    def validator(self) -> str:
        """Changes when the bytes do, and is equal on two nodes that hold the same rsynced tree.

        So: modification time and size, which rsync -t copies, and neither inode nor device, which
        differ on every node and after every restore. The price: a rewrite to the same size that
        also restores the old time is not seen, and such a writer has to purge.
        """
        return f"{self.mtime_ns:x}-{self.size:x}"


@dataclass(slots=True)
class OpenedFile(FileStatus):
    """A regular file inside the docroot, open for reading. The holder closes it."""

    fd: int

    def close(self) -> None:
        os.close(self.fd)


class Docroot:
    """root is a folder that exists. Raises DocrootFailed when it cannot be opened.

    symlinks allows links that stay inside. resolver None asks the kernel what it can.
    """

    def __init__(
        self, root: str, *, symlinks: bool = False, resolver: Resolver | None = None
    ) -> None:
        self.root = root
        self.symlinks = symlinks
        self.resolver = resolver or (Resolver.OPENAT2 if has_openat2() else Resolver.COMPONENTS)
        try:
            self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as failed:
            raise DocrootFailed(f"docroot {root!r}: {failed.strerror}") from failed

    def open(self, source: str) -> OpenedFile | None:
        """The file of a canonical decoded path; None when there is none.

        Raises NotAllowed for what exists and must not be served, DocrootFailed for a sick disk.
        """
        path = _relative(source)
        if path is None:
            return None
        try:
            fd = self._resolve(path)
        except OSError as failed:
            if failed.errno in _MISSING:
                return None
            why = _REFUSALS.get(failed.errno or 0)
            if why is None:
                raise DocrootFailed(f"{source!a:.200}: {failed.strerror}") from failed
            raise NotAllowed(f"{source!a:.200}: {failed.strerror}", why) from failed
        try:
            return _examine(fd, source)
        except BaseException:
            os.close(fd)
            raise

    def open_now(self, source: str) -> OpenedFile | None:
        """open() of what look_now() would find. None is no verdict."""
        fd = self._maybe_fd_now(source, _READ)
        if fd is None:
            return None
        try:
            return _examine(fd, source)
        except NotAllowed:
            os.close(fd)
            return None

    def _maybe_fd_now(self, source: str, flags: int) -> int | None:
        """What the kernel opens without asking a disk; None is no verdict."""
        if self.resolver is not Resolver.OPENAT2:
            return None
        try:
            path = _relative(source)
            return None if path is None else self._resolve(path, flags, _RESOLVE_CACHED)
        except (OSError, NotAllowed):
            return None

    def stat(self, source: str) -> FileStatus | None:
        """As open(), closed again: what it tells is what open() would have opened."""
        opened = self.open(source)
        if opened is None:
            return None
        opened.close()
        return FileStatus(opened.size, opened.mtime_ns, opened.inode, opened.dev)

    def is_missing_now(self, source: str) -> bool:
        """Does the kernel know without asking a disk that nothing is there? False is no verdict."""
        if self.resolver is not Resolver.OPENAT2:
            return False
        try:
            path = _relative(source)
            if path is None:
                return False
            os.close(self._resolve(path, os.O_PATH | os.O_CLOEXEC, _RESOLVE_CACHED))
        except FileNotFoundError:
            return True
        except (OSError, NotAllowed):
            return False
        return False

    def look_now(self, source: str) -> FileStatus | None:
        """stat() of a regular file, if the kernel can tell without asking a disk: RESOLVE_CACHED
        answers EAGAIN where any part of the path is not in its cache, and an inode whose name is
        there is there itself. None is no verdict.
        """
        fd = self._maybe_fd_now(source, os.O_PATH | os.O_CLOEXEC)
        if fd is None:
            return None
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
        if not stat.S_ISREG(found.st_mode):
            return None
        return FileStatus(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)

    def take_now(self, source: str, most: int) -> tuple[FileStatus, bytearray | None] | None:
        """look_now(), and the whole of a file of at most so many bytes, by one open of it; None
        where it is larger or reading it would wait for a disk."""
        fd = self._maybe_fd_now(source, _READ)
        if fd is None:
            return None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return None
            size = found.st_size
            data = _read_whole(fd, size) if size <= most else None
            return FileStatus(size, found.st_mtime_ns, found.st_ino, found.st_dev), data
        except OSError:
            return None
        finally:
            os.close(fd)

    def read_now(self, source: str, status: FileStatus, before: bytes = b"") -> bytes | None:
        """The whole of a small file that was opened before, behind some bytes before it, if reading
        it waits for nothing.

        None where the disk would have to be asked (preadv2 with RWF_NOWAIT says so), or where the
        name no longer leads to that very file, unchanged.
        """
        try:
            fd = os.open(source[1:], _READ, dir_fd=self._root)
        except (OSError, ValueError):
            return None
        try:
            found = os.fstat(fd)
            if (
                found.st_mtime_ns != status.mtime_ns
                or found.st_ino != status.inode
                or found.st_size != status.size
                or found.st_dev != status.dev
            ):
                return None
            data = _read_whole(fd, found.st_size)
            return None if data is None else before + data
        except OSError:
            return None
        finally:
            os.close(fd)

    def is_same(self, source: str, status: FileStatus) -> bool:
        """True when source still names the very file that was opened before, unchanged.

        A plain stat, a third of an openat2: that inode was judged when it was opened, so whatever
        path leads to it now, equality is all there is to know. False is no verdict.
        """
        try:
            found = os.stat(source[1:], dir_fd=self._root)
        except (OSError, ValueError):
            return False
        return (
            found.st_mtime_ns == status.mtime_ns
            and found.st_ino == status.inode
            and found.st_size == status.size
            and found.st_dev == status.dev
        )

    def close(self) -> None:
        """Files that are open stay open."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _resolve(self, path: bytes, flags: int = _READ, resolve: int = 0) -> int:
        """flags and resolve are for openat2; who descends reads, and asks a disk where it must."""
        if self.resolver is Resolver.COMPONENTS:
            return self._descend(path)
        resolve |= _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS
        if self.symlinks:
            return _openat2(self._root, path, flags, resolve)
        return _openat2(self._root, path, flags | os.O_NOFOLLOW, resolve | _RESOLVE_NO_SYMLINKS)

    def _descend(self, path: bytes) -> int:
        """openat2 by hand. ".." occurs only in the text of links and goes back to a folder that
        is held open, never up through the kernel, so the root is the top whatever is renamed."""
        pending = path.split(b"/")[::-1]
        held: list[int] = []
        links = 0
        try:
            while pending:
                name = pending.pop()
                here = held[-1] if held else self._root
                if name in (b"", b"."):
                    continue
                if name == b"..":
                    if not held:
                        raise OSError(errno.EXDEV, "link leads out of the docroot")
                    os.close(held.pop())
                    continue
                try:
                    fd = os.open(name, _WALK if pending else _READ | os.O_NOFOLLOW, dir_fd=here)
                except OSError as failed:
                    text = _maybe_link(name, here, failed)
                    links += 1
                    if not self.symlinks or links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from failed
                    if text.startswith(b"/"):
                        raise OSError(errno.EXDEV, "absolute link") from failed
                    pending.extend(text.split(b"/")[::-1])
                    continue
                if not pending:
                    return fd
                held.append(fd)
            # Only a link can end in a folder without a name of its own ("..", "dir/").
            return os.open(b".", _READ, dir_fd=held[-1] if held else self._root)
        finally:
            for fd in held:
                os.close(fd)


def _maybe_link(name: bytes, directory: int, failed: OSError) -> bytes:
    """The text of the link on which an open failed; failed itself where it was no link."""
    try:
        if failed.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise failed
        try:
            return os.readlink(name, dir_fd=directory)
        except OSError:
            raise failed from None
    finally:
        # Or the error holds this frame and the frame the error, until the next collection, and with
        # them all that the callers hold: open files.
        del failed


def _read_whole(fd: int, size: int) -> bytearray | None:
    """All of a file of this size; None where that is not at hand."""
    data = bytearray(size)
    try:
        read = os.preadv(fd, (data,), 0, _NOWAIT)
    except OSError:
        return None
    return data if read == size else None


def _relative(source: str) -> bytes | None:
    """The path below the root, checked again here: the last gate before the file system."""
    try:
        raw = source.encode()
    except UnicodeEncodeError:
        raise NotAllowed(f"{source!a:.200}: not text", Refusal.PATH) from None
    # Nearly every path: no segment is empty or begins with a dot.
    if raw[:1] == b"/" and raw[-1:] != b"/" and not (b"//" in raw or b"/." in raw or b"\0" in raw):
        return raw[1:] if len(raw) - 1 <= _MAX_PATH_BYTES else None
    if not raw.startswith(b"/") or b"\0" in raw:
        raise NotAllowed(f"{source!a:.200}: not an absolute path", Refusal.PATH)
    segments = raw[1:].split(b"/")
    if segments[-1] == b"":
        segments.pop()
        if all(segment not in (b"", b".", b"..") for segment in segments):
            raise NotAllowed(f"{source!a:.200}: names a folder", Refusal.DIRECTORY)
    if any(segment in (b"", b".", b"..") for segment in segments):
        raise NotAllowed(f"{source!a:.200}: not canonical", Refusal.PATH)
    return raw[1:] if len(raw) - 1 <= _MAX_PATH_BYTES else None


def _examine(fd: int, source: str) -> OpenedFile:
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        raise NotAllowed(f"{source!a:.200}: a folder", Refusal.DIRECTORY)
    if not stat.S_ISREG(status.st_mode):
        raise NotAllowed(f"{source!a:.200}: not a regular file", Refusal.NOT_REGULAR)
    return OpenedFile(
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        dev=status.st_dev,
        fd=fd,
    )
