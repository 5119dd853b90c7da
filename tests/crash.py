"""A node that is killed at random under load, again and again: `make crash`.

Eight readers ask for derivatives of a few photographs and now and then one is purged, in a cache so
small that it evicts all the time. After a random number of answers the whole node gets SIGKILL, in
the middle of whatever it was doing, and is started again. Every answer must be whole and right: a
derivative always has the same bytes. Temp files of the dead must be gone soon after the next start,
and after the last one `halftone fsck` must find nothing wrong; where a kill came between the index
and a file the two differ, harmlessly, and --fix puts all of that right.
Exit status: 0 all of that held, 1 it did not.
"""

import argparse
import contextlib
import hashlib
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tests.peers.node import Node, ask, node, quote, until

KILLS = 100
READERS = 8
PICTURES = 4
WIDTHS = range(40, 390, 5)
# Answers before a kill, at random up to so many: from "has hardly started" to "is busy evicting".
MOST_ANSWERS = 150
PURGE_EVERY = 40
# Holds some eighty of the 280 derivatives, each of which takes 8 to 32 KiB. No less, since a fill
# claims 68 KiB to begin with, and an eighth of the cache at most.
CONFIGURATION = '[cache]\nsize = "1MiB"\nmin_free = 0\n[log]\naccess = "off"\n'


@dataclass
class Score:
    """What the readers have seen, over all lives of the node."""

    answers: int = 0
    hits: int = 0
    purges: int = 0
    cut: int = 0  # connections that ended with the node
    wrong: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, target: str, status: int, is_hit: bool, body: bytes) -> int:
        digest = hashlib.sha256(body).hexdigest()
        with self.lock:
            self.answers += 1
            self.hits += is_hit
            if status != 200:
                self.wrong.append(f"{target}: {status}")
            elif self.digests.setdefault(target, digest) != digest:
                self.wrong.append(f"{target}: {len(body)} bytes that are not its own")
            return self.answers


def read(edge: Node, score: Score, chance: random.Random, enough: threading.Event, at: int) -> None:
    """Asks until the node is dead."""
    connection = http.client.HTTPConnection(edge.public, timeout=10)
    with contextlib.closing(connection):
        while True:
            target = f"/{chance.randrange(PICTURES)}.jpg?w={chance.choice(WIDTHS)}"
            try:
                if chance.randrange(PURGE_EVERY) == 0:
                    path = target.partition("?")[0]
                    reply = ask(edge.admin, path, "PURGE", {"Host": "any"})
                    if reply.status != 200:
                        score.wrong.append(f"PURGE {path}: {reply.status}")
                    score.purges += 1
                connection.request("GET", target)
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException):
                score.cut += 1
                return
            is_hit = "; hit" in response.headers.get("Cache-Status", "")
            if score.take(target, response.status, is_hit, body) >= at:
                enough.set()


def live(folder: Path, configuration: str, score: Score, chance: random.Random) -> float:
    """One life, from start to kill; seconds that the start took."""
    began = time.monotonic()
    with node(folder, configuration) as edge:
        took = time.monotonic() - began
        left_behind = temp_files(folder)
        enough = threading.Event()
        at = score.answers + chance.randrange(1, MOST_ANSWERS)
        readers = [
            threading.Thread(
                target=read, args=(edge, score, random.Random(chance.random()), enough, at)
            )
            for _ in range(READERS)
        ]
        for reader in readers:
            reader.start()
        is_reached = enough.wait(60)
        until(
            lambda: not left_behind & temp_files(folder), "the temp files of the dead are gone", 30
        )
        edge.kill()
        for reader in readers:
            reader.join()
        if not is_reached:
            score.wrong.append(f"only {score.answers} answers, {at} were waited for")
    return took


def temp_files(folder: Path) -> set[str]:
    return {str(path) for path in (folder / "cache").rglob(".tmp-*")}


def check(folder: Path, configuration: str, kills: int) -> list[str]:
    """What fsck finds, asked of a node that is at peace."""
    with node(folder, configuration) as edge:
        until(lambda: not temp_files(folder), "the temp files of the dead are gone", 30)
        found, _, mended = (fsck(edge, fix) for fix in (0, 1, 0))
    wrong = [str(problem) for problem in (*found["problems"], *mended["problems"])]
    wrong += [f"--fix left it: {one}" for one in mended["differences"]]
    # Each kill meets one fill, eviction or purge of each reader.
    if len(found["differences"]) > kills * READERS:
        wrong.append(f"{len(found['differences'])} differences between files and index")
    return wrong


def fsck(edge: Node, fix: int) -> dict[str, list[object]]:
    reply = ask(edge.admin, f"/fsck?fix={fix}", "POST")
    assert reply.status == 200, reply.body
    found: dict[str, list[object]] = json.loads(reply.body)
    print(f"fsck, fix={fix}:", {name: value for name, value in found.items() if value})
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    chance = random.Random(seed)
    score = Score()
    starts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals = folder / "originals"
        originals.mkdir()
        for number in range(PICTURES):
            Image.effect_noise((400, 300), 20 + 30 * number).save(originals / f"{number}.jpg")
        configuration = CONFIGURATION + f"[[site]]\nroot = {quote(originals)}\n"
        print(f"{arguments.kills} kills, seed {seed}", flush=True)
        for _ in range(arguments.kills):
            starts.append(live(folder, configuration, score, chance))
            if score.wrong:
                break
        wrong = score.wrong or check(folder, configuration, len(starts))
    if not score.hits:
        wrong.append("no hit at all: nothing was put to the test")
    starts.sort()
    print(
        f"{len(starts)} lives, {score.answers} answers, {score.hits} hits, {score.purges} purges,"
        f" {score.cut} connections cut; a start took {starts[len(starts) // 2]:.2f} s,"
        f" {starts[-1]:.2f} at the most"
    )
    for line in wrong[:20]:
        print("wrong:", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
