"""Names of hosts, resolved: again when a connect failed, and else every RESOLVE_S.

Whoever connects waits for a resolver only where nothing is known yet. After that names are resolved
behind the requests' backs, and the last good addresses stay while the resolver fails: an origin
whose name server is down is not down. One lookup per name runs at a time, so that a hanging
resolver holds one thread and not all of them.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from edge.origin.exchange import Lookups

# A moved container is found by its refused connects; this is for moves that leave a living host.
RESOLVE_S: Final = 30.0
# Between two lookups of one name, however often connecting fails.
PAUSE_S: Final = 1.0
# A name with more stands for a cloud, and the first few are as good as all.
MAX_ADDRESSES: Final = 8

# Gives numeric addresses in the order of preference. Raises OSError.
Resolve = Callable[[str], Awaitable[tuple[str, ...]]]


async def resolve_by_loop(host: str) -> tuple[str, ...]:
    """What the system's resolver says, in a thread of the loop. Raises OSError (gaierror)."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(slots=True)
class _Known:
    addresses: tuple[str, ...] = ()
    looked_up_at: float = float("-inf")
    is_doubted: bool = False
    failure: str = ""  # of the last lookup


class Names:
    """As many entries as an origin has named hosts."""

    def __init__(self, logger: logging.Logger, resolve: Resolve = resolve_by_loop) -> None:
        self.stats = Lookups()
        self._logger = logger
        self._resolve = resolve
        self._known: dict[str, _Known] = {}
        self._lookups: dict[str, asyncio.Task[None]] = {}

    async def lookup(self, host: str) -> tuple[str, ...]:
        """At least one numeric address. Raises OSError where none was ever found."""
        if _is_numeric(host):
            return (host,)
        known = self._known.setdefault(host, _Known())
        now = asyncio.get_running_loop().time()
        if now >= known.looked_up_at + (PAUSE_S if known.is_doubted else RESOLVE_S):
            self._start(host, known)
        if not known.addresses and (running := self._lookups.get(host)) is not None:
            # Who is cancelled here, by a deadline, leaves the lookup to those who come later.
            await asyncio.shield(running)
        if not known.addresses:
            raise OSError(f"{host} cannot be resolved: {known.failure}")
        return known.addresses

    def doubt(self, host: str) -> None:
        """A connect to it failed: the next one shall find a new address, if there is one."""
        known = self._known.get(host)
        if known is None:
            return
        known.is_doubted = True
        if asyncio.get_running_loop().time() >= known.looked_up_at + PAUSE_S:
            self._start(host, known)

    async def aclose(self) -> None:
        running = list(self._lookups.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(self, host: str, known: _Known) -> None:
        if host not in self._lookups:
            task = asyncio.get_running_loop().create_task(self._look_up(host, known))
            self._lookups[host] = task
            task.add_done_callback(lambda _: self._lookups.pop(host))

    async def _look_up(self, host: str, known: _Known) -> None:
        try:
            found = await self._resolve(host)
            if not found:
                raise OSError("its name has no address")
        except (OSError, UnicodeError) as failed:
            self.stats.failed += 1
            if not known.failure and known.addresses:
                self._logger.warning(
                    "origin: %s cannot be resolved (%s); still using %s",
                    host, failed, ", ".join(known.addresses),
                )  # fmt: skip
            known.failure = str(failed)
            # Asked for again soon, as what is known is old already.
            known.is_doubted = True
        else:
            self.stats.resolved += 1
            known.addresses = found[:MAX_ADDRESSES]
            known.is_doubted = False
            known.failure = ""
        finally:
            known.looked_up_at = asyncio.get_running_loop().time()


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
