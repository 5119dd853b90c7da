"""The herd: many clients at once ask for one thumbnail that nobody has.

When a render ends is known to the resizer alone, so the time from there to the slowest answer is
told by two bounds. At most: from the first request sent to the last byte of the slowest answer,
less the time of decoding and rendering in its Server-Timing; whatever came before the render
(accepting 500 requests, fetching the original) counts as if it came after. At least: from the
first byte of the quickest answer to the last byte of the slowest.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tests.bench import proc
from tests.bench.cache_node import CacheNode, Origin
from tests.bench.crowd import Answer, Crowd, CrowdError, checked, crowd, get
from tests.bench.machine import REPOSITORY
from tests.bench.measure import GENERATOR_CORE, SERVER_CORE
from tests.bench.render_report import Figure
from tests.bench.sections import Section
from tests.peers.phpfpm import php_fpm

PHOTOGRAPH = "/usr/share/backgrounds/mate/nature/Garden.jpg"
WIDTH = 220
CLIENTS = 500
MOST_MS = 100.0
ROUNDS = 9
QUICK_ROUNDS = 3
RENDER = re.compile(r"render;dur=([0-9.]+)")
RENDERED = 'halftone_renders_total{result="rendered"}'
APPLICATION = os.path.join(REPOSITORY, "deploy", "origin", "index.php")
# A hit that every connection asks for first, so that the node has accepted all of them.
KNOWN = "/known.jpg"


@dataclass(frozen=True, slots=True)
class Round:
    """fetches: what the application counted. waited: clients that came before the picture was
    there; the others had a hit. Times are bounds; see above."""

    kind: str
    renders: float
    fetches: int
    waited: int
    render_ms: float
    slowest_ms: float
    at_most_ms: float
    at_least_ms: float


def measure(folder: str, quick: bool, say: Callable[[str], None]) -> Section:
    rounds = QUICK_ROUNDS if quick else ROUNDS
    root = os.path.join(folder, "originals")
    os.mkdir(root)
    picture = Path(PHOTOGRAPH).read_bytes()
    Path(root, "photograph.jpg").write_bytes(picture)
    os.link(f"{root}/photograph.jpg", root + KNOWN)
    found: list[Round] = []
    say("herd: docroot")
    node = CacheNode(SERVER_CORE, "herd-docroot", root=root)
    found += _rounds(node, "docroot", root, folder, rounds, lambda: 0)
    with php_fpm(Path(root), application=Path(APPLICATION)) as fpm:
        say("herd: origin")
        proc.pin(proc.tree(fpm.pid), GENERATOR_CORE)
        assert fpm.address.path is not None
        origin = Origin(fpm.address.path, APPLICATION)
        node = CacheNode(SERVER_CORE, "herd-origin", origin=origin)
        found += _rounds(node, "origin", root, folder, rounds, lambda: fpm.requests)
    return section(found, len(picture))


def _rounds(
    node: CacheNode, kind: str, root: str, folder: str, rounds: int, visits: Callable[[], int]
) -> list[Round]:
    own = os.path.join(folder, node.name)
    os.mkdir(own)
    found = []
    try:
        node.begin(own)
        proc.pin(node.resizers(), GENERATOR_CORE)
        with crowd(node.port(), 1) as alone:
            checked(alone.ask([get(f"{KNOWN}?w={WIDTH}")]), "a first render")
        for number in range(rounds):
            path = f"/{kind}-{number}.jpg"
            os.link(f"{root}/photograph.jpg", root + path)
            with crowd(node.port(), CLIENTS) as herd:
                checked(herd.ask([get(KNOWN)] * CLIENTS), "a hit before the herd")
                fetched, rendered = visits(), node.metrics()[RENDERED]
                answers = _stampede(herd, f"{path}?w={WIDTH}")
                found.append(
                    judge(
                        kind,
                        answers,
                        node.metrics()[RENDERED] - rendered,
                        visits() - fetched,
                    )
                )
    finally:
        node.stop()
    return found


def _stampede(herd: Crowd, target: str) -> list[Answer]:
    answers = checked(herd.ask([get(target)] * CLIENTS), "the herd")
    if len({answer.body for answer in answers}) != 1:
        raise CrowdError("the herd was answered with different bytes")
    return answers


def judge(kind: str, answers: Sequence[Answer], renders: float, fetches: int) -> Round:
    asked_at = min(answer.asked_at for answer in answers)
    last = max(answers, key=lambda answer: answer.ended_at)
    match = RENDER.search(last.fields.get("server-timing", ""))
    # A client that came after all was over had a hit, and no word of the render.
    timed = match or next(
        (m for a in answers if (m := RENDER.search(a.fields.get("server-timing", "")))), None
    )
    if timed is None:
        raise CrowdError("no answer of the herd tells the time of the render")
    render_ms = float(timed[1])
    slowest_ms = (last.ended_at - asked_at) * 1000
    first = min(answer.began_at for answer in answers)
    return Round(
        kind,
        renders,
        fetches,
        sum("fwd=" in answer.fields.get("cache-status", "") for answer in answers),
        render_ms,
        slowest_ms,
        slowest_ms - render_ms,
        (last.ended_at - first) * 1000,
    )


def section(rounds: Sequence[Round], source_bytes: int) -> Section:
    figures: list[Figure] = []
    rows = []
    for kind in dict.fromkeys(one.kind for one in rounds):
        mine = [one for one in rounds if one.kind == kind]
        bound = [one.at_most_ms for one in mine]
        renders = {one.renders for one in mine}
        fetches = {one.fetches for one in mine}
        expected = 1 if kind == "origin" else 0
        what = f"{CLIENTS} at once, one cold thumbnail, {kind}"
        figures += [
            Figure(
                f"{what}: fetches, renders",
                f"{expected}, 1",
                f"{_numbers(fetches)}, {_numbers(renders)}",
                fetches == {expected} and renders == {1},
            ),
            Figure(
                f"{what}: slowest answer after the render's end, upper bound",
                f"<= {MOST_MS:g} ms",
                f"{median(bound):.0f} ms, at most {max(bound):.0f} in {len(mine)} rounds",
                max(bound) <= MOST_MS,
            ),
        ]
        rows.append(
            [
                kind,
                str(len(mine)),
                f"{median(one.waited for one in mine):.0f}",
                f"{median(one.render_ms for one in mine):.1f}",
                f"{median(one.slowest_ms for one in mine):.0f}",
                f"{median(one.at_least_ms for one in mine):.0f}",
                f"{median(bound):.0f}",
                f"{max(bound):.0f}",
            ]
        )
    about = (
        f"{CLIENTS} connections, each of which has had one hit, then ask at once for the same "
        f"{WIDTH}-pixel thumbnail of a photograph of {source_bytes:,} bytes under a name never "
        "asked for before; the node's worker has one core, resizers, clients and php-fpm the "
        "other. When the render ended is bounded: at most is the time from the first request sent "
        "to the last byte of the slowest answer, less decoding and rendering as Server-Timing "
        "tells them, so what came before the render counts as if it came after; at least is from "
        "the quickest answer's first byte to the slowest one's last. Who came when the picture was "
        "there already had a hit; the others waited. Renders are counted by the "
        "node, fetches by the application."
    )
    titles = (
        "original from",
        "rounds",
        "waited",
        "render, ms",
        "slowest answer from the start, ms",
        "after the render's end at least, ms",
        "at most, ms",
        "at most, worst round, ms",
    )
    raw = {"rounds": [asdict(one) for one in rounds]}
    return Section("herd", f"A herd of {CLIENTS}", about, figures, titles, rows, raw)


def _numbers(values: set[float] | set[int]) -> str:
    return " to ".join(f"{value:g}" for value in sorted(values))
