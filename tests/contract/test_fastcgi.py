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
from edge.origin.exchange import Deadlines, Result
from edge.origin.fastcgi.client import FastCGIClient
from edge.origin.fastcgi.params import Script
from edge.origin.fastcgi.response import FastCGIResponse
from edge.origin.host import HostState
from edge.origin.messages import Headers, OriginRequest, RequestBody
from edge.origin.pool import OriginPool
from tests.edge.origin.asking import GET, LOGGER, LOOPS, PATIENT, SCRIPT, Witness, read_all, run
from tests.peers.fastcgi import fastcgi_peer, pictures
from tests.peers.phpfpm import PROGRAM, PhpFpm, php_fpm
from tests.waiting import until

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
    """php-fpm answers 404 and says why on STDERR: no picture is missing, the setting is wrong."""

    async def main() -> None:
        with pytest.raises(OriginBroken, match="script_filename"):
            await Origin(php.address, Script("/nowhere/index.php")).ask("/small.jpg")

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


ECHO = """<?php
header('Content-Type: application/octet-stream');
$body = file_get_contents('php://input');
header('X-Pid: ' . getmypid());
header('X-Length: ' . $_SERVER['CONTENT_LENGTH']);
header('Content-Length: ' . strlen($body));
while (ob_get_level() > 0) { ob_end_clean(); }
echo $body;
"""


@dataclasses.dataclass
class Pattern:
    """A RequestBody whose every byte says where it stands."""

    length: int

    def __len__(self) -> int:
        return self.length

    async def read(self, size: int, offset: int) -> bytes:
        size = min(size, self.length - offset)
        start = offset % len(LARGE)
        return (LARGE[start:] + LARGE)[:size]


@pytest.fixture(scope="module")
def echo(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PhpFpm]:
    application = tmp_path_factory.mktemp("echo") / "echo.php"
    application.write_text(ECHO)
    with php_fpm(originals, application=application) as running:
        yield running


def posting(body: bytes | RequestBody) -> OriginRequest:
    headers = (("Content-Type", "application/octet-stream"),)
    return dataclasses.replace(GET, method="POST", path="/", headers=headers, body=body)


@needs_php
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("keep", [0, 1])
def test_post_passes_with_its_body(echo: PhpFpm, keep: int, loop: str) -> None:
    async def main() -> None:
        client = FastCGIClient(echo.script, PATIENT, LOGGER, keep=keep)
        for body, expected in [
            (b"", b""),
            (b"a=b", b"a=b"),
            (LARGE[:1_000_000], LARGE[:1_000_000]),
            (Pattern(0), b""),
            (Pattern(4_000_000), (LARGE * 3)[:4_000_000]),
        ]:
            response = await client.fetch(echo.address, posting(body), Witness())
            assert dict(response.headers)["x-length"] == str(len(expected))
            assert await read_all(response) == expected
        await client.aclose()

    run(main(), loop)


@needs_php
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("tcp", [False, True])
def test_kept_connections(
    php: PhpFpm, php_tcp: PhpFpm, echo: PhpFpm, loop: str, *, tcp: bool
) -> None:
    """One connection is one worker of php-fpm, for as long as it is kept."""
    it = php_tcp if tcp else php

    async def main() -> None:
        client = FastCGIClient(it.script, PATIENT, LOGGER, keep=1)
        for number in range(20):
            request = dataclasses.replace(GET, target="/small.jpg", path="/small.jpg", query="")
            method = "HEAD" if number % 3 == 1 else "GET"
            response = await client.fetch(
                it.address, dataclasses.replace(request, method=method), Witness()
            )
            assert len(await read_all(response)) == (0 if method == "HEAD" else 9)
            assert response.is_cacheable
        assert (client.connections.opened, client.connections.reused) == (1, 19)
        # Given up in the middle: aborted, and drained or closed, but never mixed up.
        large = dataclasses.replace(GET, target="/large.jpg", path="/large.jpg", query="")
        for _ in range(5):
            response = await client.fetch(it.address, large, Witness())
            await response.read()
            await response.aclose()
            response = await client.fetch(it.address, large, Witness())
            assert await read_all(response) == LARGE
        await client.aclose()
        pids = set()
        for keep in (0, 1):
            client = FastCGIClient(echo.script, PATIENT, LOGGER, keep=keep)
            for _ in range(8):
                response = await client.fetch(
                    echo.address, dataclasses.replace(GET, headers=()), Witness()
                )
                await read_all(response)
                if keep:
                    pids.add(dict(response.headers)["x-pid"])
            await client.aclose()
        assert len(pids) == 1

    run(main(), loop)


@needs_php
@pytest.mark.parametrize("keep", [0, 1])  # 2 would hold every child of a host
def test_one_of_two_hosts_is_killed_under_load(originals: Path, keep: int) -> None:
    """Killed, not ended: whatever it had is lost, and no GET fails."""

    async def main(one: PhpFpm, other: PhpFpm) -> None:
        client = FastCGIClient(one.script, PATIENT, LOGGER, keep=keep)
        pool = OriginPool(
            "app",
            (one.address, other.address),
            client,
            clock=asyncio.get_running_loop().time,
            chance=lambda: 0.5,
            logger=LOGGER,
        )
        request = dataclasses.replace(GET, target="/small.jpg", path="/small.jpg", query="")
        answered = 0
        is_over = False

        async def load() -> None:
            nonlocal answered
            while not is_over:
                response = await pool.fetch(request)
                assert (response.status, await read_all(response)) == (200, b"\xff\xd8\xff small")
                answered += 1

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(load())
            await until(
                lambda: min(host.stats.results[Result.ANSWERED] for host in pool.hosts) >= 20
            )
            one.kill()
            before = answered
            await until(lambda: answered >= before + 200)
            is_over = True
        dead, alive = pool.hosts
        assert dead.state is not HostState.RUNNING
        assert alive.stats.results.total() == alive.stats.results[Result.ANSWERED]
        assert dead.load == alive.load == 0
        await client.aclose()

    with php_fpm(originals) as one, php_fpm(originals) as other:
        run(main(one, other))
