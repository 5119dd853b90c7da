"""Ports of the loopback for servers that have to be told one."""

import random
import socket

# Below those that the kernel gives to whoever asks for any: between this and its use nobody else is
# given it. At random, because other tests run beside these.
RANGE = range(10_000, 32_000)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    while True:
        port = random.SystemRandom().choice(RANGE)
        with socket.socket(type=kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:  # in use
                continue
            return port
