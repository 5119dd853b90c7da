"""The docroot, by openat2 and by components: the same table for both."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.origin import files
from edge.origin.errors import DocrootFailed, NotAllowed, Refusal
from edge.origin.files import Docroot, Resolver, has_openat2

RESOLVERS = [
    pytest.param(
        Resolver.OPENAT2, marks=pytest.mark.skipif(not has_openat2(), reason="no openat2 here")
    ),
    Resolver.COMPONENTS,
]
INSIDE, OUTSIDE = b"inside", b"outside"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("top")
    root = top / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "c.jpg").write_bytes(INSIDE)
    (root / "Żółw.jpg").write_bytes(INSIDE)
    (root / "...").write_bytes(INSIDE)
    (top / "root-evil").mkdir()
    (top / "root-evil" / "x").write_bytes(OUTSIDE)
    (top / "secret").write_bytes(OUTSIDE)
    for name, target in {
        "near": "a/b/c.jpg",
        "folder": "a/b",
        "up-and-down": "a/b/../b/./c.jpg",
        "absolute": str(root / "a" / "b" / "c.jpg"),
        "out": "../secret",
        "out-folder": "../root-evil",
        "to-folder": "a/b/",
        "to-root": "a/..",
        "loop": "loop",
        "dangling": "nowhere",
        "file-as-folder": "a/b/c.jpg/x",
    }.items():
        (root / name).symlink_to(target)
    (root / "a" / "deep-out").symlink_to("../../secret")
    os.mkfifo(root / "fifo")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(os.path.relpath(root / "socket"))
    return root


# (source, with links, without links)
CASES = [
    # usual
    ("/a/b/c.jpg", INSIDE, INSIDE),
    ("/Żółw.jpg", INSIDE, INSIDE),
    ("/nothing.jpg", None, None),
    ("/no/such/folder.jpg", None, None),
    # links
    ("/near", INSIDE, Refusal.ESCAPE),
    ("/folder/c.jpg", INSIDE, Refusal.ESCAPE),
    ("/up-and-down", INSIDE, Refusal.ESCAPE),
    ("/absolute", Refusal.ESCAPE, Refusal.ESCAPE),  # beneath: an absolute link is never inside
    ("/out", Refusal.ESCAPE, Refusal.ESCAPE),
    ("/out-folder/x", Refusal.ESCAPE, Refusal.ESCAPE),
    ("/a/deep-out", Refusal.ESCAPE, Refusal.ESCAPE),
    ("/to-folder", Refusal.DIRECTORY, Refusal.ESCAPE),
    ("/to-root", Refusal.DIRECTORY, Refusal.ESCAPE),
    ("/loop", Refusal.ESCAPE, Refusal.ESCAPE),
    ("/dangling", None, Refusal.ESCAPE),
    ("/file-as-folder", None, Refusal.ESCAPE),
    # edge
    ("/...", INSIDE, INSIDE),
    ("/a", Refusal.DIRECTORY, Refusal.DIRECTORY),
    ("/", Refusal.DIRECTORY, Refusal.DIRECTORY),
    ("/a/", Refusal.DIRECTORY, Refusal.DIRECTORY),
    ("/a/b/c.jpg/d", None, None),
    ("/" + "x" * 256, None, None),
    ("/" + "x/" * 2500 + "y", None, None),
    # hostile
    ("/fifo", Refusal.NOT_REGULAR, Refusal.NOT_REGULAR),
    ("/socket", Refusal.NOT_REGULAR, Refusal.NOT_REGULAR),
    ("", Refusal.PATH, Refusal.PATH),
    ("a/b/c.jpg", Refusal.PATH, Refusal.PATH),
    ("//a/b/c.jpg", Refusal.PATH, Refusal.PATH),
    ("/a//b/c.jpg", Refusal.PATH, Refusal.PATH),
    ("/a/./b/c.jpg", Refusal.PATH, Refusal.PATH),
    ("/a/../a/b/c.jpg", Refusal.PATH, Refusal.PATH),
    ("/../secret", Refusal.PATH, Refusal.PATH),
    ("/../root-evil/x", Refusal.PATH, Refusal.PATH),
    ("/..", Refusal.PATH, Refusal.PATH),
    ("/../", Refusal.PATH, Refusal.PATH),
    ("/a\0b", Refusal.PATH, Refusal.PATH),
    ("/\ud800", Refusal.PATH, Refusal.PATH),
]


@contextlib.contextmanager
def opened(docroot: Docroot, source: str) -> Iterator[bytes | Refusal | None]:
    try:
        file = docroot.open(source)
    except NotAllowed as refused:
        yield refused.why
        return
    if file is None:
        yield None
        return
    try:
        assert docroot.stat(source) == files.FileStatus(
            file.size, file.mtime_ns, file.inode, file.dev
        )
        yield os.pread(file.fd, 100, 0)
    finally:
        file.close()


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize(("source", "linked", "unlinked"), CASES, ids=lambda case: str(case)[:30])
def test_opens(
    tree: Path,
    resolver: Resolver,
    source: str,
    linked: bytes | Refusal | None,
    unlinked: bytes | Refusal | None,
) -> None:
    before = os.listdir("/proc/self/fd")
    for symlinks, expected in ((True, linked), (False, unlinked)):
        with (
            Docroot(str(tree), symlinks=symlinks, resolver=resolver) as docroot,
            opened(docroot, source) as found,
        ):
            assert found == expected
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize(("source", "linked", "unlinked"), CASES, ids=lambda case: str(case)[:30])
def test_a_look_without_waiting_says_the_same_or_nothing(
    tree: Path,
    resolver: Resolver,
    source: str,
    linked: bytes | Refusal | None,
    unlinked: bytes | Refusal | None,
) -> None:
    before = os.listdir("/proc/self/fd")
    for symlinks, expected in ((True, linked), (False, unlinked)):
        with (
            Docroot(str(tree), symlinks=symlinks, resolver=resolver) as docroot,
            opened(docroot, source) as found,  # which brings the path into the kernel's cache
        ):
            assert found == expected
            seen, file = docroot.look_now(source), docroot.open_now(source)
            taken = docroot.take_now(source, len(INSIDE))
            assert not docroot.is_missing_now(source) or found is None
            if found != INSIDE or resolver is Resolver.COMPONENTS:
                assert (seen, file, taken) == (None, None, None)
                continue
            assert seen == docroot.stat(source)
            assert taken == (seen, INSIDE)
            assert docroot.take_now(source, len(INSIDE) - 1) == (seen, None)
            assert docroot.read_now(source, seen, b"head ") == b"head " + INSIDE
            assert file is not None
            assert (os.pread(file.fd, 100, 0), file.inode) == (INSIDE, seen.inode)
            file.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_file_that_was_cut_off_meanwhile_is_not_at_hand(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(b"cut")
    with (tmp_path / "cut").open("rb") as file:
        assert files._read_whole(file.fileno(), 3) == b"cut"
        assert files._read_whole(file.fileno(), 4) is None


def test_what_is_missing_is_known_to_be_and_no_longer_when_it_comes(tree: Path) -> None:
    with Docroot(str(tree), resolver=Resolver.OPENAT2) as docroot:
        for source in ("/late.jpg", "/no/such/folder/late.jpg"):
            assert docroot.stat(source) is None
            assert docroot.is_missing_now(source)
        (tree / "late.jpg").write_bytes(INSIDE)
        assert not docroot.is_missing_now("/late.jpg")
        (tree / "late.jpg").unlink()


def test_a_path_that_is_not_cached_is_not_looked_up(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing makes a kernel forget one path, so its answer is played: EAGAIN, asked for once."""
    asked = []

    def uncached(directory: int, path: bytes, flags: int, resolve: int) -> int:
        asked.append(resolve)
        raise BlockingIOError(errno.EAGAIN, "not cached")

    with Docroot(str(tree), resolver=Resolver.OPENAT2) as docroot:
        monkeypatch.setattr(files, "_openat2", uncached)
        assert docroot.look_now("/a/b/c.jpg") is None
        assert not docroot.is_missing_now("/a/b/c.jpg")
    assert [resolve & 0x20 for resolve in asked] == [0x20, 0x20]


