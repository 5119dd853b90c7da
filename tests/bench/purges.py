"""What a PURGE takes, as its client sees it on the admin listener."""

import http.client
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from tests.bench import proc
from tests.bench.cache_node import CacheNode, Origin
from tests.bench.crowd import CrowdError, checked, crowd, get
from tests.bench.herd import PHOTOGRAPH
from tests.bench.measure import GENERATOR_CORE, SERVER_CORE
from tests.bench.render_report import Figure
from tests.bench.sections import Section, quantile
from tests.peers.phpfpm import php_fpm
from tests.peers.redis import RedisServer

HOMES = ("embedded", "redis")
MOST_MS = {"embedded": 5.0, "redis": 10.0}
# Derivatives of a source, and how many such sources are purged.
SOURCES = {1: 30, 50: 30, 500: 5}
QUICK_SOURCES = {1: 8, 50: 8, 500: 2}
THE_FIGURE = 50
# Cheap to render, wide enough for as many sizes and qualities as are asked for.
SIDE = 240
WIDTHS = range(20, 220)
QUALITIES = range(70, 80)
AT_ONCE = 8
# Sources for tags and prefixes, each with two tags: one that all have, one of its hundred.
KNOWN = 10_000
QUICK_KNOWN = 500
GROUP = 100
PATTERN_ROUNDS = 5
QUICK_PATTERN_ROUNDS = 2
SYNCS = 50
# A busy machine lets the breaker of Redis open; then a purge is asked for again, as users do.
ATTEMPTS = 10
TAGGING = """<?php
$path = $_SERVER['DOCUMENT_URI'];
$body = file_get_contents(getenv('ORIGINALS') . '/small.jpg');
header('Content-Type: image/jpeg');
header('Cache-Control: public, max-age=86400');
header('ETag: "' . md5($path) . '"');
header('Surrogate-Key: all group' . substr($path, 1, 3));
header('Content-Length: ' . strlen($body));
echo $body;
"""


@dataclass(frozen=True, slots=True)
class Purge:
    """One PURGE. kind: "source", or the pattern; entries as the node counts them. refused: 503s
    that came before it."""

    home: str
    kind: str
    number: int  # derivatives of the source; sources of the pattern
    ms: float
    entries: int
    refused: int = 0


def measure(folder: str, quick: bool, say: Callable[[str], None]) -> Section:
    root = os.path.join(folder, "originals")
    os.mkdir(root)
    with Image.open(PHOTOGRAPH) as photograph:
        photograph.thumbnail((SIDE, SIDE))
        photograph.save(f"{root}/small.jpg", quality=85)
    script = os.path.join(folder, "tagging.php")
    Path(script).write_text(TAGGING, encoding="utf-8")
    purges: list[Purge] = []
    sync_ms = sync_times(folder)
    with php_fpm(Path(root), application=Path(script)) as fpm:
        proc.pin(proc.tree(fpm.pid), GENERATOR_CORE)
        assert fpm.address.path is not None
        origin = Origin(fpm.address.path, script)
        for home in HOMES:
            with _home(home) as url, _running(root, folder, home, url, None) as node:
                purges += _of_sources(node, home, root, quick, say)
            with _home(home) as url, _running("", folder, f"{home}-tags", url, origin) as node:
                purges += _by_patterns(node, home, quick, say)
    return section(purges, sync_ms, QUICK_KNOWN if quick else KNOWN)


@contextmanager
def _home(home: str) -> Iterator[str]:
    """The URL of a real Redis that syncs its log before it answers; "" for the embedded index."""
    if home == "embedded":
        yield ""
        return
    with closing(RedisServer().start()) as server:
        assert server.process is not None
        # Where there is room: a Redis that waits for a render is a Redis that is down.
        os.sched_setaffinity(server.process.pid, {SERVER_CORE, GENERATOR_CORE})
        yield server.url


@contextmanager
def _running(
    root: str, folder: str, name: str, url: str, origin: Origin | None
) -> Iterator[CacheNode]:
    own = os.path.join(folder, name)
    os.mkdir(own)
    node = CacheNode(SERVER_CORE, name, root=root, redis=url, origin=origin)
    try:
        node.begin(own)
        proc.pin(node.resizers(), GENERATOR_CORE)
        yield node
    finally:
        node.stop()


def _of_sources(
    node: CacheNode, home: str, root: str, quick: bool, say: Callable[[str], None]
) -> list[Purge]:
    counts = QUICK_SOURCES if quick else SOURCES
    sources = [(count, number) for count, most in counts.items() for number in range(most)]
    # Sizes mixed, so that a slow moment of the disk does not hit one of them alone.
    random.Random(5).shuffle(sources)
    found = []
    with (
        crowd(node.port(), AT_ONCE) as clients,
        closing(http.client.HTTPConnection("127.0.0.1", node.admin, timeout=30)) as admin,
    ):
        for place, (count, number) in enumerate(sources):
            say(f"purges, {home}: source {place + 1} of {len(sources)}")
            path = f"/{home}-{count}-{number}.jpg"
            os.link(f"{root}/small.jpg", root + path)
            targets = variants(path, count)
            checked(clients.ask([get(target) for target in targets]), "a derivative")
            found.append(Purge(home, "source", count, *_purged(node, admin, path, {})))
            again = checked(clients.ask([get(targets[-1])]), "a purged derivative")[0]
            if "; hit" in again.fields.get("cache-status", ""):
                raise CrowdError(f"{targets[-1]} is a hit after its purge")
    return found


