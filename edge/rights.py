"""Who the workers are: a user and a group of their own, taken up for good (credentials(7)).

The master stays what it was started as: it must bind low ports and open logs again later. It
touches nothing that came over a network; a worker gives up its rights before it does anything.
"""

import contextlib
import grp
import os
import pwd
import sys
from dataclasses import dataclass


class CannotDrop(Exception):
    """The rights that are configured cannot be taken up."""


@dataclass(frozen=True, slots=True)
class Rights:
    uid: int
    gid: int
    groups: tuple[int, ...]

    def take(self) -> None:
        """Become this user. Group first, for afterwards it is no longer allowed."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


def maybe_rights(user: str | None, group: str | None) -> Rights | None:
    """The rights to take up; None where nothing is configured or there is nothing to give up.

    Raises CannotDrop.
    """
    if user is None and group is None:
        return None
    if os.geteuid() != 0:
        return None
    try:
        account = None if user is None else pwd.getpwnam(user)
        gid = grp.getgrnam(group).gr_gid if group is not None else None
    except KeyError as error:
        raise CannotDrop(f"user or group: {error.args[0]}") from None
    if account is None:
        assert gid is not None
        return Rights(os.geteuid(), gid, (gid,))
    if gid is None:
        gid = account.pw_gid
    return Rights(account.pw_uid, gid, tuple(os.getgrouplist(account.pw_name, gid)))


def maybe_unreadable() -> str | None:
    """A part of the program that who we are now may not read, as of a Python below /root: what is
    imported later would be missing, one module at a time."""
    parts = (os.__file__, __file__, sys.executable)
    return next((part for part in parts if not os.access(part, os.R_OK)), None)


def prepare_log(path: str, rights: Rights) -> None:
    """Make a log that this user can open by name, now and after a rotation. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        os.fchown(fd, rights.uid, -1)
    finally:
        os.close(fd)


def prepare_folder(path: str, rights: Rights) -> None:
    """Make a folder for this user where there is none yet; its parent must be there."""
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        os.mkdir(path, 0o700)
        os.chown(path, rights.uid, rights.gid, follow_symlinks=False)
