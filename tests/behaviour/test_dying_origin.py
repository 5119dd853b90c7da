"""A whole node before real php-fpm hosts that are killed while it is asked."""

import threading
from pathlib import Path

from tests.behaviour.conftest import draw
from tests.peers.node import Node, Reply, node, quote, until
from tests.peers.phpfpm import PhpFpm, php_fpm

PICTURES = 40
CLIENTS = 4
# Each of these may answer a GET when nobody is there to ask (facts of the field: refused or cut
# before its head is 502, late 504, a breaker or a limit 503).
NOBODY = {502, 503, 504}
APPLICATION = """<?php
$path = $_SERVER['DOCUMENT_URI'];
if ($path === '/echo') {
    header('Content-Type: text/plain');
    header('Cache-Control: no-store');
    echo $_SERVER['REQUEST_METHOD'], ' ', file_get_contents('php://input');
    exit;
}
header('Content-Type: image/jpeg');
header('ETag: "' . md5($path) . '"');
header('Cache-Control: max-age=1, stale-if-error=600');
readfile(getenv('ORIGINALS') . '/' . basename($path));
"""


class Load(threading.Thread):
    """Asks for pictures in turn, each in widths that were not asked for before, and for a page."""

    def __init__(self, edge: Node, number: int) -> None:
        super().__init__(name=f"load {number}")
        self.replies: list[tuple[str, Reply]] = []
        self.is_over = threading.Event()
        self.has_asked = threading.Event()
        self._edge = edge
        self._number = number

    def run(self) -> None:
        width = 20 + self._number * 50
        while not self.is_over.is_set():
            for picture in range(self._number, PICTURES, CLIENTS):
                for target in (f"/{picture}.jpg", f"/{picture}.jpg?w={width}", "/echo"):
                    self.replies.append((target, self._edge.get(target)))
                    self.has_asked.set()
            width += 1


def origin_of(hosts: list[PhpFpm], filename: Path) -> str:
    named = ", ".join(quote(host.address) for host in hosts)
    return (
        f'[[origin]]\nname = "app"\nhosts = [{named}]\nscript_filename = {quote(filename)}\n'
        '[[site]]\norigin = "app"\n'
    )


def test_one_dies_and_then_the_other(tmp_path: Path) -> None:
    pictures, filename = tmp_path / "pictures", tmp_path / "app.php"
    pictures.mkdir()
    filename.write_text(APPLICATION)
    for number in range(PICTURES):
        draw(200 + number, 100).save(pictures / f"{number}.jpg", quality=90)
    with (
        php_fpm(pictures, application=filename) as first,
        php_fpm(pictures, application=filename) as second,
        node(tmp_path, origin_of([first, second], filename)) as edge,
    ):
        loads = [Load(edge, number) for number in range(CLIENTS)]
        for load in loads:
            load.start()
        try:
            assert all(load.has_asked.wait(20) for load in loads)
            asked = sum(len(load.replies) for load in loads)
            first.kill()
            # It is under load: as many again, and all pictures at least once.
            while sum(len(load.replies) for load in loads) < asked + 4 * PICTURES:
                assert all(load.is_alive() for load in loads)
                loads[0].is_over.wait(0.01)
        finally:
            for load in loads:
                load.is_over.set()
            for load in loads:
                load.join(30)
        failed = [
            (target, reply.status, reply.body[:100])
            for load in loads
            for target, reply in load.replies
            if reply.status != 200
        ]
        assert not failed
        assert edge.get("/echo", "POST", body=b"a=1").body == b"POST a=1"

        second.kill()
        for target in ("/0.jpg", "/0.jpg?w=20"):
            seen = edge.get(target)
            assert seen.status == 200, (target, seen.status, seen.cache_status)
        # What is over its second is stale by now, and says how old it is.
        first_age = int(edge.get("/1.jpg").headers["age"])
        seen = []

        def has_aged() -> bool:
            seen.append(edge.get("/1.jpg"))
            return int(seen[-1].headers["age"]) >= first_age + 2

        until(has_aged, "the Age of what is stale grows")
        assert {reply.status for reply in seen} == {200}
        assert {reply.body for reply in seen} == {(pictures / "1.jpg").read_bytes()}
        assert "stale-if-error" in seen[-1].cache_status
        for target, method in (("/new.jpg", "GET"), ("/echo", "GET"), ("/echo", "POST")):
            for _ in range(6):  # from the first refusal to the open breaker
                reply = edge.get(target, method, body=b"x" if method == "POST" else None)
                assert reply.status in NOBODY, (target, method, reply.status)
                assert reply.headers["cache-control"] == "no-store"
                assert reply.status != 503 or int(reply.headers["retry-after"]) >= 1