def variants(path: str, count: int) -> list[str]:
    every = [f"{path}?w={width}&q={quality}" for quality in QUALITIES for width in WIDTHS]
    if count > len(every):
        raise ValueError(f"{count} derivatives, {len(every)} can be asked for")
    return every[:count]


def _by_patterns(
    node: CacheNode, home: str, quick: bool, say: Callable[[str], None]
) -> list[Purge]:
    known = QUICK_KNOWN if quick else KNOWN
    paths = [f"/{number // GROUP:03d}/{number % GROUP:02d}.jpg" for number in range(known)]
    patterns = (
        ("tag", known, {"Surrogate-Key": "all"}),
        ("tag", GROUP, {"Surrogate-Key": "group001"}),
        ("prefix", known, {"Purge-Prefix": "/"}),
        ("prefix", GROUP, {"Purge-Prefix": "/002/"}),
    )
    found = []
    with (
        crowd(node.port(), AT_ONCE) as clients,
        closing(http.client.HTTPConnection("127.0.0.1", node.admin, timeout=30)) as admin,
    ):
        say(f"purges, {home}: making {known:,} sources known")
        checked(clients.ask([get(path) for path in paths]), "a source")
        for _ in range(QUICK_PATTERN_ROUNDS if quick else PATTERN_ROUNDS):
            for kind, number, fields in patterns:
                say(f"purges, {home}: by {kind}, {number:,} sources")
                found.append(Purge(home, kind, number, *_purged(node, admin, "/", fields)))
    return found


def _purged(
    node: CacheNode, admin: http.client.HTTPConnection, target: str, fields: dict[str, str]
) -> tuple[float, int, int]:
    """Milliseconds of the purge that succeeded, entries, and refusals before it."""
    for refused in range(ATTEMPTS):
        node.await_well()
        done = timed(admin, target, fields)
        if done is not None:
            return (*done, refused)
    raise CrowdError(f"PURGE {target} is refused {ATTEMPTS} times")


def timed(
    admin: http.client.HTTPConnection, target: str, fields: dict[str, str]
) -> tuple[float, int] | None:
    """Milliseconds from the request to the whole answer, and the entries that it names. None: it
    could not be recorded."""
    began = time.perf_counter()
    admin.request("PURGE", target, headers={"Host": "img.example.org", **fields})
    answer = admin.getresponse()
    body = answer.read()
    took = (time.perf_counter() - began) * 1000
    if answer.status == 503:
        return None
    if answer.status != 200:
        raise CrowdError(f"PURGE {target} is answered {answer.status}: {body[:200]!r}")
    return took, int(json.loads(body)["purged"])


def sync_times(folder: str) -> list[float]:
    """What the disk takes for a write of 4 KB and fdatasync, in ms: a purge is one at least."""
    found = []
    fd = os.open(f"{folder}/synced", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        for _ in range(SYNCS):
            os.write(fd, bytes(4096))
            began = time.perf_counter()
            os.fdatasync(fd)
            found.append((time.perf_counter() - began) * 1000)
    finally:
        os.close(fd)
    return found


def section(purges: Sequence[Purge], sync_ms: Sequence[float], known: int) -> Section:
    figures: list[Figure] = []
    rows = []
    for home in HOMES:
        groups = dict.fromkeys((one.kind, one.number) for one in purges if one.home == home)
        for kind, number in sorted(groups, key=_order):
            mine = [p for p in purges if (p.home, p.kind, p.number) == (home, kind, number)]
            times = [one.ms for one in mine]
            p50, p95 = quantile(times, 0.5), quantile(times, 0.95)
            if kind == "source":
                what = f"{number} derivative{'s' if number > 1 else ''}"
                name = f"PURGE of a source with {what}, {home}"
                met = p95 <= MOST_MS[home]
                asked = f"<= {MOST_MS[home]:g} ms"
                figures.append(Figure(f"{name}: p50, p95", asked, f"{p50:.1f}, {p95:.1f} ms", met))
            else:
                what = f"by {kind}, {number:,} of {known:,} sources"
            cells = [f"{p50:.1f}", f"{p95:.1f}", f"{max(times):.1f}"]
            rows.append([home, what, str(len(mine)), *cells, str(max(p.entries for p in mine))])
    about = (
        "PURGE on the admin listener over one kept connection, from the request to the whole "
        "answer; nobody else asks meanwhile, and the node has found its index well before. The "
        "derivatives were asked for over HTTP before; "
        "after each PURGE of a source one of them is asked for again and must not be a hit. "
        "The sources of tags and prefixes came from php-fpm with Surrogate-Key. p95 decides "
        "whether a figure is met. A purge is on disk when it is answered, in Redis by appendfsync "
        "always; a write of 4 KB with fdatasync took this disk "
        f"{quantile(sync_ms, 0.5):.1f} ms (p50) and {quantile(sync_ms, 0.95):.1f} ms (p95). "
        f"{sum(one.refused for one in purges)} were refused (503, Redis too slow) and repeated."
    )
    titles = ("index", "purge", "times", "p50, ms", "p95, ms", "max, ms", "entries named, most")
    raw = {"purges": [asdict(one) for one in purges], "sync_ms": list(sync_ms)}
    return Section("purges", "Purges", about, figures, titles, rows, raw)


def _order(group: tuple[str, int]) -> tuple[bool, str, int]:
    kind, number = group
    return (kind != "source", kind, number)
