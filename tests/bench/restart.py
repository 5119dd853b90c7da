"""How soon a node serves after its start, with a full disk and with an empty one.

Two caches: one has a single thumbnail, which the node made; the other that one and many thousands
more, written through cache.disk. `halftone serve` is started on each in turn, and the thumbnail is
asked for until it is a hit.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from cache.disk import Disk
from cache.entry import Entry
from cache.index.interface import Token
from cache.key import Key, SourceId
from tests.bench.cache_node import CacheNode
from tests.bench.crowd import Answer, CrowdError, checked, crowd, get
from tests.bench.herd import PHOTOGRAPH
from tests.bench.machine import REPOSITORY
from tests.bench.measure import GENERATOR_CORE, SERVER_CORE
from tests.bench.pictures import slices
from tests.bench.render_report import Figure
from tests.bench.sections import Section
from tests.bench.stats import Spread, rotation, spread
from tests.peers.node import running

ENTRIES = 100_000
QUICK_ENTRIES = 5_000
ROUNDS = 7
QUICK_ROUNDS = 3
MOST_S = 0.5
DERIVATIVES = 10  # of a source
BYTES = 3_000
TARGET = "/photograph.jpg?w=220"
# Imports that take less by themselves are not named.
SLOW_IMPORT_MS = 8.0
PACKAGES = ("edge", "cache", "resizer")
EMPTY, FULL = "empty", "full"


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the start of the process to the line that it is ready, and to the first hit."""

    round: int
    cache: str
    ready_s: float
    hit_s: float

    @property
    def after_ready_s(self) -> float:
        return self.hit_s - self.ready_s


def measure(folder: str, quick: bool, say: Callable[[str], None]) -> Section:
    root = os.path.join(folder, "root")
    os.mkdir(root)
    shutil.copyfile(PHOTOGRAPH, f"{root}/photograph.jpg")
    count = QUICK_ENTRIES if quick else ENTRIES
    for name in (EMPTY, FULL):
        say(f"restart: the thumbnail of the {name} cache")
        os.mkdir(f"{folder}/{name}")
        _make_thumbnail(CacheNode(SERVER_CORE, name, root=root), f"{folder}/{name}")
    say(f"restart: writing {count:,} entries")
    began = time.monotonic()
    fill(f"{folder}/{FULL}/cache", count)
    filled_s = time.monotonic() - began
    compile_all()
    starts = []
    with _all_cores():
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            for name in rotation((EMPTY, FULL), number):
                say(f"restart: round {number + 1}, {name}")
                starts.append(_start(f"{folder}/{name}", name, number))
    say("restart: where the start goes")
    return section(starts, count, filled_s, imports())


def _make_thumbnail(node: CacheNode, folder: str) -> None:
    try:
        node.begin(folder)
        with crowd(node.port(), 1) as client:
            checked(client.ask([get(TARGET)]), "the thumbnail")
            if not is_hit(client.ask([get(TARGET)])[0]):
                raise CrowdError("the thumbnail is not kept")
    finally:
        node.stop()


def fill(path: str, count: int) -> None:
    """count entries, in the cache folder of a node that is not running."""
    disk = Disk(path, 20 << 30, 1_000_000)
    token = Token("00000000000000ff", 1)
    body = b"".join(slices(1, BYTES))
    try:
        for number in range(count):
            source = SourceId("*", f"/album/{number // DERIVATIVES:06d}.jpg")
            key = Key(source, f"w={number % DERIVATIVES}")
            draft = Entry(key=key, token=token, validator="v", etag='"e"', media_type="image/jpeg",
                          length=BYTES, stored_at=1_795_000_000, cost_ms=8)  # fmt: skip
            with disk.reserve(draft, BYTES) as filling:
                filling.write(body)
                filling.commit(draft).close()
    finally:
        disk.close()


def _start(folder: str, name: str, number: int) -> Start:
    """With the configuration that made the thumbnail."""
    began = time.monotonic()
    with running(["--config", f"{folder}/halftone.toml"]) as node:
        ready_s = time.monotonic() - began
        with crowd(int(node.public.rpartition(":")[2]), 1) as client:
            answer = checked(client.ask([get(TARGET)]), "after a start")[0]
    if not is_hit(answer):
        raise CrowdError(f"no hit after a start: {answer.fields.get('cache-status')}")
    return Start(number, name, ready_s, answer.ended_at - began)


