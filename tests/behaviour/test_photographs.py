"""Real photographs, end to end: Debian's wallpapers from a folder, from php-fpm, with a real Redis.

Ignored unless asked for with --photographs; `make test` asks for it under CI=true.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import PACKAGES
from tests.peers.node import Node, node, quote
from tests.peers.phpfpm import PhpFpm, php_fpm
from tests.peers.redis import RedisServer

pytestmark = pytest.mark.photographs

FOLDERS = (Path("/usr/share/backgrounds/mate"), Path("/usr/share/wallpapers"))
# What a new user types first, and the size of the picture that must come.
ASKED = [
    ("/Dune.jpg", (1680, 1050)),
    ("/Dune.jpg?w=220", (220, 138)),
    ("/thumb/Dune.jpg/220px-Dune.jpg", (220, 138)),
    ("/vi/Dune/hqdefault.jpg", (480, 360)),
]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with every picture of both packages; equal names get their folder in front."""
    for folder in FOLDERS:
        assert folder.is_dir(), f"{folder} is missing: apt-get install {' '.join(PACKAGES)}"
    flat = tmp_path_factory.mktemp("photographs")
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".jpg", ".png") and path.is_file() and not path.is_symlink():
                name = path.name
                if (flat / name).exists() or name[0].isdigit():
                    name = f"{path.relative_to(folder).parts[0]}-{name}"
                (flat / name).write_bytes(path.read_bytes())
    return flat


@contextlib.contextmanager
def from_folder(photographs: Path) -> Iterator[str]:
    yield f"[[site]]\nroot = {quote(photographs)}\n"


@contextlib.contextmanager
def behind_php(photographs: Path) -> Iterator[str]:
    with php_fpm(photographs) as php:
        yield origin_of(php) + '[[site]]\norigin = "app"\n'


def origin_of(php: PhpFpm) -> str:
    host, script = quote(php.address), quote(php.script.filename)
    return f'[[origin]]\nname = "app"\nhosts = [{host}]\nscript_filename = {script}\n'


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[str]:
    yield "[cache]\n"


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    with contextlib.closing(RedisServer().start()) as server:
        yield f"[cache]\nindex = {quote(server.url)}\n"


def check(edge: Node, expected: dict[str, bytes]) -> None:
    """Every picture asked for comes, and the second time as a hit with the same bytes."""
    for target, size in ASKED:
        first = edge.get(target)
        assert first.status == 200, (target, first.body)
        with Image.open(io.BytesIO(first.body)) as image:
            image.load()
            assert image.size == size
        second = edge.get(target)
        assert second.is_hit, second.cache_status
        assert second.body == first.body
        assert expected.setdefault(target, first.body) == first.body


@pytest.mark.timeout(120)
@pytest.mark.parametrize("index", [embedded, redis])
@pytest.mark.parametrize("originals", [from_folder, behind_php])
def test_first_urls(tmp_path, photographs, originals, index):
    expected: dict[str, bytes] = {}
    with originals(photographs) as sites, index(tmp_path) as cache:
        with node(tmp_path, cache + sites) as edge:
            check(edge, expected)
            assert edge.renders() == 2  # the two spellings of 220 pixels are one derivative
            assert_letterboxed(expected["/vi/Dune/hqdefault.jpg"])
        with node(tmp_path, cache + sites) as edge:
            for target, _ in ASKED:
                assert edge.get(target).is_hit, target
            check(edge, expected)
            assert edge.renders() == 0


def assert_letterboxed(body: bytes) -> None:
    """480x360 around a 16:10 picture: 480x300 between two black bars of 30 lines."""
    with Image.open(io.BytesIO(body)) as image:
        grey = image.convert("L")
    for box in ((0, 0, 480, 28), (0, 332, 480, 360)):
        assert grey.crop(box).getextrema()[1] < 24
    assert grey.crop((0, 34, 480, 326)).getextrema()[1] > 200


@pytest.mark.timeout(300)
def test_every_photograph_becomes_a_thumbnail(tmp_path, photographs):
    with from_folder(photographs) as sites, node(tmp_path, sites) as edge:
        names = sorted(path.name for path in photographs.iterdir())
        assert len(names) > 40
        for name in names:
            reply = edge.get(f"/{name}?w=220")
            assert reply.status == 200, (name, reply.body)
            with Image.open(io.BytesIO(reply.body)) as image:
                image.load()
                assert image.width == 220
