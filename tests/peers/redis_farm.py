"""Several Redis servers together: a master with a replica and three sentinels; a cluster.

Real processes on free ports of the loopback, each with a folder of its own, ended by process id.
They offer what one RedisServer offers: url, command(), close().
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

from tests.peers.ports import free_port
from tests.peers.redis import RedisServer

SERVICE = "halftone"
SLOTS = 16_384
# Sentinels that were not let run for two seconds do nothing for the next thirty (TILT).
PATIENCE_S = 60.0
# A replica that writes its first AOF cannot be ended; and it is not to wait for another one.
REPLICA_OPTIONS = ("--appendonly", "no", "--repl-diskless-sync-delay", "0")


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll a state that no server tells of by itself."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not in {PATIENCE_S} s: {what}")
        time.sleep(0.01)


def replication_of(server: RedisServer) -> bytes:
    try:
        return server.command("INFO", "replication")
    except ConnectionError:  # sentinels cut off the clients of whom they demote
        return b""


def start_all(servers: Sequence[RedisServer]) -> None:
    for server in servers:
        server.launch()
    for server in servers:
        server.await_ready()


def close_all(servers: Iterable[RedisServer]) -> None:
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.callback(server.close)


class Farm:
    """Servers that are started together; what could not start is ended."""

    def start(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class SentinelServer(RedisServer):
    def __init__(self, password: str) -> None:
        super().__init__(password=password)
        self.id = random.randbytes(20).hex()

    def configure(self, lines: Iterable[str]) -> None:
        own = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            *([f"requirepass {self.password}"] if self.password else []),
            *([f"sentinel sentinel-pass {self.password}"] if self.password else []),
            f"sentinel myid {self.id}",
        ]
        Path(self.folder, "sentinel.conf").write_text("\n".join([*own, *lines, ""]))

    def _arguments(self) -> list[str]:
        return ["redis-server", f"{self.folder}/sentinel.conf", "--sentinel"]


class SentinelFarm(Farm):
    """Two servers that replicate, and three sentinels that know each other from the beginning."""

    def __init__(
        self, *, password: str = "", sentinel_password: str = "", down_after_ms: int = 500
    ) -> None:
        self.password = password
        self.sentinel_password = sentinel_password
        self.down_after_ms = down_after_ms
        options = (*REPLICA_OPTIONS, "--masterauth", password)
        self.servers = [RedisServer(*options, password=password) for _ in range(2)]
        self.servers[1].options += ("--replicaof", f"127.0.0.1 {self.servers[0].port}")
        self.sentinels = [SentinelServer(sentinel_password) for _ in range(3)]

    @property
    def url(self) -> str:
        login = self.servers[0].login
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        secret = f"?sentinel_password={self.sentinel_password}" if self.sentinel_password else ""
        return f"redis+sentinel://{login}{hosts}/{SERVICE}/0{secret}"

    def _start(self) -> None:
        start_all(self.servers)
        for sentinel in self.sentinels:
            sentinel.configure(self._watch(sentinel))
        start_all(self.sentinels)
        for sentinel in self.sentinels:
            # Not once a second or ten, as on machines that are far away. But pings stay rare: a
            # replica that misses five of them is not chosen, and the machine may be busy.
            for period in ("info", "ask", "min-link-reconnect"):
                sentinel.command("SENTINEL", "DEBUG", f"{period}-period", "100")
        until(lambda: b"master_link_status:up" in replication_of(self.servers[1]), "replication")
        until(lambda: all(map(self._is_seen, self.sentinels)), "sentinels see both servers")

    @property
    def master(self) -> RedisServer:
        (found,) = (s for s in self.servers if s.process is not None and self._is_master(s))
        return found

    def command(self, *words: bytes | str) -> bytes:
        return self.master.command(*words)

    def demote(self, old: RedisServer) -> None:
        """Wait until a master that was replaced follows the new one.

        Sentinels leave it in peace for four publish periods; during a failover such short ones
        would have them call the new master back.
        """
        ask = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        port = b"%d\r\n" % old.port
        until(lambda: not any(port in s.command(*ask) for s in self.sentinels), "a new master")
        for sentinel in self.sentinels:
            sentinel.command("SENTINEL", "DEBUG", "publish-period", "100")
        until(lambda: b"role:slave" in replication_of(old), "demotion")

    def close(self) -> None:
        close_all((*self.sentinels, *self.servers))

    def _watch(self, sentinel: SentinelServer) -> list[str]:
        first, second = self.servers
        # All vote, but only one of them stands for election: two would split the votes at times,
        # and try again after twice the failover's timeout.
        quorum = 2 if sentinel is self.sentinels[0] else len(self.sentinels) + 1
        return [
            f"sentinel monitor {SERVICE} 127.0.0.1 {first.port} {quorum}",
            f"sentinel down-after-milliseconds {SERVICE} {self.down_after_ms}",
            f"sentinel failover-timeout {SERVICE} 2000",
            *([f"sentinel auth-pass {SERVICE} {self.password}"] if self.password else []),
            f"sentinel known-replica {SERVICE} 127.0.0.1 {second.port}",
            *(
                f"sentinel known-sentinel {SERVICE} 127.0.0.1 {other.port} {other.id}"
                for other in self.sentinels
                if other is not sentinel
            ),
        ]

    def _is_master(self, server: RedisServer) -> bool:
        return b"role:master" in replication_of(server)

    @staticmethod
    def _is_seen(sentinel: SentinelServer) -> bool:
        info = sentinel.command("INFO", "sentinel")
        replicas = sentinel.command("SENTINEL", "REPLICAS", SERVICE)
        return (
            b"status=ok,address=" in info
            and b"slaves=1,sentinels=3" in info
            and b"master-link-status\r\n$2\r\nok\r\n" in replicas
        )


class ClusterNode(RedisServer):
    def __init__(self, password: str) -> None:
        self.bus = free_port()
        options = (
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus)),
            *("--cluster-require-full-coverage", "no", "--cluster-node-timeout", "15000"),
            *(*REPLICA_OPTIONS, "--masterauth", password),
        )
        super().__init__(*options, password=password)

    @property
    def id(self) -> str:
        return self.command("CLUSTER", "MYID").split(b"\r\n")[1].decode()


class ClusterFarm(Farm):
    """Three masters with a third of the slots each, and a replica of the first.

    A slot that nobody serves is that slot's loss alone: cluster-require-full-coverage is off.
    """

    def __init__(self, *, password: str = "") -> None:
        self.nodes = [ClusterNode(password) for _ in range(4)]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])
        return f"redis+cluster://{self.nodes[0].login}{hosts}"

    def _start(self) -> None:
        start_all(self.nodes)
        bounds = [SLOTS * number // 3 for number in range(4)]
        for number, node in enumerate(self.nodes):
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            if number < 3:
                first, last = bounds[number], bounds[number + 1] - 1
                node.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        for node in self.nodes[1:]:
            self.nodes[0].command("CLUSTER", "MEET", "127.0.0.1", str(node.port), str(node.bus))
        until(lambda: all(map(self._knows_all, self.nodes)), "cluster nodes know each other")
        replica, master_id = self.nodes[3], self.nodes[0].id
        until(lambda: replica.command("CLUSTER", "REPLICATE", master_id) == b"+OK\r\n", "a replica")
        self.await_whole()

    def command(self, *words: bytes | str) -> bytes:
        """At every node; the answers of those whose matter it is."""
        replies = [node.command(*words) for node in self.nodes]
        return b"".join(r for r in replies if not r.startswith((b"-MOVED", b"-READONLY")))

    def owner(self, slot: int) -> ClusterNode:
        """By the nodes' own word: a command that needs a key of this slot is not redirected."""
        for line in self._table():
            _, address, flags, *rest = line.split(" ")
            if "master" in flags and any(_has(part, slot) for part in rest[5:]):
                port = int(address.partition("@")[0].rpartition(":")[2])
                return next(node for node in self.nodes if node.port == port)
        raise LookupError(f"slot {slot} of nobody")

    def await_whole(self) -> None:
        """Until all nodes live, agree, and the replica follows."""
        until(lambda: all(map(self._is_ok, self.nodes)), "cluster is whole")

    def set_node_timeout(self, milliseconds: int) -> None:
        for node in self.nodes:
            node.command("CONFIG", "SET", "cluster-node-timeout", str(milliseconds))

    def close(self) -> None:
        close_all(self.nodes)

    def _table(self) -> list[str]:
        for node in self.nodes:
            if node.process is not None:
                with contextlib.suppress(OSError):
                    text = node.command("CLUSTER", "NODES").decode()
                    return [line for line in text.splitlines() if line.count(" ") >= 7]
        raise LookupError("no node answers")

    @staticmethod
    def _knows_all(node: ClusterNode) -> bool:
        return b"cluster_known_nodes:4" in node.command("CLUSTER", "INFO") and (
            b"handshake" not in node.command("CLUSTER", "NODES")
        )

    @staticmethod
    def _is_ok(node: ClusterNode) -> bool:
        info = node.command("CLUSTER", "INFO")
        table = node.command("CLUSTER", "NODES")
        return (
            b"cluster_state:ok" in info
            and b"cluster_slots_ok:16384" in info
            and b"fail" not in table
            and table.count(b" connected") == 4
            and table.count(b"slave") == 1
            and (
                b"role:master" in replication_of(node)
                or b"master_link_status:up" in replication_of(node)
            )
        )


def _has(part: str, slot: int) -> bool:
    """part: of a line of CLUSTER NODES: "5", "0-99", or "[5->-ID]" for one on its way."""
    first, _, last = part.partition("-")
    return first.isdigit() and int(first) <= slot <= int(last or first)