@contextlib.contextmanager
def _all_cores() -> Iterator[None]:
    """A restart has the machine to itself, as in service."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {SERVER_CORE, GENERATOR_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def is_hit(answer: Answer) -> bool:
    return "; hit" in answer.fields.get("cache-status", "")


def compile_all() -> None:
    """As an installer does it: without bytecode every start compiles the whole program."""
    command = [sys.executable, "-m", "compileall", "-q", *PACKAGES]
    subprocess.run(command, check=True, timeout=120, cwd=REPOSITORY)


# Where the start goes: python -X importtime


@dataclass(frozen=True, slots=True)
class Import:
    name: str
    own_ms: float
    all_ms: float  # with what it imports in turn


def imports() -> list[Import]:
    finished = subprocess.run(
        ["taskset", "-c", str(SERVER_CORE), sys.executable, "-X", "importtime", "-c",
         "import edge.cli, edge.app"],
        capture_output=True, text=True, check=True, timeout=60, cwd=REPOSITORY,
    )  # fmt: skip
    return list(parse_imports(finished.stderr))


def parse_imports(text: str) -> Iterator[Import]:
    """The lines of -X importtime, outermost last."""
    for line in text.splitlines():
        head, _, rest = line.partition("import time:")
        own, _, more = rest.partition("|")
        every, _, name = more.partition("|")
        if not head and own.strip().isdigit() and every.strip().isdigit():
            yield Import(name.strip(), int(own) / 1000, int(every) / 1000)


def section(
    starts: Sequence[Start], count: int, filled_s: float, imported: Sequence[Import]
) -> Section:
    figures = []
    rows = []
    for name, entries in ((EMPTY, 1), (FULL, count + 1)):
        mine = [start for start in starts if start.cache == name]
        ready = _spread([start.ready_s for start in mine])
        hit = _spread([start.hit_s for start in mine])
        after = _spread([start.after_ready_s for start in mine])
        rows.append([f"{entries:,}", *map(_seconds, (ready, hit, after))])
        for what, value in (
            ("the start of the process", hit),
            ("the line that says ready", after),
        ):
            figures.append(
                Figure(
                    f"{entries:,} on disk: first hit after {what}",
                    f"<= {MOST_S:g} s",
                    _seconds(value),
                    value.median <= MOST_S,
                )
            )
    by = {(start.round, start.cache): start for start in starts}
    more = _spread(
        [by[n, FULL].hit_s - by[n, EMPTY].hit_s for n in sorted({one.round for one in starts})]
    )
    program = sum(one.own_ms for one in imported)
    slow = sorted(imported, key=lambda one: -one.own_ms)
    named = ", ".join(
        f"{one.name} {one.own_ms:.0f}" for one in slow if one.own_ms >= SLOW_IMPORT_MS
    )
    about = (
        f"`halftone serve` with one worker, on both cores; the {count:,} entries were written "
        f"through cache.disk before ({filled_s:.0f} s), {DERIVATIVES} of a source, {BYTES:,} "
        "bytes each, and are in the page cache; the program is compiled to bytecode. A full disk "
        "costs "
        f"{more.median * 1000:+.0f} ms ({more.low * 1000:+.0f} to {more.high * 1000:+.0f}, of "
        "pairs within a round). Imports of "
        f"one Python process alone: {program:.0f} ms by -X importtime, which itself slows them"
        + (f"; by themselves, in ms: {named}." if named else ".")
    )
    titles = ("entries on disk", "ready, s", "first hit, s", "first hit after ready, s")
    raw = {
        "entries": count,
        "starts": [asdict(start) for start in starts],
        "imports": [asdict(one) for one in slow[:40]],
    }
    return Section("restart", "Restart", about, figures, titles, rows, raw)


def _spread(values: Sequence[float]) -> Spread:
    found = spread(values)
    assert found is not None
    return found


def _seconds(value: Spread) -> str:
    return f"{value.median:.3f} ({value.low:.3f} to {value.high:.3f})"
