"""One contract for the fake responder and the real php-fpm: what holds for one holds for both."""

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from edge.origin.address import Address
from edge.origin.errors import OriginBroken, OriginTruncated
from edge.origin.exchange import Deadlines
from edge.origin.fastcgi.client import FastCGIClient, FastCGIResponse
from edge.origin.fastcgi.params import Script
from edge.origin.messages import Headers
from tests.edge.origin.asking import GET, LOGGER, LOOPS, PATIENT, SCRIPT, Witness, read_all, run
from tests.peers.fastcgi import fastcgi_peer, pictures
from tests.peers.phpfpm import PROGRAM, PhpFpm, php_fpm

needs_php = pytest.mark.skipif(PROGRAM is None, reason="php-fpm8.2 is not installed")
PEERS = [
    "fake",
    "fake-unix",
    pytest.param("php", marks=needs_php),
    pytest.param("php-tcp", marks=needs_php),
]
LARGE = os.urandom(1_500_000)  # more than one record, more than every buffer
MODIFIED = 1_700_000_000
MODIFIED_TEXT = "Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    (folder / "sub").mkdir()
    for name, data in {
        "small.jpg": b"\xff\xd8\xff small",
        "sub/żółw.png": b"\x89PNG",
        "large.jpg": LARGE,
        "empty.jpg": b"",
    }.items():
        (folder / name).write_bytes(data)
        os.utime(folder / name, (MODIFIED, MODIFIED))
    (folder.parent / "secret.jpg").write_bytes(b"secret")
    (folder / "link.jpg").symlink_to("../secret.jpg")
    return folder


@pytest.fixture(scope="module")
def php(originals: Path) -> Iterator[PhpFpm]:
    with php_fpm(originals) as running:
        yield running


@pytest.fixture(scope="module")
def php_tcp(originals: Path) -> Iterator[PhpFpm]:
    with php_fpm(originals, tcp=True) as running:
        yield running


@dataclasses.dataclass
class Origin:
    address: Address
    script: Script

    async def ask(
        self, path: str, method: str = "GET", headers: Headers = (), target: str | None = None
    ) -> FastCGIResponse:
        request = dataclasses.replace(
            GET, method=method, target=target or path, path=path, query="", headers=headers
        )
        client = FastCGIClient(self.script, PATIENT, LOGGER)
        return await client.fetch(self.address, request, Witness())


@pytest.fixture(params=PEERS)
def origin(
    request: pytest.FixtureRequest, originals: Path, tmp_path: Path
) -> contextlib.AbstractAsyncContextManager[Origin]:
    @contextlib.asynccontextmanager
    async def running() -> AsyncIterator[Origin]:
        if request.param.startswith("php"):
            php: PhpFpm = request.getfixturevalue(request.param.replace("-", "_"))
            yield Origin(php.address, php.script)
            return
        path = str(tmp_path / "s") if request.param == "fake-unix" else None
        async with fastcgi_peer(pictures(originals), path=path) as peer:
            yield Origin(peer.address, SCRIPT)

    if request.param.startswith("php"):
        request.getfixturevalue(request.param.replace("-", "_"))  # started outside the loop
    return running()


Running = contextlib.AbstractAsyncContextManager[Origin]


@pytest.mark.parametrize("loop", LOOPS)
def test_picture(origin: Running, loop: str) -> None:
    async def main() -> None:
        async with origin as it:
            for path, target, kind, size in [
                ("/small.jpg", "/small.jpg", "image/jpeg", 9),
                ("/sub/żółw.png", "/sub/%C5%BC%C3%B3%C5%82w.png", "image/png", 4),
                ("/empty.jpg", "/empty.jpg", "image/jpeg", 0),
                ("/large.jpg", "/large.jpg", "image/jpeg", len(LARGE)),
            ]:
                response = await it.ask(path, target=target)
                fields = dict(response.headers)
                assert response.status == 200
                assert response.content_length == size
                assert fields["content-type"] == kind
                assert fields["last-modified"] == MODIFIED_TEXT
                assert fields["cache-control"] == "public, max-age=3600"
                assert fields["etag"] == f'"{MODIFIED:x}-{size:x}"'
                assert "content-length" not in fields
                assert "x-powered-by" not in fields
                body = await read_all(response)
                assert len(body) == size
                assert size != len(LARGE) or body == LARGE
                assert response.is_cacheable

    run(main(), loop)


def test_head(origin: Running) -> None:
    async def main() -> None:
        async with origin as it:
            response = await it.ask("/large.jpg", "HEAD")
            assert (response.status, response.content_length) == (200, len(LARGE))
            assert await read_all(response) == b""
            assert response.is_cacheable

    run(main())


