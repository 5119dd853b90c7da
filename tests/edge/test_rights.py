"""Giving up rights: in children, since it is for good."""

import os
import pwd
from pathlib import Path

import pytest

from edge import descriptors
from edge import rights as rights_module
from edge.config import Config, load
from edge.rights import (
    CannotDrop,
    Rights,
    maybe_rights,
    maybe_unreadable,
    prepare_folder,
    prepare_log,
)
from tests.peers.nobody import as_nobody, nobodys_folder

NOBODY = pwd.getpwnam("nobody")


def test_what_is_to_be_taken():
    assert maybe_rights(None, None) is None
    if os.geteuid() != 0:
        assert maybe_rights("nobody", None) is None  # there is nothing to give up
        return
    rights = maybe_rights("nobody", None)
    assert rights is not None
    assert (rights.uid, rights.gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert 0 not in rights.groups
    mixed = maybe_rights("nobody", "daemon")
    assert mixed is not None
    assert (mixed.uid, mixed.gid) == (NOBODY.pw_uid, 1)
    assert maybe_rights(None, "daemon") == Rights(0, 1, (1,))
    with pytest.raises(CannotDrop, match="nosuchuser"):
        maybe_rights("nosuchuser", None)
    with pytest.raises(CannotDrop, match="nosuchgroup"):
        maybe_rights("nobody", "nosuchgroup")
    with as_nobody():
        assert maybe_rights("nobody", None) is None


def test_a_program_that_the_user_may_not_read(monkeypatch: pytest.MonkeyPatch):
    """A Python below /root would else miss one module after the other."""
    assert maybe_unreadable() is None
    with nobodys_folder() as folder:
        part = folder / "part.py"
        part.touch(mode=0o600)
        os.chmod(part, 0)
        monkeypatch.setattr(rights_module, "__file__", str(part))
        with as_nobody():
            assert maybe_unreadable() in (str(part), os.__file__)


def test_they_are_given_up_for_good():
    rights = maybe_rights("nobody", None)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if rights is not None:
                rights.take()
                assert os.getresuid() == (NOBODY.pw_uid,) * 3
                assert os.getresgid() == (NOBODY.pw_gid,) * 3
                assert 0 not in os.getgroups()
            with pytest.raises(PermissionError):
                os.setuid(0)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_logs_and_folders_are_prepared():
    me = Rights(os.geteuid(), os.getegid(), ())
    rights = maybe_rights("nobody", None) or me
    with nobodys_folder() as folder:
        log, cache = str(folder / "log"), str(folder / "cache")
        for _ in range(2):  # what is there stays
            prepare_log(log, rights)
            Path(log).write_text("line")
            prepare_folder(cache, rights)
        assert Path(log).read_text() == "line"
        for path, mode in ((log, 0o640), (cache, 0o700)):
            status = os.stat(path)
            assert (status.st_uid, status.st_mode & 0o777) == (rights.uid, mode)
        prepare_folder(str(folder / "a" / "b"), rights)
        assert not (folder / "a").exists()
        (folder / "link").symlink_to(log)
        with pytest.raises(OSError, match="symbolic"):
            prepare_log(str(folder / "link"), rights)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "halftone.toml"
    file.write_text(
        f"""resizer.processes = 3
[connection]
max_connections = 500
[cache]
path = '{tmp_path}/cache'
[[origin]]
name = "app"
hosts = ["a:1", "b:1"]
script_filename = "/x.php"
[[site]]
root = '{tmp_path}'
origin = "app"
"""
    )
    return load(str(file), {}, {})


def test_the_cap_leaves_room(config):
    reserve = descriptors.reserve(config, cores=8)
    assert reserve == 96 + 3 * 5 + 2 * 64 + 1
    assert descriptors.fit(config, 500 + reserve, 8) is config
    fitting = descriptors.fit(config, 499 + reserve, 8)
    assert fitting.connection.max_connections == 499
    assert fitting.sites == config.sites
    assert descriptors.fit(config, 10, 8).connection.max_connections == 1
