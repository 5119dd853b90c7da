"""Rows of the node as it is now."""

import logging
from typing import Any

import pytest

from edge.counts import MAX_LABEL, Counts
from edge.metrics import Row
from edge.origin.address import Address
from edge.origin.exchange import Result
from edge.origin.pool import MAX_RETRIES_SAVED, OriginPool
from edge.recent import Recent
from edge.rows.now import host_rows, listener_rows, ratio_rows, recent_rows, room_rows
from edge.site import Sites
from edge.status.names import HIT_RATIO, LAST_MINUTE
from tests.edge.origin.asking import GET
from tests.edge.test_rows import Client, FakeSite


def read(rows: "list[Row] | Any") -> dict[str, dict[tuple[str, ...], float]]:
    return {
        row.name.removeprefix("halftone_"): {tuple(labels): n for labels, n in row.read()}
        for row in rows
    }


def test_rows_of_hosts():
    now = 10.0
    pool = OriginPool(
        "app", (Address("a", 1), Address("c", 3)), Client(), backups=(Address(path="/b"),),
        weights={Address("a", 1): 3}, clock=lambda: now, chance=lambda: 0.0,
        logger=logging.getLogger("tests"),
    )  # fmt: skip
    pool.assign(GET).closed(Result.REFUSED)
    pool.assign(GET).closed(Result.ANSWERED)
    sites = Sites({"x": FakeSite("x", pool), "y": FakeSite("y", pool)}, None)  # type: ignore[dict-item]
    now = 10.25
    found = read(host_rows(sites))
    names = [("app", "a:1"), ("app", "c:3"), ("app", "unix:/b")]
    states = {key[1:]: n for key, n in found["origin_host_state"].items() if n}
    assert states == {("a:1", "held"): 1, ("c:3", "running"): 1, ("unix:/b", "running"): 1}
    assert len(found["origin_host_state"]) == 9
    assert found["origin_host_held_seconds"] == dict(zip(names, (0.75, 0, 0), strict=True))
    assert found["origin_host_weight"] == {
        (*names[0], "first"): 3, (*names[1], "first"): 1, (*names[2], "backup"): 1,
    }  # fmt: skip
    assert found["origin_host_fetches"] == {
        (*names[0], "refused"): 1, (*names[1], "answered"): 1,
    }  # fmt: skip
    assert list(found["origin_host_latency_seconds"]) == [names[0]]  # nothing else was learnt
    assert found["origin_retries_saved"] == {
        ("app", "saved"): MAX_RETRIES_SAVED, ("app", "limit"): MAX_RETRIES_SAVED,
    }  # fmt: skip


def test_rows_of_folders_and_listeners():
    class Room:
        used, used_inodes, size, inodes = 5, 2, 100, 10

    class Folders:
        def rooms(self):
            return [("/a", Room())]

        def states(self):
            return [("/a", ""), ("/b\t\nc", "Input/output error" * 50)]

    found = read(room_rows(Folders()))  # type: ignore[arg-type]
    assert found["cache_folder_bytes"] == {("/a",): 5}
    assert found["cache_folder_files"] == {("/a",): 2}
    assert found["cache_folder_room"] == {("/a", "bytes"): 100, ("/a", "files"): 10}
    (_, used), ((path, why), number) = (
        (("/a", ""), 1),
        *list(found["cache_folder_workers"].items())[1:],
    )
    assert (path, len(why), number, used) == ("/b??c", MAX_LABEL, 1, 1)

    class Listener:
        class stats:  # noqa: N801
            open = 3

        class settings:  # noqa: N801
            max_connections = 7

        def __init__(self, address: str) -> None:
            self.address = address

    rows = listener_rows([Listener("[::]:80"), Listener("unix:/run/admin")])  # type: ignore[list-item]
    assert read(rows)["listener_connections"] == {
        ("[::]:80", "public", "open"): 3, ("[::]:80", "public", "limit"): 7,
        ("unix:/run/admin", "admin", "open"): 3, ("unix:/run/admin", "admin", "limit"): 7,
    }  # fmt: skip


def test_rows_of_the_last_minute():
    recent = Recent()
    assert read(recent_rows(recent)) == {"requests_per_second": {(): 0.0}, "last_minute": {}}
    recent.note(1.0, {"requests": 10, "errors": 1})
    recent.note(3.0, {"requests": 16, "errors": 1})
    assert read(recent_rows(recent)) == {
        "requests_per_second": {(): 3.0},
        "last_minute": {("requests",): 6, ("errors",): 0},
    }


MINUTE = {"hits": 3.0, "misses": 1.0, "hit_bytes": 0.0, "miss_bytes": 0.0}
TOTALS = [
    # nothing was asked for: there is no ratio
    (Counts(), {}),
    (
        Counts({}, {(LAST_MINUTE, name): number for name, number in MINUTE.items()}),
        {("object", "minute"): 0.75},
    ),
    (
        Counts(
            {
                ("halftone_cache_hits", "memory"): 6.0,
                ("halftone_cache_hits", "disk"): 2.0,
                ("halftone_cache_misses",): 2.0,
                ("halftone_cache_hit_bytes",): 0.0,
                ("halftone_cache_miss_bytes",): 9.0,
                ("halftone_cache_saved_milliseconds",): 5.0,
            }
        ),
        {("object", "start"): 0.8, ("byte", "start"): 0.0, ("cost", "start"): 1.0},
    ),
]


@pytest.mark.parametrize(("total", "ratios"), TOTALS)
def test_ratios(total, ratios):
    (row,) = ratio_rows()
    assert row.name == HIT_RATIO
    assert dict(row.of(total)) == ratios
