"""Asks the hosts of a pool again and again whether they are well, also those without requests.

Without it a host is judged by its connects alone, which finds the dead. With it one that accepts
and answers 500, or nothing, is found too, and one that is back is found before a request has to.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from edge.origin.address import Address
from edge.origin.errors import OriginError, UnsendableRequest
from edge.origin.exchange import Client, Result
from edge.origin.host import Host
from edge.origin.messages import OriginRequest

# A tenth of the interval is taken off by chance: workers and nodes should not ask in step.
JITTER: Final = 0.1
# What is read of an answer; it is asked for its status.
MAX_ANSWER_BYTES: Final = 1 << 20


class Checked(Protocol):
    @property
    def hosts(self) -> tuple[Host, ...]: ...

    def note_check(self, host: Host, *, is_well: bool, next_in_s: float) -> None:
        """What a check found; the next one has its result within next_in_s."""


class _Nobody:
    """A Watcher: checks are no traffic, and the pool learns from their outcome alone."""

    def connected(self) -> None:
        pass

    def closed(self, result: Result) -> None:
        pass


class Check(Protocol):
    """How one host is asked."""

    async def is_well(self, address: Address) -> bool:
        """Waits without bound. Raises OriginError, UnsendableRequest, which mean that it is not."""

    async def aclose(self) -> None:
        """After the last call."""


class PathCheck:
    """A host is well when it answers request below 500, to the end."""

    def __init__(self, client: Client, request: OriginRequest) -> None:
        self._client = client
        self._request = request

    async def is_well(self, address: Address) -> bool:
        response = await self._client.fetch(address, self._request, _Nobody())
        try:
            left = MAX_ANSWER_BYTES
            while left > 0 and (data := await response.read()):
                left -= len(data)
            return response.status < 500
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """The client is the origin's."""


class Prober:
    """A host is well when check says so within timeout_s."""

    def __init__(
        self,
        pool: Checked,
        check: Check,
        *,
        interval_s: float,
        timeout_s: float,
        chance: Callable[[], float],
        logger: logging.Logger,
    ) -> None:
        self._pool = pool
        self._how = check
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._chance = chance
        self._logger = logger
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self._how.aclose()

    async def _run(self) -> None:
        while True:
            await asyncio.gather(*map(self._check, self._pool.hosts))
            await asyncio.sleep(self._interval_s * (1 - JITTER * self._chance()))

    async def _check(self, host: Host) -> None:
        is_well = await self._is_well(host)
        self._pool.note_check(host, is_well=is_well, next_in_s=self._interval_s + self._timeout_s)

    async def _is_well(self, host: Host) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._how.is_well(host.address)
        except (OriginError, UnsendableRequest, TimeoutError):
            return False
        except Exception:  # a mistake of ours must not end the checks
            self._logger.exception("origin: checking %s failed", host.address)
            return False
