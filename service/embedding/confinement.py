"""Confinement: a process keeps what it has and gets nothing more: no file, no socket, no other process.

For the decoders, before the first byte of a stranger's picture: code that breaks out of an image library finds nothing
to read, to write to or to talk to. Linux only: Landlock for the file system, a seccomp filter for system calls, limits
for the rest. Nothing of it can be undone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from dataclasses import dataclass
from typing import Literal, get_args

_PR_SET_NO_NEW_PRIVS = 38
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_CLONE_THREAD = 0x00010000
# Loads a word of the call's description; compares, tests bits; returns. From linux/bpf_common.h.
_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_X32 = 0x40000000
# The same on every architecture.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
# What a ruleset can forbid to files, connections and signals, by the version of Landlock that brought it.
_FILES = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
_NETWORK = {4: 0x3}
_SCOPES = {6: 0x3}
_LANDLOCK_RIGHTS = (_FILES, _NETWORK, _SCOPES)


@dataclass(frozen=True, slots=True)
class _Machine:
    """Numbers of system calls, from the kernel's tables. refused: those that are not needed to compute."""

    architecture: int
    seccomp: int
    clone: int
    clone3: int
    prlimit: int
    tgkill: int
    refused: tuple[int, ...]


# open creat openat openat2 open_by_handle_at; socket socketpair connect bind listen accept accept4; fork vfork execve
# execveat; kill tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_getfd pidfd_send_signal ptrace
# process_vm_readv process_vm_writev process_madvise; io_uring_*; bpf perf_event_open userfaultfd; key*; unshare setns
# mount umount2 chroot pivot_root; names of files made, changed and removed; shmget msgget semget mq_open.
_MACHINES = {
    "x86_64": _Machine(
        architecture=0xC000003E, seccomp=317, clone=56, clone3=435, prlimit=302, tgkill=234,
        refused=(2, 85, 257, 437, 304, 41, 53, 42, 49, 50, 43, 288, 57, 58, 59, 322, 62, 200, 129, 297, 434, 438, 424,
                 101, 310, 311, 440, 425, 426, 427, 321, 298, 323, 248, 249, 250, 272, 308, 165, 166, 161, 155, 83, 258,
                 84, 87, 263, 82, 264, 316, 86, 265, 88, 266, 90, 268, 92, 94, 260, 133, 259, 76, 80, 81, 280, 29, 68,
                 64, 240),
    ),
    "aarch64": _Machine(
        architecture=0xC00000B7, seccomp=277, clone=220, clone3=435, prlimit=261, tgkill=131,
        refused=(56, 437, 265, 198, 199, 203, 200, 201, 202, 242, 221, 281, 129, 130, 138, 240, 434, 438, 424,
                 117, 270, 271, 440, 425, 426, 427, 280, 241, 282, 217, 218, 219, 97, 268, 40, 39, 51, 41, 34,
                 35, 38, 276, 37, 36, 53, 54, 33, 45, 49, 50, 88, 194, 186, 190, 180),
    ),
}  # fmt: skip


Measure = Literal["limits", "landlock", "seccomp"]

MEASURES: tuple[Measure, ...] = get_args(Measure)


def confine() -> list[Measure]:
    """Confines this process with all its threads. Returns what the kernel lacks for it, empty where it is complete."""
    os.environ.clear()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return ["landlock", "seccomp"]
    system = ctypes.CDLL(None, use_errno=True)
    system.syscall.restype = ctypes.c_long
    if system.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return ["landlock", "seccomp"]  # the kernel takes neither from a process that may still gain rights
    made: dict[Measure, bool] = {"landlock": _landlock(system), "seccomp": _seccomp(system)}
    return [name for name, done in made.items() if not done]


def _landlock(system: ctypes.CDLL) -> bool:
    """Forbids every file that is not open yet."""
    version = system.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if version < 1:
        return False
    words = [max((bits for since, bits in each.items() if since <= version), default=0) for each in _LANDLOCK_RIGHTS]
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = ctypes.create_string_buffer(struct.pack("=QQQ", *words), 24)
    ruleset = system.syscall(_LANDLOCK_CREATE_RULESET, rules, ctypes.c_size_t(size), ctypes.c_uint(0))
    if ruleset < 0:
        return False
    done = system.syscall(_LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    os.close(ruleset)
    return bool(done == 0)


def _seccomp(system: ctypes.CDLL) -> bool:
    """Refuses the system calls of `_Machine` with EPERM."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    program = b"".join(struct.pack("=HBBI", *each) for each in _program(machine))
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    set_mode_filter, all_threads = 1, 1
    done = system.syscall(machine.seccomp, ctypes.c_uint(set_mode_filter), ctypes.c_uint(all_threads), filter_)
    return bool(done == 0)


def _program(machine: _Machine) -> list[tuple[int, int, int, int]]:
    """Instructions: code, jump where true, jump where false, operand."""
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    first = (_LOAD, 0, 0, _FIRST_ARGUMENT)
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, machine.architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        refuse,
        *(each for number in machine.refused for each in ((_EQUAL, 0, 1, number), refuse)),
        # The C library falls back to clone, whose flags can be seen; threads may be made, processes may not.
        (_EQUAL, 0, 1, machine.clone3),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        *((_EQUAL, 0, 4, machine.clone), first, (_HAS_BITS, 1, 0, _CLONE_THREAD), refuse, allow),
        # Limits and signals of this process only.
        *((_EQUAL, 0, 4, machine.prlimit), first, (_EQUAL, 1, 0, 0), refuse, allow),
        *((_EQUAL, 0, 4, machine.tgkill), first, (_EQUAL, 1, 0, os.getpid()), refuse, allow),
        allow,
    ]
