"""What is compared: each case is a set of files and a way to ask for them."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from tests.bench.pictures import sizes_between

KIB = 1024
MIB = 1024 * KIB
THUMBNAILS = (3_495, 5_973)  # bytes; usual sizes of 120 and 220 pixel thumbnails
SMALL_CONNECTIONS = 64
PICTURES = 1_000
SQUID_HEADS = 4_000
# The first fits a node's memory and 20,000 descriptors, the second neither. (lighttpd keeps open
# the files of some seconds, whatever its settings, and answers 403 when it runs out.)
TAILS = (10_000, 100_000)
TAIL_BYTES = (3_000, 30_000)
IDLE_CONNECTIONS = 10_000
# Few enough that the server is not saturated: p99 then is waiting behind others' work, not a queue.
FRESH_CONNECTIONS = 4


class Heads(enum.Enum):
    """How the requests look."""

    BARE = "wrk's own head, one file"
    SQUID = "heads as Squid forwards a browser's, all different"
    RANDOM = "short heads, files drawn at random"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    label: str
    about: str
    sizes: tuple[int, ...]  # bytes, one a file
    heads: Heads
    connections: int
    large: bool = False
    # A run holds so few answers that a cut-off one matters: count the bytes in whole bodies.
    count_by_bytes: bool = False
    idle_connections: int = 0
    # Thumbnails are rendered on the load generator's core meanwhile: by the node itself where it is
    # measured, by another node where a peer is.
    misses: bool = False

    def __post_init__(self) -> None:
        if not self.sizes or self.connections < 1 or self.idle_connections < 0:
            raise ValueError(f"case {self.name} has no files or no clients")
        if self.heads is Heads.BARE and len(self.sizes) != 1:
            raise ValueError(f"case {self.name}: bare heads ask for one file")

    @property
    def mean_bytes(self) -> float:
        return sum(self.sizes) / len(self.sizes)


def idle_connections(descriptors: int, quick: bool) -> int:
    """lighttpd takes half as many connections as descriptors, and the busy client needs some."""
    return min(IDLE_CONNECTIONS // 10 if quick else IDLE_CONNECTIONS, descriptors // 2 - 500)


def cases(descriptors: int, quick: bool) -> list[Case]:
    """All of them. quick shrinks or leaves out what takes long, never how it is compared."""
    idle = idle_connections(descriptors, quick)
    huge = 50 * MIB if quick else 500 * MIB
    found = [_small_bare(size) for size in THUMBNAILS]
    found += [_small_squid(size) for size in THUMBNAILS]
    found += [
        _large("100k", "100 KB", 100 * KIB, SMALL_CONNECTIONS),
        _large("1m", "1 MB", MIB, 16),
        _large("500m", f"{huge // MIB} MB", huge, 2),
        Case(
            name="misses",
            label="beside misses",
            about=f"As {THUMBNAILS[1]:,} B Squid, while misses are rendered on the load "
            "generator's core, one after another: asked of the node itself where it is measured "
            "(its resizers are on that core, and in its CPU), of another node where a peer is.",
            sizes=(THUMBNAILS[1],) * PICTURES,
            heads=Heads.SQUID,
            connections=SMALL_CONNECTIONS,
            misses=True,
        ),
        *(_tail(files) for files in (TAILS[:1] if quick else TAILS)),
        Case(
            name="idle",
            label=f"{idle:,} idle",
            about=f"Memory of a server fresh from its start, then what {idle:,} idle keep-alive "
            "connections add, each of which has had one answer; while they stay open, "
            f"{FRESH_CONNECTIONS} busy connections ask for {THUMBNAILS[1]:,}-byte thumbnails "
            "with heads as Squid's. Every round starts every server anew.",
            sizes=(THUMBNAILS[1],) * PICTURES,
            heads=Heads.SQUID,
            connections=FRESH_CONNECTIONS,
            idle_connections=idle,
        ),
    ]
    return found


def chosen(every: Iterable[Case], only: str | None) -> list[Case]:
    """Those whose name starts with only; all when it is None."""
    return [case for case in every if only is None or case.name.startswith(only)]


def _small_bare(size: int) -> Case:
    return Case(
        name=f"small-bare-{size}",
        label=f"{size:,} B bare",
        about=f"One thumbnail of {size:,} bytes, asked for with wrk's own head (Host alone) on "
        f"{SMALL_CONNECTIONS} connections.",
        sizes=(size,),
        heads=Heads.BARE,
        connections=SMALL_CONNECTIONS,
    )


def _small_squid(size: int) -> Case:
    return Case(
        name=f"small-squid-{size}",
        label=f"{size:,} B Squid",
        about=f"{PICTURES:,} thumbnails of {size:,} bytes, asked for with {SQUID_HEADS:,} "
        "different heads of twelve headers as Squid forwards a browser's, in turn, on "
        f"{SMALL_CONNECTIONS} connections.",
        sizes=(size,) * PICTURES,
        heads=Heads.SQUID,
        connections=SMALL_CONNECTIONS,
    )


def _large(name: str, label: str, size: int, connections: int) -> Case:
    counted = size > MIB
    ending = "; an answer is counted for each whole body's worth of bytes." if counted else "."
    ending += (
        " On loopback the receiver does some of the sender's work, how much depends on how the "
        "bytes are cut: read the CPU of both beside the server's."
    )
    return Case(
        name=name,
        label=label,
        about=f"One file of {label}, wrk's own head, {connections} connections{ending}",
        sizes=(size,),
        heads=Heads.BARE,
        connections=connections,
        large=True,
        count_by_bytes=counted,
    )


def _tail(files: int) -> Case:
    return Case(
        name=f"tail-{files // 1000}k",
        label=f"{files:,} files",
        about=f"{files:,} thumbnails of 3 to 30 KB, all in the page cache, drawn at random, the "
        f"same draws for every server of a round; {SMALL_CONNECTIONS} connections.",
        sizes=tuple(sizes_between(*TAIL_BYTES, files, seed=2)),
        heads=Heads.RANDOM,
        connections=SMALL_CONNECTIONS,
    )