INTERESTING = (
    *("a", "b", "c.jpg", "folder", "near", "out", "out-folder", "to-root", "absolute", "root"),
    *("..", ".", "", "secret", "root-evil", "x", "deep-out", "up-and-down", "\0", "~", "loop"),
)
segments = st.one_of(st.sampled_from(INTERESTING), st.text(max_size=5))


@pytest.mark.parametrize("resolver", RESOLVERS)
@given(
    parts=st.lists(segments, max_size=7), symlinks=st.booleans(), lead=st.sampled_from(["/", ""])
)
@settings(max_examples=300, deadline=None)
def test_nothing_outside_is_ever_opened(
    tree: Path, resolver: Resolver, parts: list[str], symlinks: bool, lead: str
) -> None:
    inodes = {os.stat(tree / "a" / "b" / "c.jpg").st_ino, os.stat(tree / "Żółw.jpg").st_ino}
    inodes.add(os.stat(tree / "...").st_ino)
    with Docroot(str(tree), symlinks=symlinks, resolver=resolver) as docroot:
        try:
            file = docroot.open(lead + "/".join(parts))
        except NotAllowed:
            return
        if file is not None:
            assert file.inode in inodes
            file.close()


@pytest.mark.skipif(not has_openat2(), reason="no openat2 here")
@given(parts=st.lists(segments, max_size=7), symlinks=st.booleans())
@settings(max_examples=300, deadline=None)
def test_both_resolvers_agree(tree: Path, parts: list[str], symlinks: bool) -> None:
    verdicts = []
    for resolver in Resolver:
        with (
            Docroot(str(tree), symlinks=symlinks, resolver=resolver) as docroot,
            opened(docroot, "/" + "/".join(parts)) as found,
        ):
            verdicts.append(found)
    assert verdicts[0] == verdicts[1]


