"""The listening sockets of a node: TCP, Unix, and those that systemd passes (sd_listen_fds(3)).

The master binds them and keeps them open, so a worker that leaves takes no accept queue with it.

1. A TCP address of the public side has one socket for each slot of workers, joined by SO_REUSEPORT
   where there are several slots. Whoever works in the slot inherits its socket.
2. Unix sockets, the admin address and sockets that were passed are one socket for all slots.
3. Sockets that were passed take the place of what is configured: those named "admin" of `admin`,
   all others of `listen`.
4. A successor of the whole program gets the sockets by their numbers, with their places.
"""

import contextlib
import enum
import errno
import json
import os
import socket
import stat
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge.settings.addresses import Address, TcpAddress, UnixAddress

# The kernel caps it by net.core.somaxconn, 4096 by default since Linux 5.4.
BACKLOG: Final = 4096
# Who can reach the folder may connect, as with nginx; the admin listener asks for no password.
PUBLIC_MODE: Final = 0o666
ADMIN_MODE: Final = 0o660
FIRST_PASSED: Final = 3  # SD_LISTEN_FDS_START
# More than any configuration has; a bound for what an environment makes us look at.
MAX_PASSED: Final = 1024
INHERITED: Final = "HALFTONE_SOCKETS"
_PASSED: Final = "passed:"


class CannotListen(Exception):
    """An address cannot be listened on; the text says which, and why."""


class Role(enum.StrEnum):
    PUBLIC = "public"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Place:
    """What a socket is for. address as it is configured; slot 0 where all slots share it."""

    role: Role
    address: str
    slot: int

    @property
    def is_passed(self) -> bool:
        return self.address.startswith(_PASSED)


@dataclass(frozen=True, slots=True)
class Stand:
    """What the worker of one slot listens on."""

    public: tuple[socket.socket, ...]
    admin: socket.socket


