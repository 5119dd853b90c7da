"""The seal that a worker puts on itself: rlimits, no_new_privs, Landlock, seccomp.

After seal() the process can read and write the descriptors it holds, receive more from its parent,
take memory up to its limit, and end. It opens no file, makes no socket, starts no process or
thread, and signals nobody. Landlock and seccomp bind the calling thread and what it starts, so
seal before any other thread exists. No privilege and no library is needed.

Order: rlimits, no_new_privs (both of the others demand it), Landlock, and seccomp last, because its
filter forbids the calls of the first three.
"""

import ctypes
import enum
import errno
import os
import platform
import resource
import struct
from dataclasses import dataclass
from typing import Final


class SandboxMode(enum.StrEnum):
    """What to do where the kernel or a container's profile denies a layer."""

    REQUIRE = "require"  # refuse to start
    BEST_EFFORT = "best-effort"  # take what there is, and say so
    OFF = "off"  # rlimits only


class SandboxUnreachable(Exception):
    """A layer that was required is not to be had; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the sealed process may use. address_space_bytes counts above what it holds already."""

    mode: SandboxMode
    address_space_bytes: int
    file_bytes: int
    cpu_s: int


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What was reached. landlock is the ABI version, None where missing."""

    landlock: int | None
    seccomp: bool
    reason: str = ""

    def __str__(self) -> str:
        landlock = "no landlock" if self.landlock is None else f"landlock ABI {self.landlock}"
        seccomp = "seccomp" if self.seccomp else "no seccomp"
        reason = f" ({self.reason})" if self.reason else ""
        return f"{landlock}, {seccomp}, rlimits{reason}"


# Descriptors: 0 to 2, the socket, and a job's 34 (source, mark, 32 sinks), with room for what an
# interpreter holds. The kernel passes none on that would be above it.
MAX_DESCRIPTORS: Final = 48


def seal(policy: Policy) -> SandboxReport:
    """Seal this process for good. Raises SandboxUnreachable only in mode REQUIRE."""
    set_limits(policy)
    if policy.mode is SandboxMode.OFF:
        return SandboxReport(landlock=None, seccomp=False, reason="switched off")
    reasons: list[str] = []
    landlock: int | None = None
    seccomp = False
    try:
        forbid_new_privileges()
        landlock = landlock_deny_all()
    except OSError as error:
        reasons.append(f"landlock: {_name(error)}")
    try:
        load_seccomp(seccomp_program())
        seccomp = True
    except OSError as error:
        reasons.append(f"seccomp: {_name(error)}")
    if policy.mode is SandboxMode.REQUIRE and reasons:
        raise SandboxUnreachable("; ".join(reasons))
    return SandboxReport(landlock, seccomp, "; ".join(reasons))


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def set_limits(policy: Policy) -> None:
    """RLIMIT_CPU counts over a process's life; the deadline of a job is the pool's wall clock."""
    limits = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_DESCRIPTORS),
        (resource.RLIMIT_FSIZE, policy.file_bytes),
        (resource.RLIMIT_CPU, policy.cpu_s),
        (resource.RLIMIT_AS, _address_space() + policy.address_space_bytes),
    )
    for limit, value in limits:
        _, hard = resource.getrlimit(limit)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(limit, (value, value))


def _address_space() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


# --- system calls --------------------------------------------------------------------------------

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Machine:
    """The numbers of one architecture. free: calls allowed with any arguments."""

    audit: int  # AUDIT_ARCH_*, what seccomp sees
    seccomp: int
    mmap: int
    mprotect: int
    newfstatat: int
    free: dict[str, int]


# What CPython, glibc and the five codecs were seen to call after the warm-up, and what glibc may
# call in their place elsewhere. Landlock's and prctl's numbers are those of every architecture
# since 5.13 (landlock 444 to 446); prctl goes through libc.
MACHINES: Final[dict[str, Machine]] = {
    "x86_64": Machine(
        audit=0xC000_003E,
        seccomp=317,
        mmap=9,
        mprotect=10,
        newfstatat=262,
        free={
            "read": 0,
            "write": 1,
            "close": 3,
            "fstat": 5,
            "lseek": 8,
            "munmap": 11,
            "brk": 12,
            "rt_sigaction": 13,
            "rt_sigprocmask": 14,
            "rt_sigreturn": 15,
            "pread64": 17,
            "sched_yield": 24,
            "mremap": 25,
            "madvise": 28,
            "getpid": 39,
            "sendmsg": 46,
            "recvmsg": 47,
            "exit": 60,
            "gettid": 186,
            "futex": 202,
            "sched_getaffinity": 204,
            "restart_syscall": 219,
            "clock_gettime": 228,
            "clock_nanosleep": 230,
            "exit_group": 231,
            "getrandom": 318,
        },
    ),
    "aarch64": Machine(
        audit=0xC000_00B7,
        seccomp=277,
        mmap=222,
        mprotect=226,
        newfstatat=79,
        free={
            "close": 57,
            "lseek": 62,
            "read": 63,
            "write": 64,
            "pread64": 67,
            "fstat": 80,
            "exit": 93,
            "exit_group": 94,
            "futex": 98,
            "clock_gettime": 113,
            "clock_nanosleep": 115,
            "sched_getaffinity": 123,
            "sched_yield": 124,
            "restart_syscall": 128,
            "rt_sigaction": 134,
            "rt_sigprocmask": 135,
            "rt_sigreturn": 139,
            "getpid": 172,
            "gettid": 178,
            "sendmsg": 211,
            "recvmsg": 212,
            "brk": 214,
            "munmap": 215,
            "mremap": 216,
            "madvise": 233,
            "getrandom": 278,
        },
    ),
}


def _syscall(number: int, *arguments: object) -> int:
    result: int = _LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def forbid_new_privileges() -> None:
    """prctl(PR_SET_NO_NEW_PRIVS): exec gains nothing, and the filters need no privilege."""
    _prctl(38, 1)


def has_no_new_privileges() -> bool:
    """prctl(PR_GET_NO_NEW_PRIVS)."""
    zero = ctypes.c_ulong(0)
    return bool(_LIBC.prctl(39, zero, zero, zero, zero) == 1)


def die_with_parent() -> None:
    """prctl(PR_SET_PDEATHSIG, SIGKILL): when the thread that started us ends, so do we."""
    _prctl(1, 9)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# --- Landlock ------------------------------------------------------------------------------------


def landlock_abi() -> int:
    """Raises OSError where Landlock is missing (ENOSYS) or switched off (EOPNOTSUPP)."""
    return _syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))


def landlock_deny_all() -> int:
    """Handle every right the kernel knows and grant none. Returns the ABI version."""
    abi = landlock_abi()
    files = (1 << 13) - 1  # ABI 1: execute to make_sym
    for since, bit in ((2, 13), (3, 14), (5, 15)):  # refer, truncate, ioctl_dev
        if abi >= since:
            files |= 1 << bit
    network = 0b11 if abi >= 4 else 0  # TCP bind, connect
    scoped = 0b11 if abi >= 6 else 0  # abstract sockets, signals
    attributes = struct.pack("QQQ", files, network, scoped)  # older kernels accept a tail of zeros
    ruleset = _syscall(444, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        _syscall(446, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return abi


# --- seccomp -------------------------------------------------------------------------------------

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_HAS_BITS: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_KILL: Final = 0x8000_0000  # SECCOMP_RET_KILL_PROCESS
_ALLOW: Final = 0x7FFF_0000
_X32: Final = 0x4000_0000  # the bit of x86_64's other table of numbers
_PROT_EXEC: Final = 4
_AT_EMPTY_PATH: Final = 0x1000

# Offsets in struct seccomp_data; an argument's low half, both machines being little-endian.
_NUMBER_AT: Final = 0
_ARCH_AT: Final = 4


def _argument_at(index: int) -> int:
    return 16 + 8 * index


Step = tuple[int, int, int, int]


def seccomp_program(name: str | None = None) -> list[Step]:
    """The filter for an architecture, ours by default. Raises OSError (ENOSYS) without a table."""
    machine = MACHINES.get(name or platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, "no table of system calls for this architecture")
    code: list[Step] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]
    for number in machine.free.values():
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    # Memory may be had, but never to be run: a hijacked decoder brings no code of its own.
    for number in (machine.mmap, machine.mprotect):
        code += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _argument_at(2)),
            (_HAS_BITS, 0, 1, _PROT_EXEC),
            (_RETURN, 0, 0, _KILL),
            (_RETURN, 0, 0, _ALLOW),
        ]
    # glibc's fstat() since 2.33. Landlock does not cover stat, so other flags stay out.
    code += [
        (_EQUAL, 0, 3, machine.newfstatat),
        (_LOAD, 0, 0, _argument_at(3)),
        (_EQUAL, 0, 1, _AT_EMPTY_PATH),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _KILL),
    ]
    return code


def load_seccomp(program: list[Step]) -> None:
    """seccomp(SECCOMP_SET_MODE_FILTER); from here on what is not listed kills."""
    raw = b"".join(struct.pack("HBBI", *step) for step in program)
    steps = ctypes.create_string_buffer(raw, len(raw))
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(steps))  # struct sock_fprog
    number = MACHINES[platform.machine()].seccomp
    _syscall(number, ctypes.c_uint(1), ctypes.c_uint(0), header)