def test_validator_follows_the_bytes_and_not_the_node(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(INSIDE)
    (tmp_path / "copy").write_bytes(INSIDE)
    os.utime(tmp_path / "one", ns=(1, 1_700_000_000_123_456_789))
    os.utime(tmp_path / "copy", ns=(2, 1_700_000_000_123_456_789))
    with Docroot(str(tmp_path)) as docroot:
        one, copy = docroot.stat("/one"), docroot.stat("/copy")
        assert one is not None
        assert copy is not None
        assert one.inode != copy.inode
        assert one.validator == copy.validator
        (tmp_path / "one").write_bytes(OUTSIDE)
        changed = docroot.stat("/one")
        assert changed is not None
        assert changed.validator != copy.validator


def test_a_replaced_file_is_seen_and_an_open_one_stays(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(INSIDE)
    with Docroot(str(tmp_path)) as docroot, opened(docroot, "/x") as old:
        (tmp_path / "new").write_bytes(OUTSIDE)
        (tmp_path / "new").rename(tmp_path / "x")
        assert old == INSIDE
        with opened(docroot, "/x") as new:
            assert new == OUTSIDE


# What is everywhere, and never an original: (docroot, source)
NO_FILES = [
    ("/dev", "/null"),
    ("/dev", "/zero"),
    ("/dev", "/tty"),
    # magic links: they lead where their text does not say
    ("/proc/self", "/exe"),
    ("/proc/self", "/cwd/pyproject.toml"),
    ("/proc/self", "/root/etc/passwd"),
    ("/proc/self", "/fd/0"),
    ("/proc/self", "/ns/mnt"),
    ("/dev", "/fd/0"),
    ("/dev", "/stdin"),
]


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("symlinks", [True, False])
@pytest.mark.parametrize(("root", "source"), NO_FILES)
def test_devices_and_magic_links(
    resolver: Resolver, symlinks: bool, root: str, source: str
) -> None:
    with Docroot(root, symlinks=symlinks, resolver=resolver) as docroot:
        assert docroot.look_now(source) is None
        assert docroot.open_now(source) is None
        # Walked by hand, the text of a magic link ("pipe:[12]") may be a name that nothing has.
        with contextlib.suppress(NotAllowed):
            assert docroot.open(source) is None


def test_no_folder_no_docroot(tmp_path: Path) -> None:
    with pytest.raises(DocrootFailed):
        Docroot(str(tmp_path / "missing"))
    (tmp_path / "file").touch()
    with pytest.raises(DocrootFailed):
        Docroot(str(tmp_path / "file"))


def test_a_sick_disk_is_no_missing_file(tmp_path: Path) -> None:
    docroot = Docroot(str(tmp_path))
    docroot.close()
    with pytest.raises(DocrootFailed):  # EBADF stands for every errno that says nothing of the file
        docroot.open("/x")


def test_without_openat2_the_walk_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_OPENAT2", 100_000)  # no such system call: a real ENOSYS
    with Docroot(str(tmp_path)) as docroot:
        assert docroot.resolver is Resolver.COMPONENTS
