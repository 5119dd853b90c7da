"""A running node, asked over HTTP. Without an answer the program ends with a sentence."""

import http.client
import json
import socket
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import click

from edge.commands.configured import configured
from edge.commands.status import FAILED

if TYPE_CHECKING:
    from edge.settings.addresses import Address

# Docker gives a health check 30 s by default; a loop that has not turned for 3 s is not well.
HEALTH_TIMEOUT_S: Final = 3.0
_WILDCARD_TO_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound


def admin_address(admin: str | None, config_path: str | None) -> "Address":
    from edge.settings.addresses import TcpAddress, parse_address

    address = parse_address(admin) if admin is not None else configured(config_path).admin
    if isinstance(address, TcpAddress) and address.port == 0:
        raise click.UsageError("admin has port 0, which is picked at start; give --admin HOST:PORT")
    return address


def public_address(listen: str | None, config_path: str | None) -> "Address":
    from edge.settings.addresses import TcpAddress, parse_address

    address = configured(config_path).listen[0] if listen is None else parse_address(listen)
    if isinstance(address, TcpAddress) and address.port == 0:
        raise click.UsageError("listen has port 0, which is picked at start; give --listen")
    return address


def ask(
    address: "Address",
    target: str,
    method: str = "GET",
    fields: Mapping[str, str] | None = None,
    *,
    timeout_s: float | None,
) -> tuple[int, bytes]:
    """Status and body; ends the program with a sentence when there is no answer."""
    connection = connection_to(address, timeout_s)
    try:
        raw = {name: value.encode() for name, value in (fields or {}).items()}
        connection.request(method, target, headers=raw)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        click.echo(f"halftone: no answer from {address}: {reason}", err=True)
        sys.exit(FAILED)
    finally:
        connection.close()


def connection_to(address: "Address", timeout_s: float | None) -> http.client.HTTPConnection:
    from edge.settings.addresses import UnixAddress

    if isinstance(address, UnixAddress):
        return _UnixConnection(address.path, timeout_s)
    host = _WILDCARD_TO_LOOPBACK.get(address.host, address.host)
    return http.client.HTTPConnection(host, address.port, timeout=timeout_s)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def is_listening(address: "Address") -> bool:
    """False: surely nobody is there."""
    from edge.settings.addresses import UnixAddress

    try:
        if isinstance(address, UnixAddress):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(address.path)
        else:
            host = _WILDCARD_TO_LOOPBACK.get(address.host, address.host)
            socket.create_connection((host, address.port), timeout=HEALTH_TIMEOUT_S).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        return True  # ask() says what it is
    return True


def read_json(address: "Address", body: bytes) -> Mapping[str, object]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        click.echo(f"halftone: {address} answers what is no JSON: is it halftone's?", err=True)
        sys.exit(FAILED)
    return answer


def one_line(body: bytes) -> str:
    """Of an answer, for a terminal."""
    return printable(body.decode(errors="replace").partition("\n")[0])[:200]


def printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
