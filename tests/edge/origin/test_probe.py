"""The active probe against real connections."""

import dataclasses

import pytest

from edge.origin.address import Address
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.host import HostState
from edge.origin.pool import OriginPool
from edge.origin.probe import PathCheck, Prober
from tests.edge.origin.asking import GET, LOGGER, LOOPS, PATIENT, SCRIPT, read_all, run
from tests.peers.fastcgi import PLAIN, Behaviour, Seen, fastcgi_peer
from tests.waiting import until

HEALTH = dataclasses.replace(GET, target="/health", path="/health", query="")
ILL = Behaviour(stdout=b"Status: 500 No\nContent-Type: a/b\n\n")

FAULTS = {
    "500": ILL,
    "garbage": Behaviour(raw=b"garbage"),
    "silence": Behaviour(stall_at=0),
    "half": Behaviour(stdout=PLAIN),
    "drip": Behaviour(chop=1, drip_s=0.02),
}
# Those that only the check's own timeout ends. It is short for them alone: on a busy machine it
# ends checks of hosts that are well, too, though not several of one host in a row.
SLOW = ("silence", "drip")


def _uri(seen: Seen) -> bytes:
    return seen.params["REQUEST_URI"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_ill_host_is_held_until_it_is_well(fault: str, loop: str) -> None:
    is_ill = False

    def application(seen: Seen) -> Behaviour:
        return FAULTS[fault] if is_ill else Behaviour()

    async def main() -> None:
        nonlocal is_ill
        async with fastcgi_peer(application) as one, fastcgi_peer(Behaviour()) as other:
            client = FastCGIClient(SCRIPT, PATIENT, LOGGER)
            pool = OriginPool(
                "app",
                (one.address, other.address),
                client,
                clock=lambda: 0.0,  # nobody is let out for having been held for long enough
                chance=lambda: 0.5,
                logger=LOGGER,
            )
            prober = Prober(
                pool,
                PathCheck(client, HEALTH),
                interval_s=0.005,
                timeout_s=0.1 if fault in SLOW else 20,
                chance=lambda: 0.5,
                logger=LOGGER,
            )
            host = pool.hosts[0]
            prober.start()
            await until(lambda: host.stats.checks_passed >= 3)
            assert _uri(one.requests[0]) == b"/health"
            is_ill = True
            await until(lambda: host.state is HostState.HELD)
            await read_all(await pool.fetch(GET))
            # Checks arrive meanwhile, at both.
            asked = [b"/a/b.jpg?v=1" in map(_uri, peer.requests) for peer in (one, other)]
            assert asked == [False, True]
            before = host.stats.checks_failed
            await until(lambda: host.stats.checks_failed >= before + 2)
            assert host.state is HostState.HELD
            is_ill = False
            await until(lambda: host.state is HostState.RUNNING)
            await prober.stop()
            assert pool.hosts[1].stats.checks_failed == 0 or fault in SLOW
            assert pool.hosts[1].state is HostState.RUNNING
            assert [host.load for host in pool.hosts] == [0, 0]
            assert sum(host.stats.results.total() for host in pool.hosts) == 1

    run(main(), loop)


def test_a_prober_that_never_started_stops() -> None:
    async def main() -> None:
        client = FastCGIClient(SCRIPT, PATIENT, LOGGER)
        pool = OriginPool(
            "app", (Address("php", 9000),), client, clock=lambda: 0.0,
            chance=lambda: 0.0, logger=LOGGER,
        )  # fmt: skip
        prober = Prober(
            pool, PathCheck(client, HEALTH), interval_s=1, timeout_s=1,
            chance=lambda: 0.0, logger=LOGGER,
        )  # fmt: skip
        await prober.stop()

    run(main())