class Listening:
    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._sockets: dict[Place, socket.socket] = {}
        self._files: dict[Place, tuple[int, int]] = {}  # device and inode of a Unix socket's path

    def open(self, listen: Sequence[Address], admin: Address) -> tuple[Stand, ...]:
        """One Stand for each slot; binds what is not bound yet. Raises CannotListen; then nothing
        has changed."""
        before = set(self._sockets)
        try:
            return tuple(
                Stand(
                    tuple(self._get(place) for place in self._places(listen, slot)),
                    self._get(self._admin_place(admin)),
                )
                for slot in range(self._slots)
            )
        except CannotListen:
            for place in set(self._sockets) - before:
                self._drop(place)
            raise

    def keep(self, listen: Sequence[Address], admin: Address) -> None:
        """Close everything but what open() gives for these addresses."""
        wanted = {place for slot in range(self._slots) for place in self._places(listen, slot)}
        wanted.add(self._admin_place(admin))
        for place in set(self._sockets) - wanted:
            self._drop(place)

    def close(self, *, is_handed_on: bool = False) -> None:
        """Close all; names of Unix sockets stay for a successor where there is one."""
        if is_handed_on:
            self._files.clear()
        for place in tuple(self._sockets):
            self._drop(place)

    def forget_all_but(self, stand: Stand) -> None:
        """In a worker, which holds what it serves on and nothing else."""
        self._files.clear()
        for place, sock in tuple(self._sockets.items()):
            if sock is not stand.admin and all(sock is not one for one in stand.public):
                self._drop(place)

    # Places

    def _places(self, listen: Sequence[Address], slot: int) -> Iterator[Place]:
        passed = [place for place in self._sockets if place.is_passed and place.role is Role.PUBLIC]
        if passed:
            yield from passed
            return
        for address in listen:
            yield Place(Role.PUBLIC, str(address), slot if isinstance(address, TcpAddress) else 0)

    def _admin_place(self, admin: Address) -> Place:
        for place in self._sockets:
            if place.is_passed and place.role is Role.ADMIN:
                return place
        return Place(Role.ADMIN, str(admin), 0)

    def _get(self, place: Place) -> socket.socket:
        if place not in self._sockets:
            self._bind(place)
        return self._sockets[place]

    def _drop(self, place: Place) -> None:
        sock = self._sockets.pop(place)
        file = self._files.pop(place, None)
        if file is not None:
            path = place.address.removeprefix("unix:")
            if _identity(path) == file:  # another node may have the name by now
                with contextlib.suppress(OSError):
                    os.unlink(path)
        sock.close()

    # Binding

    def _bind(self, place: Place) -> None:
        try:
            if place.address.startswith("unix:"):
                path = place.address.removeprefix("unix:")
                mode = PUBLIC_MODE if place.role is Role.PUBLIC else ADMIN_MODE
                self._sockets[place] = _bind_unix(path, mode)
                self._note_file(place)
            else:
                self._sockets[place] = self._bind_tcp(place)
        except OSError as error:
            hint = " (is another node running?)" if error.errno == errno.EADDRINUSE else ""
            raise CannotListen(
                f"cannot listen on {place.address}: {error.strerror or error}{hint}"
            ) from error

    def _bind_tcp(self, place: Place) -> socket.socket:
        host, _, port_text = place.address.rpartition(":")
        host, port = host.strip("[]"), int(port_text)
        is_several = self._slots > 1 and place.role is Role.PUBLIC
        if is_several and place.slot == 0:
            # With SO_REUSEPORT a second node of the same user would be let in, and take requests.
            _bind_one(host, port, is_several=False).close()
        if is_several and place.slot > 0 and port == 0:
            port = self._get(Place(place.role, place.address, 0)).getsockname()[1]
        sock = _bind_one(host, port, is_several=is_several)
        sock.listen(BACKLOG)
        return sock

    def _note_file(self, place: Place) -> None:
        identity = _identity(place.address.removeprefix("unix:"))
        if identity is not None:
            self._files[place] = identity

    # From elsewhere

    def adopt_passed(self, environ: MutableMapping[str, str]) -> None:
        """Take what systemd passes, and the variables that say so. Raises CannotListen."""
        count = environ.pop("LISTEN_FDS", "")
        pid = environ.pop("LISTEN_PID", "")
        names = environ.pop("LISTEN_FDNAMES", "").split(":")
        if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
            return
        for number in range(min(int(count), MAX_PASSED)):
            name = names[number] if number < len(names) else ""
            role = Role.ADMIN if name == "admin" else Role.PUBLIC
            self._adopt(Place(role, f"{_PASSED}{number}", 0), FIRST_PASSED + number)

    def adopt_inherited(self, text: str) -> None:
        """Take what a predecessor left in describe(). Raises CannotListen."""
        try:
            rows = [
                (Place(Role(role), str(address), int(slot)), int(fd))
                for role, address, slot, fd in json.loads(text)
            ]
        except (ValueError, TypeError) as error:
            raise CannotListen(f"{INHERITED} is not what a predecessor writes: {error}") from error
        for place, fd in rows:
            self._adopt(place, fd)
            if place.address.startswith("unix:"):
                self._note_file(place)

    def _adopt(self, place: Place, fd: int) -> None:
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                raise CannotListen(f"descriptor {fd} is no socket")
            sock = socket.socket(fileno=fd)
        except OSError as error:
            raise CannotListen(f"descriptor {fd}: {error.strerror}") from error
        if sock.type is not socket.SOCK_STREAM or not sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            sock.close()
            raise CannotListen(f"descriptor {fd} is no listening stream socket")
        _prepare(sock)
        if self._slots > 1 and place.role is Role.PUBLIC and not place.is_passed:
            # A predecessor with one worker bound it alone: others are to join it.
            _let_join(sock)
        sock.set_inheritable(False)
        self._sockets[place] = sock

    def describe(self) -> tuple[str, tuple[int, ...]]:
        """The sockets as text for adopt_inherited() in a successor, and their numbers."""
        rows = [
            (place.role.value, place.address, place.slot, sock.fileno())
            for place, sock in self._sockets.items()
        ]
        return json.dumps(rows), tuple(fd for *_, fd in rows)


def address_of(sock: socket.socket) -> Address:
    """Where a socket really listens: port 0 has become a number."""
    match sock.getsockname():
        case (str() as host, int() as port, *_):
            return TcpAddress(host, port)
        case name:
            return UnixAddress(os.fsdecode(name))


def _bind_one(host: str, port: int, *, is_several: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "0.0.0.0:80" and "[::]:80" can stand side by side, whatever the machine's default is.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if is_several:
            _let_join(sock)
        _prepare(sock)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _let_join(sock: socket.socket) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _prepare(sock: socket.socket) -> None:
    """TCP_NODELAY is inherited by what is accepted: a head and a body that do not leave together
    would otherwise wait 40 ms for an acknowledgement."""
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _bind_unix(path: str, mode: int) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(path)
        os.chmod(path, mode)  # before listen(): until then nobody can connect
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove the socket of a node that was killed, and nothing else. Raises OSError."""
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise FileExistsError(errno.EEXIST, "there is a file of this name that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except (TimeoutError, BlockingIOError):
            pass  # somebody listens, and is busy
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