def test_not_modified(origin: Running) -> None:
    etag = f'"{MODIFIED:x}-9"'
    cases: list[tuple[Headers, int]] = [
        ((("If-None-Match", etag),), 304),
        ((("If-None-Match", '"other"'),), 200),
        ((("If-Modified-Since", MODIFIED_TEXT),), 304),
        ((("If-None-Match", '"other"'), ("If-Modified-Since", MODIFIED_TEXT)), 200),
    ]

    async def main() -> None:
        async with origin as it:
            for headers, status in cases:
                response = await it.ask("/small.jpg", headers=headers)
                assert response.status == status, headers
                assert dict(response.headers)["etag"] == etag
                assert len(await read_all(response)) == (9 if status == 200 else 0)
                assert response.is_cacheable

    run(main())


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/missing.jpg", "GET", 404),
        ("/sub", "GET", 404),
        ("/", "GET", 404),
        ("/../secret.jpg", "GET", 404),
        ("/sub/../../secret.jpg", "GET", 404),
        ("/small.jpg", "DELETE", 405),
    ],
)
def test_refusals(origin: Running, path: str, method: str, status: int) -> None:
    async def main() -> None:
        async with origin as it:
            response = await it.ask(path, method)
            assert response.status == status
            assert b"secret" not in await read_all(response)

    run(main())


def test_requests_are_counted_across_the_children(origin: Running) -> None:
    async def main() -> None:
        async with origin as it:
            counts = []
            for _ in range(4):
                response = await it.ask("/small.jpg")
                counts.append(int(dict(response.headers)["x-requests"]))
                await read_all(response)
            assert counts == list(range(counts[0], counts[0] + 4))

    run(main())


def test_many_at_once(origin: Running) -> None:
    async def fetch(it: Origin, path: str) -> int:
        response = await it.ask(path)
        return len(await read_all(response))

    async def main() -> None:
        async with origin as it:
            asking = [fetch(it, path) for path in ("/small.jpg", "/large.jpg") * 10]
            assert await asyncio.gather(*asking) == [9, len(LARGE)] * 10

    run(main())


# What only the real one can show.


@needs_php
def test_php_stays_inside(php: PhpFpm) -> None:
    it = Origin(php.address, php.script)

    async def main() -> None:
        for path in ("/link.jpg", "/small.jpg/", "/./small.jpg", "//small.jpg", "/sub\\..\\x"):
            response = await it.ask(path, target="/x")
            assert response.status == 404, path
            assert b"secret" not in await read_all(response)

    run(main())


@needs_php
def test_primary_script_unknown(php: PhpFpm) -> None:
    """php-fpm answers 404 and says why on STDERR."""

    async def main() -> None:
        response = await Origin(php.address, Script("/nowhere/index.php")).ask("/small.jpg")
        assert response.status == 404
        await read_all(response)

    run(main())


FAULTY = """<?php
header('X-Pid: ' . getmypid());
header('Content-Type: image/jpeg');
header('Content-Length: 100');
while (ob_get_level() > 0) { ob_end_clean(); }
switch ($_SERVER['DOCUMENT_URI']) {
    case '/early': posix_kill(getmypid(), 9);
    case '/half': echo 'half'; flush(); posix_kill(getmypid(), 9);
    case '/short': echo 'short'; exit;
    case '/long': echo str_repeat('x', 101); exit;
    case '/stderr': error_log("one\\ntwo"); echo str_repeat('x', 100); exit(3);
    case '/body': echo str_pad(file_get_contents('php://input'), 100); exit;
}
"""


@needs_php
def test_php_that_fails(originals: Path, tmp_path: Path) -> None:
    """Killed before and inside its answer; bodies too short and too long."""
    (tmp_path / "faulty.php").write_text(FAULTY)

    async def main(php: PhpFpm) -> None:
        it = Origin(php.address, php.script)
        with pytest.raises(OriginBroken) as early:
            await it.ask("/early")
        assert not early.value.has_begun
        for path in ("/half", "/short"):
            response = await it.ask(path)
            with pytest.raises(OriginTruncated):
                await read_all(response)
            assert not response.is_cacheable
        response = await it.ask("/long")
        assert await read_all(response) == b"x" * 100
        assert not response.is_cacheable
        response = await it.ask("/stderr")
        assert await read_all(response) == b"x" * 100
        posted = dataclasses.replace(
            GET, method="POST", path="/body", headers=(("Content-Type", "a/b"),), body=b"y" * 90
        )
        response = await FastCGIClient(php.script, Deadlines(), LOGGER).fetch(
            it.address, posted, Witness()
        )
        assert await read_all(response) == b"y" * 90 + b" " * 10

    with php_fpm(originals, application=tmp_path / "faulty.php") as php:
        run(main(php))
