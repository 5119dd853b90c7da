"""Files in place of an origin's body: which, with what fields, and which not."""

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge.http.etag import original_etag
from edge.origin.address import Address
from edge.origin.commands import SendfileRoot
from edge.origin.errors import OriginBroken, OriginError, OriginTruncated
from edge.origin.exchange import Connections, Result
from edge.origin.files import Docroot, Resolver
from edge.origin.messages import Headers, OriginRequest
from edge.origin.sendfile import DRAIN_BYTES, PIECE_BYTES, SendfileClient
from tests.edge.origin.asking import GET, HEAD, LOGGER, LOOPS, Witness, read_all, run

WHERE = Address("app", 9000)
MODIFIED = 1_700_000_000
MODIFIED_TEXT = "Tue, 14 Nov 2023 22:13:20 GMT"
LARGE = os.urandom(3 * PIECE_BYTES + 7)
JPEG = ("content-type", "image/jpeg")


def open_files(tree: Path) -> int:
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            path = os.readlink(f"/proc/self/fd/{fd}")
            count += path.startswith(str(tree)) and not os.path.isdir(path)
    return count


def all_closed(tree: Path) -> bool:
    """A thread lets go of what it read a moment after it has told the result."""
    gc.collect()  # errors that tests have caught hold their frames
    late_at = time.monotonic() + 2
    while open_files(tree) and time.monotonic() < late_at:
        time.sleep(0.001)
    return open_files(tree) == 0


