"""A film of 6 GiB from php-fpm through a node to a slow client: python -m tests.bench.stream

    --gib N      its size (6)
    --mib-s N    how fast the client takes it (400); an origin and a disk are faster
    --no-store   it may not be kept, and goes through a few short files

Sampled every tenth of a second: the memory of the node's worker, and the disk that its open files
take. Afterwards a Range is asked for, which must come from the disk. Exit status: 0 within
40 MiB of growth and whole, 1 not so.
"""

import argparse
import hashlib
import http.client
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.bench import proc
from tests.peers.node import Node, ask, node, quote, until
from tests.peers.phpfpm import php_fpm

MIB = 1 << 20
MOST_GROWTH = 40 * MIB
EVERY_S = 0.1
# Every megabyte begins with its number, so that a piece in the wrong place is seen.
SCRIPT = """<?php
if ($_SERVER['REQUEST_URI'] !== '/film.mp4') {{
    http_response_code(404);
    exit;
}}
$size = {mib};
header('Content-Type: video/mp4');
header('Content-Length: ' . ($size * 1048576));
header('Cache-Control: {control}');
header('ETag: "film"');
set_time_limit(0);
$rest = str_repeat('0123456789abcdef', 65536 - 1);
for ($i = 0; $i < $size; $i++) {{
    echo sprintf('%016d', $i), $rest;
    flush();
}}
"""
REST = b"0123456789abcdef" * 65535


class Sampler(threading.Thread):
    """The most that was seen since start()."""

    def __init__(self, edge: Node, folder: Path) -> None:
        super().__init__(daemon=True)
        (self._worker,) = edge.workers()
        self._folder = folder
        self._ended = threading.Event()
        self.before = self.memory()
        self.memory_most = self.before
        self.disk_most = 0

    def memory(self) -> int:
        return proc.parse_kib(Path(f"/proc/{self._worker}/status").read_text(), "VmRSS")

    def disk(self) -> int:
        """Of files with and without names, as the worker has them open."""
        seen = {}
        for link in Path(f"/proc/{self._worker}/fd").iterdir():
            try:
                if str(link.readlink()).startswith(str(self._folder)):
                    status = link.stat()
                    seen[status.st_ino] = status.st_blocks * 512
            except OSError:
                continue
        return sum(seen.values())

    def run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.memory_most = max(self.memory_most, self.memory())
            self.disk_most = max(self.disk_most, self.disk())

    def end(self) -> None:
        self._ended.set()
        self.join()


def take(edge: Node, size_mib: int, mib_s: float) -> tuple[float, float, bool]:
    """Seconds to the first byte and to the last, and whether every byte was the right one."""
    connection = http.client.HTTPConnection(edge.public, timeout=120)
    began = time.monotonic()
    connection.request("GET", "/film.mp4")
    reply = connection.getresponse()
    room = memoryview(bytearray(MIB))
    is_right, first_s = reply.status == 200, 0.0
    expected, digest = hashlib.sha256(REST).digest(), hashlib.sha256
    for number in range(size_mib):
        have = 0
        while have < MIB:
            count = reply.readinto(room[have:])
            if count == 0:
                return first_s, time.monotonic() - began, False
            first_s = first_s or time.monotonic() - began
            have += count
        is_right &= room[:16] == b"%016d" % number
        # Hashing every one would make a client of a gigabyte a second impossible.
        if number % 16 == 0:
            is_right &= digest(room[16:]).digest() == expected
        ahead_s = number / mib_s - (time.monotonic() - began)
        if ahead_s > 0:
            time.sleep(ahead_s)
    connection.close()
    return first_s, time.monotonic() - began, is_right


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=6)
    parser.add_argument("--mib-s", type=float, default=400)
    parser.add_argument("--no-store", action="store_true")
    options = parser.parse_args()
    mib = int(options.gib * 1024)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "film.php"
        control = "no-store" if options.no_store else "max-age=3600"
        script.write_text(SCRIPT.format(mib=mib, control=control))
        with php_fpm(folder, application=script) as php:
            configuration = (
                f'[cache]\nsize = "{mib * 9}MiB"\n'
                f'[[origin]]\nname = "app"\nhosts = [{quote(php.address)}]\n'
                f'script_filename = {quote(script)}\n[[site]]\norigin = "app"\n'
            )
            with node(folder, configuration) as edge:
                ask(edge.public, "/")  # whatever the first request brings with it
                sampler = Sampler(edge, folder / "cache")
                sampler.start()
                first_s, took_s, is_right = take(edge, mib, options.mib_s)
                sampler.end()
                growth = sampler.memory_most - sampler.before
                print(
                    f"{mib} MiB in {took_s:.1f} s, the first byte after {1000 * first_s:.0f} ms; "
                    f"memory grew by {growth / MIB:.1f} MiB from {sampler.before / MIB:.1f}; "
                    f"open files took {sampler.disk_most / MIB:.0f} MiB of disk at most; "
                    f"{'whole' if is_right else 'WRONG'}"
                )
                is_well = is_right and growth < MOST_GROWTH
                if not options.no_store:
                    is_well &= asks_a_range(edge, mib)
                return 0 if is_well else 1


def asks_a_range(edge: Node, mib: int) -> bool:
    until(lambda: edge.metrics()["halftone_arrivals_under_way"] == 0, "it is stored")
    first = (mib - 1) * MIB
    began = time.monotonic()
    reply = edge.get("/film.mp4", headers={"Range": f"bytes={first}-{first + 15}"})
    took_s = time.monotonic() - began
    print(f"a Range at its end: {reply.status}, {reply.cache_status}, {1000 * took_s:.1f} ms")
    return reply.status == 206 and reply.is_hit and reply.body == b"%016d" % (mib - 1)


if __name__ == "__main__":
    sys.exit(main())
