"""The seal, tried for real on this machine; what can't be tried here is read from the tables."""

import errno
import struct

import pytest

from resizer import probe, sandbox
from resizer.probe import check_sandbox
from resizer.sandbox import MACHINES, SandboxReport, seccomp_program


def kernel_has_both() -> bool:
    try:
        with open("/proc/sys/kernel/seccomp/actions_avail") as file:
            return "kill_process" in file.read() and sandbox.landlock_abi() >= 4
    except OSError:
        return False


@pytest.mark.skipif(not kernel_has_both(), reason="this kernel has no Landlock ABI 4 or no seccomp")
def test_every_probe_is_refused_and_the_codecs_run() -> None:
    results = {(result.layer, result.name): result for result in check_sandbox()}
    for (layer, name), result in results.items():
        assert result.holds, result
        if layer == "seccomp" and name != "codecs":
            assert result.how == "killed by SIGSYS"
        if layer in ("landlock", "no-new-privs"):
            assert result.how in ("refused: EACCES", "refused: EPERM")
    tried = {name for layer, name in results if layer == "seccomp"}
    assert {"open", "socket", "fork", "exec", "signal", "thread"} <= tried
    limited = {name: result.how for (layer, name), result in results.items() if layer == "rlimits"}
    assert limited.pop("cpu") in ("killed by SIGKILL", "killed by SIGXCPU")
    assert limited == {
        "memory": "refused: ENOMEM",
        "file-size": "refused: EFBIG",
        "descriptors": "refused: EMFILE",
    }


def test_what_an_older_landlock_does_not_cover_is_not_held_against_it(monkeypatch) -> None:
    tried = []
    monkeypatch.setattr(probe, "_watch", lambda command: (tried.append(command[-2:]), (0, ""))[1])
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: 3)
    results = {(each.layer, each.name): each for each in probe.check_sandbox()}
    assert results["landlock", "connect"].how == "covered from ABI 4 on; ABI 3 leaves it to seccomp"
    assert results["landlock", "signal"].holds
    assert not results["landlock", "open"].holds
    assert ["landlock", "signal"] not in tried
    assert ["seccomp", "signal"] in tried


ALLOW, KILL = 0x7FFF_0000, 0x8000_0000


def verdict(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """Run the filter as the kernel would."""
    code = seccomp_program(machine)
    arch = MACHINES[machine].audit if audit is None else audit
    padded = [*arguments, *(0,) * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, arch, 0, *padded)
    at, loaded = 0, 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        match operation:
            case 0x20:
                loaded = struct.unpack_from("<I", data, value)[0]
            case 0x15:
                at += if_true if loaded == value else if_false
            case 0x35:
                at += if_true if loaded >= value else if_false
            case 0x45:
                at += if_true if loaded & value else if_false
            case 0x06:
                return value


# Numbers of what must never be on the list, by hand from the kernel's tables.
FORBIDDEN = {
    "x86_64": {
        "open": 2, "openat": 257, "socket": 41, "connect": 42, "clone": 56, "fork": 57, "vfork": 58,
        "execve": 59, "kill": 62, "ptrace": 101, "tgkill": 234, "memfd_create": 319, "clone3": 435,
        "openat2": 437, "io_uring_setup": 425, "prctl": 157, "prlimit64": 302, "stat": 4,
    },
    "aarch64": {
        "openat": 56, "socket": 198, "connect": 203, "clone": 220, "execve": 221, "kill": 129,
        "ptrace": 117, "tgkill": 131, "memfd_create": 279, "clone3": 435, "openat2": 437,
        "io_uring_setup": 425, "prctl": 167, "prlimit64": 261,
    },
}  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_filter(machine: str) -> None:
    table = MACHINES[machine]
    for number in table.free.values():
        assert verdict(machine, number) == ALLOW
    for name, number in FORBIDDEN[machine].items():
        assert verdict(machine, number) == KILL, name
    for number in range(600):
        special = {table.mmap, table.mprotect, table.newfstatat}
        known = number in table.free.values() or number in special
        assert known or verdict(machine, number) == KILL
    # Another architecture's numbers, and x32's.
    read = table.free["read"]
    assert verdict(machine, read, audit=0x4000_0003) == KILL
    assert verdict(machine, read | 0x4000_0000) == KILL
    # Arguments.
    for number in (table.mmap, table.mprotect):
        assert verdict(machine, number, 0, 4096, 0b011) == ALLOW
        assert verdict(machine, number, 0, 4096, 0b100) == KILL
        assert verdict(machine, number, 0, 4096, 0b111) == KILL
    assert verdict(machine, table.newfstatat, 3, 0, 0, 0x1000) == ALLOW
    assert verdict(machine, table.newfstatat, 3, 0, 0, 0) == KILL
    assert verdict(machine, table.newfstatat, 3, 0, 0, 0x1100) == KILL


def test_an_unknown_architecture() -> None:
    with pytest.raises(OSError) as caught:
        seccomp_program("riscv64")
    assert caught.value.errno == errno.ENOSYS


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (SandboxReport(7, seccomp=True), "landlock ABI 7, seccomp, rlimits"),
        (
            SandboxReport(None, seccomp=True, reason="landlock: ENOSYS"),
            "no landlock, seccomp, rlimits (landlock: ENOSYS)",
        ),
    ],
)
def test_summary(report: SandboxReport, text: str) -> None:
    assert str(report) == text
