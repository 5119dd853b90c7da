"""Debian's slowhttptest against a node with its default limits: `make slow`.

Four ways of holding on to a server, one after the other: heads (-H), bodies (-B) and answers (-X) a
few bytes at a time, and a great many overlapping ranges (-R). While each goes on, and after it, the
node is asked for thumbnails.
Exit status: 0 it served all the time, 1 it did not, 2 there is no slowhttptest.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.peers.node import Node, node, quote

CONNECTIONS = 300
LENGTH_S = 20
# slowhttptest ends by itself; what it leaves open is closed with it.
GRACE_S = 15
# An answer later than this is one that a visitor does not wait for.
SERVED_S = 1.0
EVERY_S = 0.05
LARGE_BYTES = 16 << 20
THUMBNAIL = "/photo.jpg?w=220"
COMMON = ("-c", str(CONNECTIONS), "-r", "150", "-l", str(LENGTH_S), "-p", "3")
ATTACKS = (
    ("-H", "slow heads", THUMBNAIL, ("-i", "1", "-x", "24")),
    ("-B", "slow bodies", THUMBNAIL, ("-i", "1", "-x", "24", "-s", "8192")),
    ("-X", "slow reading", "/large.jpg", ("-w", "1", "-y", "64", "-n", "1", "-z", "5", "-k", "3")),
    ("-R", "ranges", "/large.jpg", ("-a", "1", "-b", "3000")),
)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Result:
    name: str
    attackers: int = 0  # the most that were connected at once
    asked: int = 0
    failed: int = 0
    slowest_s: float = 0.0
    median_s: float = 0.0
    p99_s: float = 0.0
    said: str = ""  # by slowhttptest
    left: int = 0  # connections, when it was over
    is_well: bool = False

    @property
    def has_served(self) -> bool:
        return self.asked > 0 and self.failed == 0 and self.is_well


def ask(edge: Node, target: str) -> float | None:
    """Seconds to a whole 200, None for anything else."""
    begun = time.perf_counter()
    try:
        reply = edge.get(target)
    except OSError:
        return None
    took = time.perf_counter() - begun
    return took if reply.status == 200 and reply.body and took < SERVED_S else None


def attack(edge: Node, number: int) -> Result:
    flag, name, target, options = ATTACKS[number]
    result = Result(f"{flag} {name}")
    command = ["slowhttptest", flag, *COMMON, *options, "-u", f"http://{edge.public}{target}"]
    times = []
    with tempfile.TemporaryFile("w+") as said:
        attacker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        late_at = time.monotonic() + LENGTH_S + GRACE_S
        try:
            while attacker.poll() is None and time.monotonic() < late_at:
                took = ask(edge, THUMBNAIL)
                result.asked += 1
                if took is None:
                    result.failed += 1
                else:
                    times.append(took)
                if result.asked % 10 == 0:
                    open_now = int(edge.metrics()["halftone_connections"]) - 1
                    result.attackers = max(result.attackers, open_now)
                time.sleep(EVERY_S)
        finally:
            attacker.kill()
            attacker.wait()
        said.seek(0)
        lines = [COLOUR.sub("", line).strip() for line in said]
    if times:
        times.sort()
        result.median_s, result.p99_s, result.slowest_s = (
            times[min(int(len(times) * part), len(times) - 1)] for part in (0.5, 0.99, 1)
        )
    seen = [line.split()[-1] for line in lines if line.startswith("service available:")]
    ends = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Exit status:")]
    result.said = f"{'down' if 'NO' in seen else 'up'}; {ends[-1] if ends else 'no status'}"
    # One from memory and one that has to be made.
    fresh = f"/photo.jpg?w={100 + number}"
    result.is_well = all(ask(edge, one) is not None for one in (THUMBNAIL, fresh))
    result.left = int(edge.metrics()["halftone_connections"]) - 1
    return result


def report(results: list[Result]) -> None:
    print(
        f"{'attack':<16}{'attackers':>10}{'asked':>7}{'failed':>8}{'median':>10}{'p99':>10}{'slowest':>10}"
        f"{'after':>7}{'left':>6}  slowhttptest says"
    )
    for one in results:
        times = (one.median_s, one.p99_s, one.slowest_s)
        print(
            f"{one.name:<16}{one.attackers:>10}{one.asked:>7}{one.failed:>8}"
            f"{''.join(f'{1000 * time_s:>7.1f} ms' for time_s in times)}"
            f"{'well' if one.is_well else 'ILL':>7}{one.left:>6}  {one.said}"
        )


def main() -> int:
    if shutil.which("slowhttptest") is None:
        print("slowhttptest is not installed", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals = folder / "originals"
        originals.mkdir()
        Image.effect_noise((1600, 900), 60).save(originals / "photo.jpg")
        with (originals / "large.jpg").open("wb") as large:
            large.truncate(LARGE_BYTES)
        with node(folder, f"[[site]]\nroot = {quote(originals)}\n") as edge:
            if ask(edge, THUMBNAIL) is None:
                print("the node does not serve to begin with", file=sys.stderr)
                return 1
            results = []
            for number, (flag, name, *_) in enumerate(ATTACKS):
                print(f"{flag} {name}: {CONNECTIONS} connections, {LENGTH_S} s", flush=True)
                results.append(attack(edge, number))
            print()
            report(results)
    return 0 if all(one.has_served for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
