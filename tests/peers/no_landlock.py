"""Executes what follows it on a kernel that knows no Landlock, as far as that can tell."""

import errno
import os
import sys

from resizer import sandbox

LANDLOCK_CREATE_RULESET = 444
ERRNO, ALLOW = 0x0005_0000, 0x7FFF_0000  # SECCOMP_RET_*

if __name__ == "__main__":
    sandbox.forbid_new_privileges()
    sandbox.load_seccomp(
        [
            (0x20, 0, 0, 0),  # the number of the call
            (0x15, 0, 1, LANDLOCK_CREATE_RULESET),
            (0x06, 0, 0, ERRNO | errno.ENOSYS),
            (0x06, 0, 0, ALLOW),
        ]
    )
    os.execv(sys.argv[1], sys.argv[1:])
