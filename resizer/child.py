"""How a Python process of ours is started: isolated, with nothing of ours in its environment.

-I keeps it from the user's site directory, from PYTHON* variables and from the folder it stands
in. The package must still be found where it was found here, installed or not: a pool and a worker
of two releases do not understand each other.
"""

import os.path
import subprocess
import sys
from typing import Final

# The folder that holds this package. After the library, so nothing in it can shadow that; before
# what is installed, which may be this package in another release.
_HOME: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_RUN: Final = (
    "import sys; home, module = sys.argv[1:3]; del sys.argv[1:3]; "
    "installed = [n for n, p in enumerate(sys.path) if p.endswith('-packages')]; "
    "home in sys.path or sys.path.insert(min(installed, default=len(sys.path)), home); "
    "import gc, importlib; gc.disable(); imported = importlib.import_module(module); "
    "gc.enable(); imported.main(sys.argv[1:])"
)

# One arena, because one thread: more would also make malloc look into /sys. Four blocks of 16 MB
# kept by Pillow hold the pixels of most sources and save their page faults.
ENVIRONMENT: Final = {
    "MALLOC_ARENA_MAX": "1",
    "PILLOW_BLOCKS_MAX": "4",
    "LC_ALL": "C.UTF-8",
}


def command(module: str, *arguments: str, home: str = _HOME) -> list[str]:
    """The command that calls main(arguments) of a module below home."""
    return [sys.executable, "-I", "-c", _RUN, home, module, *arguments]


def start(argv: list[str], *, keep: tuple[int, ...] = (), stdout: int | None = None) -> "Child":
    """Start a child that holds standard error and the descriptors in keep, and nothing else."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if stdout is None else stdout,
        pass_fds=keep,
        env=ENVIRONMENT,
        cwd="/",
    )


Child = subprocess.Popen[bytes]
