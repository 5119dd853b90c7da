"""Rows of origins: every number is there under its labels."""

import logging

from edge.origin.address import Address
from edge.origin.exchange import Connections, Lookups, Result
from edge.origin.pool import OriginPool
from edge.rows.origins import origin_rows
from edge.site import Sites
from tests.edge.origin.asking import GET


class Client:
    connections = Connections(3, 2, 1, Lookups(5, 4))


class FakeSite:
    def __init__(self, name: str, origin: OriginPool | None) -> None:
        self.name = name
        self.origin = origin


def test_rows_of_origins() -> None:
    pool = OriginPool(
        "app",
        (Address("a", 1), Address(path="/b")),
        Client(),
        clock=lambda: 10.0,
        chance=lambda: 0.0,
        logger=logging.getLogger("tests"),
    )
    pool.assign(GET)
    lease = pool.assign(GET)
    lease.closed(Result.REFUSED)
    pool.note_check(pool.hosts[0], is_well=True, next_in_s=1.0)
    asked = {name: FakeSite(name, pool) for name in "xy"}  # by two sites, and counted once
    sites = Sites({**asked, "z": FakeSite("z", None)}, None)
    found = {
        row.name.removeprefix("halftone_origin_"): {
            tuple(labels): number for labels, number in row.read()
        }
        for row in origin_rows(sites)
    }
    assert found == {
        "fetches": {("app", "refused"): 1},
        "retries": {("app",): 0},
        "resumptions": {("app", "resumed"): 0, ("app", "failed"): 0},
        "turned_away": {("app",): 0},
        "connections": {("app", "opened"): 3, ("app", "reused"): 2, ("app", "lost"): 1},
        "hosts": {("app", "running"): 1, ("app", "held"): 1, ("app", "probing"): 0},
        "host_requests": {("app", "a:1"): 1, ("app", "unix:/b"): 0},
        "host_limit": {("app", "a:1"): 64, ("app", "unix:/b"): 64},
        "host_limit_decreases": {("app", "a:1"): 0, ("app", "unix:/b"): 0},
        "host_holds": {("app", "a:1"): 0, ("app", "unix:/b"): 1},
        "host_errors": {("app", "a:1"): 0, ("app", "unix:/b"): 0},
        "host_checks": {
            ("app", "a:1", "passed"): 1,
            ("app", "a:1", "failed"): 0,
            ("app", "unix:/b", "passed"): 0,
            ("app", "unix:/b", "failed"): 0,
        },
        "lookups": {("app", "resolved"): 5, ("app", "failed"): 4},
    }