@dataclasses.dataclass
class Answer:
    """An OriginResponse, scripted. pieces: bytes, or an error to raise, or None to hang."""

    status: int = 200
    headers: Headers = (JPEG,)
    controls: Headers = ()
    content_length: int | None = None
    local_redirect: str | None = None
    pieces: list[bytes | OriginError | None] = dataclasses.field(default_factory=list)
    is_cacheable: bool = True
    is_closed: bool = False
    read_bytes: int = 0

    def maybe_all(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if piece is None:
            await asyncio.Event().wait()
        if isinstance(piece, OriginError):
            raise piece
        assert piece is not None
        self.read_bytes += len(piece)
        return piece

    async def aclose(self) -> None:
        self.is_closed = True


class Fixed:
    """A Client with one answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections = Connections()
        self.is_closed = False

    async def fetch(self, address: Address, request: OriginRequest, watcher: Witness) -> Answer:
        watcher.connected()
        watcher.closed(Result.ANSWERED)
        return self.answer

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("top")
    files = top / "files"
    (files / "sub").mkdir(parents=True)
    for name, data in {
        "a.jpg": b"0123456789", "sub/ż ó.png": b"png", "large.bin": LARGE, "empty.txt": b"",
    }.items():  # fmt: skip
        (files / name).write_bytes(data)
        os.utime(files / name, (MODIFIED, MODIFIED))
    (top / "secret").write_bytes(b"secret")
    (top / "files-evil").mkdir()
    (top / "files-evil" / "x").write_bytes(b"secret")
    (files / "out").symlink_to("../secret")
    (files / "near").symlink_to("a.jpg")
    os.mkfifo(files / "fifo")
    return top


@pytest.fixture(params=[None, Resolver.COMPONENTS], ids=["kernel", "components"])
def sending(tree: Path, request: pytest.FixtureRequest) -> Iterator["Sending"]:
    with ThreadPoolExecutor(2) as threads:
        yield Sending(tree, threads, request.param)


class Sending:
    def __init__(
        self, tree: Path, threads: ThreadPoolExecutor, resolver: Resolver | None = None
    ) -> None:
        self.tree = tree
        self.threads = threads
        self.resolver = resolver
        folder = str(tree / "files")
        self.roots = (SendfileRoot(folder), SendfileRoot(folder + "/sub", "/protected"))

    def client(self, answer: Answer, *, has_roots: bool = True) -> SendfileClient:
        roots = {root: Docroot(root.folder, resolver=self.resolver) for root in self.roots}
        return SendfileClient(
            Fixed(answer), roots if has_roots else {}, threads=self.threads,
            wall=lambda: MODIFIED + 100, logger=LOGGER,
        )  # fmt: skip

    def controls(self, value: str, name: str = "x-sendfile") -> Headers:
        return ((name, value.replace("ROOT", str(self.tree / "files"))),)

    async def ask(self, answer: Answer, request: OriginRequest = GET):
        """(status, fields, content_length, body, is_cacheable)"""
        client = self.client(answer)
        response = await client.fetch(WHERE, request, Witness())
        body = await read_all(response)
        await response.aclose()
        await client.aclose()
        assert answer.is_closed or response is answer
        assert response.controls in ((), answer.controls)
        assert response.local_redirect is None or response is answer
        return (
            response.status, dict(response.headers), response.content_length, body,
            response.is_cacheable,
        )  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("name", "value", "body"),
    [
        ("x-sendfile", "ROOT/a.jpg", b"0123456789"),
        ("x-sendfile", "ROOT/sub/%C5%BC%20%C3%B3.png", b"png"),
        ("x-sendfile", "ROOT/large.bin", LARGE),
        ("x-sendfile", "ROOT/empty.txt", b""),
        ("x-lighttpd-send-file", "ROOT/a.jpg", b"0123456789"),
        ("x-accel-redirect", "/protected/%C5%BC%20%C3%B3.png?x", b"png"),
        ("x-accel-redirect", "ROOT/a.jpg", b"0123456789"),
        ("x-sendfile2", "ROOT/a.jpg 2-4,ROOT/a.jpg 8-", b"23489"),
        ("x-sendfile2", "ROOT/a.jpg 0-,ROOT/a.jpg 0-99,ROOT/a.jpg 50-60", b"0123456789" * 2),
        ("x-sendfile2", "ROOT/empty.txt 0-,ROOT/a.jpg 9-9", b"9"),
    ],
)
def test_sent(sending: Sending, loop: str, name: str, value: str, body: bytes) -> None:
    answer = Answer(controls=sending.controls(value, name), content_length=3, pieces=[b"own"])
    status, fields, length, got, is_cacheable = run(sending.ask(answer), loop)
    assert (status, length, got, is_cacheable) == (200, len(body), body, True)
    assert fields["content-type"] == "image/jpeg"
    assert fields["last-modified"] == MODIFIED_TEXT
    assert fields["etag"].startswith('"')
    assert not [name for name in fields if name.startswith("x-")]
    assert all_closed(sending.tree)


def test_validators_follow_the_file(sending: Sending) -> None:
    tags = {}
    for value in (
        "ROOT/a.jpg 0-",
        "ROOT/a.jpg 1-",
        "ROOT/a.jpg 0-4",
        "ROOT/a.jpg 0-,ROOT/a.jpg 0-",
    ):
        answer = Answer(controls=sending.controls(value, "x-sendfile2"))
        tags[value] = run(sending.ask(answer))[1]["etag"]
    assert len(set(tags.values())) == 4
    with Docroot(str(sending.tree / "files")) as docroot:
        found = docroot.stat("/a.jpg")
    assert found is not None
    assert tags["ROOT/a.jpg 0-"] == original_etag(found.validator)  # as in a docroot


def test_what_the_application_says_stays(sending: Sending) -> None:
    own = (
        ("etag", '"app"'), ("last-modified", "Mon, 13 Nov 2023 22:13:20 GMT"),
        ("cache-control", "max-age=5"), ("surrogate-key", "a b"), ("accept-ranges", "bytes"),
        ("content-range", "bytes 0-1/2"), ("content-disposition", "attachment"),
    )  # fmt: skip
    answer = Answer(headers=own, controls=sending.controls("ROOT/a.jpg"), status=206)
    status, fields, length, *_ = run(sending.ask(answer))
    assert (status, length) == (200, 10)
    assert fields == {**dict(own[:4]), "content-disposition": "attachment", **dict([JPEG])}
    answer = Answer(headers=(), controls=(*sending.controls("ROOT/empty.txt"),
                                          ("x-accel-charset", "latin1")))  # fmt: skip
    assert run(sending.ask(answer))[1]["content-type"] == "text/plain; charset=utf-8"
    answer = Answer(404, controls=sending.controls("ROOT/a.jpg"))
    assert run(sending.ask(answer))[0] == 404  # a page of its own


@pytest.mark.parametrize(
    ("request_headers", "status"),
    [
        ((("If-None-Match", '"app"'),), 304),
        ((("If-None-Match", '"x", W/"app"'),), 304),
        ((("If-None-Match", '"x"'),), 200),
        ((("If-Modified-Since", MODIFIED_TEXT),), 304),
        ((("If-Modified-Since", "Mon, 13 Nov 2023 22:13:20 GMT"),), 200),
        ((("If-None-Match", '"x"'), ("If-Modified-Since", MODIFIED_TEXT)), 200),
        ((("If-Match", '"x"'),), 412),
    ],
)
def test_preconditions(sending: Sending, request_headers: Headers, status: int) -> None:
    """An application need not know what the file is: a revalidation costs no body."""
    for request in (GET, HEAD):
        answer = Answer(headers=(("etag", '"app"'),), controls=sending.controls("ROOT/a.jpg"))
        asked = dataclasses.replace(request, headers=request_headers)
        found, fields, length, body, is_cacheable = run(sending.ask(answer, asked))
        assert (found, fields["etag"], is_cacheable) == (status, '"app"', True)
        assert body == (b"0123456789" if status == 200 and request is GET else b"")
        assert length == (10 if status == 200 else None)


ONE, TWO = "ROOT/a.jpg 0-", "ROOT/a.jpg 2-4,ROOT/a.jpg 8-"  # 0123456789 and 23489


@pytest.mark.parametrize(
    ("value", "wanted", "status", "body", "told"),
    [
        (ONE, "bytes=2-4", 206, b"234", "bytes 2-4/10"),
        (ONE, "bytes=0-0", 206, b"0", "bytes 0-0/10"),
        (ONE, "bytes=9-", 206, b"9", "bytes 9-9/10"),
        (ONE, "bytes=-3", 206, b"789", "bytes 7-9/10"),
        (ONE, "bytes=0-99", 206, b"0123456789", "bytes 0-9/10"),
        (ONE, "bytes=10-", 416, b"", "bytes */10"),
        # of what is put together, across its seams
        (TWO, "bytes=0-", 206, b"23489", "bytes 0-4/5"),
        (TWO, "bytes=0-2", 206, b"234", "bytes 0-2/5"),
        (TWO, "bytes=2-3", 206, b"48", "bytes 2-3/5"),
        (TWO, "bytes=3-3", 206, b"8", "bytes 3-3/5"),
        (TWO, "bytes=-1", 206, b"9", "bytes 4-4/5"),
        (TWO, "bytes=5-", 416, b"", "bytes */5"),
        ("ROOT/empty.txt 0-,ROOT/a.jpg 3-5,ROOT/empty.txt 0-", "bytes=1-1", 206, b"4",
         "bytes 1-1/3"),
        ("ROOT/a.jpg 3-2000", "bytes=6-", 206, b"9", "bytes 6-6/7"),
        ("ROOT/empty.txt 0-", "bytes=0-", 416, b"", "bytes */0"),
        # the whole is always right
        (TWO, "bytes=0-0,200-", 206, b"2", "bytes 0-0/5"),  # one that is there
        ("ROOT/large.bin 0-", "bytes=0-0,500-600", 200, LARGE, None),
        (ONE, "bytes=4-2", 200, b"0123456789", None),
        (ONE, "lines=1-2", 200, b"0123456789", None),
    ],
)  # fmt: skip
def test_ranges(
    sending: Sending, value: str, wanted: str, status: int, body: bytes, told: str | None
) -> None:
    asked = dataclasses.replace(GET, headers=(("Range", wanted),))
    answer = Answer(controls=sending.controls(value, "x-sendfile2"), status=206)
    found, fields, length, got, is_cacheable = run(sending.ask(answer, asked))
    assert (found, length, got, is_cacheable) == (status, len(body), body, True)
    assert fields.get("content-range") == told
    assert ("etag" in fields) == (status != 416)
    assert all_closed(sending.tree)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"if-range": '"app"'}, 206),
        ({"if-range": '"other"'}, 200),
        ({"if-range": 'W/"app"'}, 200),
        ({"if-range": MODIFIED_TEXT}, 206),
        ({"if-range": "Mon, 13 Nov 2023 22:13:20 GMT"}, 200),
        ({"if-none-match": '"app"'}, 304),
        ({"if-match": '"other"'}, 412),
        ({"if-match": '"app"'}, 206),
    ],
)
def test_ranges_come_last(sending: Sending, fields: dict[str, str], status: int) -> None:
    for request, expected in ((GET, status), (HEAD, 200 if status == 206 else status)):
        answer = Answer(headers=(("etag", '"app"'),), controls=sending.controls("ROOT/a.jpg"))
        asked = dataclasses.replace(request, headers=(("range", "bytes=0-3"), *fields.items()))
        assert run(sending.ask(answer, asked))[0] == expected
    answer = Answer(404, controls=sending.controls("ROOT/a.jpg"))
    assert run(sending.ask(answer, asked))[0] == 404


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("ROOT/missing.jpg", 404),
        ("ROOT/a.jpg/b", 404),
        ("ROOT/", 403),
        ("ROOT", 403),
        ("ROOT/sub", 403),
        ("ROOT/fifo", 403),
        ("ROOT/out", 403),
        ("ROOT/near", 403),  # links are not followed
        ("ROOT/../secret", 403),
        ("ROOT/%2e%2e/secret", 403),
        ("ROOT-evil/x", 403),
        ("/etc/passwd", 403),
        ("/protected/a", 403),  # a URI is no path
        ("/", 403),
        ("/dev/zero", 403),
        ("/proc/self/environ", 403),
    ],
)
def test_not_sent(
    sending: Sending, value: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER.name)
    answer = Answer(
        headers=(("set-cookie", "a=b"), ("cache-control", "max-age=3600")),
        controls=sending.controls(value), pieces=[b"secret"],
    )  # fmt: skip
    found, fields, length, body, _ = run(sending.ask(answer))
    assert (found, fields, length, body) == (status, {"content-type": "text/plain"}, 0, b"")
    [line] = caplog.records
    assert line.levelno == (logging.WARNING if status == 403 else logging.INFO)
    assert "x-sendfile" in line.getMessage()


def test_one_bad_part_is_enough(sending: Sending) -> None:
    for bad, status in (("/etc/passwd", 403), ("ROOT/missing", 404)):
        answer = Answer(controls=sending.controls(f"ROOT/a.jpg 0-,{bad} 0-", "x-sendfile2"))
        assert run(sending.ask(answer))[0] == status
        assert all_closed(sending.tree)


@pytest.mark.parametrize("name", ["x-sendfile", "x-accel-redirect", "x-sendfile2"])
def test_without_roots_the_answer_is_refused(sending: Sending, name: str) -> None:
    async def main() -> None:
        answer = Answer(controls=((name, "/srv/a 0-"),))
        with pytest.raises(OriginBroken, match="sendfile_roots"):
            await sending.client(answer, has_roots=False).fetch(WHERE, GET, Witness())
        assert answer.is_closed

    run(main())


def test_two_commands_are_refused(sending: Sending) -> None:
    async def main() -> None:
        answer = Answer(controls=(("x-sendfile", "/a"), ("x-accel-redirect", "/b")))
        with pytest.raises(OriginBroken, match="app:9000"):
            await sending.client(answer).fetch(WHERE, GET, Witness())
        assert answer.is_closed

    run(main())


def test_answers_without_commands_pass(sending: Sending) -> None:
    answer = Answer(pieces=[b"a", b"b"])
    assert run(sending.ask(answer)) == (200, dict([JPEG]), None, b"ab", True)
    told = Answer(
        headers=(JPEG, ("surrogate-control", "max-age=9")), pieces=[b"a"], content_length=1,
        controls=(("x-accel-buffering", "no"), ("x-accel-limit-rate", "9")), is_cacheable=False,
    )  # fmt: skip
    fields = dict([JPEG, ("cdn-cache-control", "max-age=9")])
    assert run(sending.ask(told)) == (200, fields, 1, b"a", False)
    dated = Answer(controls=(("x-accel-expires", f"@{MODIFIED + 160}"),))
    assert run(sending.ask(dated))[1]["cdn-cache-control"] == "max-age=60"


@pytest.mark.parametrize(
    "pieces",
    [[OriginTruncated("short")], [b"x" * 1000] * 1000, [None]],
    ids=["cut", "long", "hangs"],
)
def test_the_origin_is_left_before_the_file_is_read(sending: Sending, pieces: list) -> None:
    answer = Answer(controls=sending.controls("ROOT/a.jpg"), content_length=10, pieces=pieces)
    assert run(sending.ask(answer))[3] == b"0123456789"
    assert answer.read_bytes <= DRAIN_BYTES + 1000


def test_a_file_that_shrinks_or_is_written_to_is_not_cached(
    sending: Sending, tmp_path: Path
) -> None:
    file = sending.tree / "files" / "changing.bin"

    async def main(change) -> tuple[bytes, bool]:
        file.write_bytes(LARGE)
        client = sending.client(Answer(controls=sending.controls("ROOT/changing.bin")))
        response = await client.fetch(WHERE, GET, Witness())
        body = await response.read()
        change()
        try:
            while piece := await response.read():
                body += piece
            return body, response.is_cacheable
        finally:
            await response.aclose()
            assert not response.is_cacheable
            await client.aclose()

    with pytest.raises(OriginTruncated):
        run(main(lambda: os.truncate(file, PIECE_BYTES + 5)))
    body, is_cacheable = run(main(lambda: file.write_bytes(LARGE + b"more")))
    assert (body, is_cacheable) == (LARGE, False)
    file.unlink()


def test_an_answer_that_is_left_closes_its_file(sending: Sending) -> None:
    async def main() -> None:
        client = sending.client(Answer(controls=sending.controls("ROOT/large.bin")))
        response = await client.fetch(WHERE, GET, Witness())
        await response.read()
        await response.aclose()
        assert not response.is_cacheable
        await client.aclose()
        assert all_closed(sending.tree)

    run(main())
