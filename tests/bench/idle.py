"""Holds idle keep-alive connections: python -m tests.bench.idle PORT COUNT PATH

Each connection asks for PATH once and reads the whole answer, so the server holds it in keep-alive
and not as one that never spoke. Then "ready"; the connections stay until standard input ends; then
"kept N", the number that the server has left open.
"""

import socket
import sys

# 28,000 local ports are free for one source address by default; several addresses leave room for
# the connections of the last server that are still in TIME_WAIT.
PER_SOURCE = 2_500
TIMEOUT_S = 10.0
IP_BIND_ADDRESS_NO_PORT = 24  # ip(7); the socket module of 3.11 lacks the name


def source_of(index: int) -> str:
    """The local address of the index-th connection: 127.0.0.2 and up."""
    return f"127.0.0.{2 + index // PER_SOURCE}"


def body_length(head: bytes) -> int:
    """Content-Length of a response head. Raises ValueError for anything but a plain 200."""
    status, *lines = head.split(b"\r\n")
    if not status.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"answered {status[:60]!r}")
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError("no Content-Length")


def open_one(port: int, source: str, request: bytes) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(TIMEOUT_S)
    # the kernel then picks a port that is free for this destination, not for all
    connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", port))
    connection.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    left = body_length(head) - len(body)
    while left > 0:
        left -= len(_some(connection))
    connection.setblocking(False)
    return connection


def is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("closed before the answer was whole")
    return data


def main() -> None:
    port, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("ascii")
    connections = [open_one(port, source_of(i), request) for i in range(count)]
    print("ready", flush=True)
    sys.stdin.read()
    print(f"kept {sum(map(is_open, connections))}", flush=True)
    for connection in connections:
        connection.close()


if __name__ == "__main__":
    main()
