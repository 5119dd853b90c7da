"""Whether the seal holds on this machine: one sealed child a probe, each trying what is forbidden.

Every kernel, glibc, wheel and container profile may differ. seccomp answers first and hides what
Landlock would have said, so the calls that Landlock covers are tried once more under it alone, and
the limits without either. The last probe runs every codec inside the seal: a new wheel may need a
call that the table lacks.
"""

import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from resizer import child, sandbox
from resizer.job import Limits
from resizer.process import describe
from resizer.sandbox import Policy, SandboxMode

# A child that hangs is as bad as one that succeeds.
_PROBE_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """holds: refused where refusal was due, allowed where the codecs need it."""

    name: str
    layer: str  # "seccomp" (all layers, as in a worker), else that one alone
    holds: bool
    how: str


def _open() -> None:
    os.close(os.open("/etc/hostname", os.O_RDONLY))


def _write() -> None:
    # Without a name: should it be allowed after all, nothing is left behind.
    os.close(os.open("/tmp", os.O_WRONLY | os.O_TMPFILE, 0o600))  # noqa: S108


def _socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def _connect() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as plug:
        plug.connect(("127.0.0.1", 1))


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _exec() -> None:
    os.execv(sys.executable, [sys.executable, "-I", "-c", "print('ran')"])  # noqa: S606


def _kill() -> None:
    os.kill(os.getppid(), 0)


def _signal() -> None:
    # To another process than ourselves; 0 would only ask. SIGURG is ignored where not handled.
    os.kill(os.getppid(), signal.SIGURG)


def _stat() -> None:
    os.stat("/etc/hostname")


def _execute_memory() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()


def _thread() -> None:
    threading.Thread(target=int).start()


def _memory() -> None:
    bytearray(2 * _LIMITS.address_space_bytes)


def _file_size() -> None:
    file = os.memfd_create("probe")
    for _ in range(2):  # the first is cut short, the second refused
        os.write(file, bytes(_LIMITS.file_bytes + 1))


def _descriptors() -> None:
    for _ in range(sandbox.MAX_DESCRIPTORS):
        os.dup(0)


def _cpu() -> None:
    while time.process_time() < _LIMITS.cpu_s + 2:
        pass


def _privileges() -> None:
    if sandbox.has_no_new_privileges():
        raise PermissionError(errno.EPERM, "exec gains nothing any more")


# Small enough to be met quickly, large enough to say so.
_LIMITS: Final = Policy(SandboxMode.OFF, 128 << 20, 1 << 16, 1)

# What is tried in a worker's full seal, and what each layer alone must refuse.
_SEALED: Final[dict[str, Callable[[], None]]] = {
    "open": _open,
    "write": _write,
    "stat": _stat,
    "socket": _socket,
    "fork": _fork,
    "exec": _exec,
    "signal": _kill,
    "thread": _thread,
    "execute-memory": _execute_memory,
}
_LANDLOCKED: Final[dict[str, Callable[[], None]]] = {
    "open": _open,
    "write": _write,
    "connect": _connect,
    "exec": _exec,
    "signal": _signal,
}
_LAYERS: Final[dict[str, dict[str, Callable[[], None]]]] = {
    "seccomp": _SEALED,
    "landlock": _LANDLOCKED,
    "no-new-privs": {"privileges": _privileges},
    "rlimits": {
        "memory": _memory,
        "file-size": _file_size,
        "descriptors": _descriptors,
        "cpu": _cpu,
    },
}

# The first ABI of Landlock that knows of a right. seccomp is what refuses it under an older one.
_SINCE: Final = {"connect": 4, "signal": 6}

# Refusals by the layers; a refusal of another kind (ECONNREFUSED) is none.
_REFUSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EFBIG, errno.EMFILE})
# The limit on CPU warns before it kills, and the warning kills too.
_KILLERS: Final = {
    "seccomp": {-signal.SIGSYS},
    "rlimits": {-signal.SIGXCPU, -signal.SIGKILL},
}


def check_sandbox() -> list[ProbeResult]:
    """Try everything for real, some four seconds. Blocking: for a command, not for a loop."""
    results = [_probe(name, layer) for layer, names in _LAYERS.items() for name in names]
    results.append(_probe_codecs())
    return results


def _probe(name: str, layer: str) -> ProbeResult:
    if layer == "landlock" and (abi := _landlock_abi()) < _SINCE.get(name, 0):
        how = f"covered from ABI {_SINCE[name]} on; ABI {abi} leaves it to seccomp"
        return ProbeResult(name, layer, holds=True, how=how)
    status, said = _watch(child.command("resizer.probe", layer, name))
    if status in _KILLERS.get(layer, ()):
        return ProbeResult(name, layer, holds=True, how=f"killed by {describe(status)}")
    if status == 0 and said.startswith("refused"):
        return ProbeResult(name, layer, holds=True, how=said)
    return ProbeResult(name, layer, holds=False, how=said or describe(status))


def _landlock_abi() -> int:
    """As high as can be where there is none: then each probe tells so."""
    try:
        return sandbox.landlock_abi()
    except OSError:
        return sys.maxsize


def _probe_codecs() -> ProbeResult:
    limits = Limits()
    numbers = f"{limits.max_bytes},{limits.max_pixels},{limits.max_side},{limits.max_output_bytes}"
    command = child.command("resizer.worker", "check", SandboxMode.BEST_EFFORT, numbers)
    status, _ = _watch(command)
    how = "every format decoded and encoded" if status == 0 else describe(status)
    return ProbeResult("codecs", "seccomp", holds=status == 0, how=how)


def _watch(command: list[str]) -> tuple[int, str]:
    with child.start(command, stdout=subprocess.PIPE) as process:
        try:
            said, _ = process.communicate(timeout=_PROBE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(), f"still there after {_PROBE_S:.0f} s"
    return process.returncode, said.decode("ascii", "replace")


def main(argv: Sequence[str]) -> None:
    """The child: seal, try, say what came of it on standard output."""
    layer, name = argv
    attempt = _LAYERS[layer][name]
    try:
        _seal(layer)
    except (OSError, sandbox.SandboxUnreachable) as error:
        os.write(1, f"not sealed: {error}".encode("ascii", "replace"))
        os._exit(0)
    try:
        attempt()
    except OSError as error:
        verdict = "refused" if error.errno in _REFUSED else "not refused"
        os.write(1, f"{verdict}: {errno.errorcode.get(error.errno or 0)}".encode())
    except MemoryError:
        os.write(1, b"refused: ENOMEM")
    else:
        os.write(1, b"allowed")
    os._exit(0)


def _seal(layer: str) -> None:
    match layer:
        case "seccomp":
            sandbox.seal(Policy(SandboxMode.REQUIRE, 1 << 30, 1 << 20, 60))
        case "landlock":
            sandbox.forbid_new_privileges()
            sandbox.landlock_deny_all()
        case "no-new-privs":
            sandbox.forbid_new_privileges()
        case _:
            sandbox.set_limits(_LIMITS)
