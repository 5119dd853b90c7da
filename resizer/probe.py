"""Whether the seal holds on this machine: one sealed child a probe, each trying what is forbidden.

Every kernel, glibc, wheel and container profile may differ. seccomp answers first and hides what
Landlock would have said, so the calls that Landlock covers are tried once more under it alone. The
last probe runs every codec inside the seal: a new wheel may need a call that the table lacks.
"""

import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
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
    layer: str  # "seccomp" (all layers, as in a worker) or "landlock" (alone)
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


# What is tried in a worker's full seal, and what Landlock alone must refuse.
_SEALED: Final[dict[str, Callable[[], None]]] = {
    "open": _open,
    "write": _write,
    "stat": _stat,
    "socket": _socket,
    "fork": _fork,
    "exec": _exec,
    "kill": _kill,
    "execute-memory": _execute_memory,
}
_LANDLOCKED: Final[dict[str, Callable[[], None]]] = {
    "open": _open,
    "write": _write,
    "connect": _connect,
    "exec": _exec,
    "kill": _signal,
}

# Refusals by Landlock; a refusal of another kind (ECONNREFUSED) is none.
_REFUSED: Final = frozenset({errno.EACCES, errno.EPERM})


def check_sandbox() -> list[ProbeResult]:
    """Try everything for real, about two seconds. Blocking: for a command, not for a loop."""
    results = [_probe(name, "seccomp") for name in _SEALED]
    results += [_probe(name, "landlock") for name in _LANDLOCKED]
    results.append(_probe_codecs())
    return results


def _probe(name: str, layer: str) -> ProbeResult:
    status, said = _watch(child.command("resizer.probe", layer, name))
    if status == -signal.SIGSYS:
        return ProbeResult(name, layer, holds=True, how="killed by SIGSYS")
    if status == 0 and said.startswith("refused"):
        return ProbeResult(name, layer, holds=True, how=said)
    return ProbeResult(name, layer, holds=False, how=said or describe(status))


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
    attempt = (_SEALED if layer == "seccomp" else _LANDLOCKED)[name]
    try:
        if layer == "seccomp":
            sandbox.seal(Policy(SandboxMode.REQUIRE, 1 << 30, 1 << 20, 60))
        else:
            sandbox.forbid_new_privileges()
            sandbox.landlock_deny_all()
    except (OSError, sandbox.SandboxUnreachable) as error:
        os.write(1, f"not sealed: {error}".encode("ascii", "replace"))
        os._exit(0)
    try:
        attempt()
    except OSError as error:
        verdict = "refused" if error.errno in _REFUSED else "not refused"
        os.write(1, f"{verdict}: {errno.errorcode.get(error.errno or 0)}".encode())
    else:
        os.write(1, b"allowed")
    os._exit(0)
