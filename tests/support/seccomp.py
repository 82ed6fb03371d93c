"""A seccomp filter that refuses system calls, as sandboxes do: for the programs under test.

    python3 -m tests.support.seccomp ENOSYS memfd_create,netlink -- COMMAND ...

runs COMMAND with these refused, by the errno of that name; what is refused is a call of `CALLS`,
or `netlink`: a socket of AF_NETLINK. It ends with status 125 where the kernel takes no filter.

The filter is a program of classic BPF that sees struct seccomp_data: the number of the call (4
bytes), the architecture (4), the instruction pointer (8), six arguments (8 each); seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
AF_NETLINK = 16
REFUSED = 125  # our status where there is no filter to be had

# <asm/unistd_64.h> and <asm-generic/unistd.h>: (x86_64, aarch64); -1: not there.
CALLS = {
    "socket": (41, 198),
    "epoll_create1": (291, 20),
    "memfd_create": (319, 279),
    "sendmmsg": (307, 269),
    "recvmmsg": (299, 243),
    "pipe2": (293, 59),
    "prlimit64": (302, 261),
    "sched_getaffinity": (204, 123),
    "pidfd_open": (434, 434),
    "getrandom": (318, 278),
    "statx": (332, 291),
    "clone3": (435, 435),
    "timerfd_create": (283, 85),
    "eventfd2": (290, 19),
    "inotify_init1": (294, 26),
    "accept4": (288, 242),
    "socketpair": (53, 199),
    "setsockopt": (54, 208),
    "getsockopt": (55, 209),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "ioctl": (16, 29),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "shutdown": (48, 210),
    "sysinfo": (99, 179),
    "madvise": (28, 233),
    "mremap": (25, 216),
    "flock": (73, 32),
    "fchmod": (91, 52),
    "getpgid": (121, 155),
    "sched_yield": (24, 124),
    "fstatfs": (138, 44),
}
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# One instruction: code, jump if true, jump if false, operand; <linux/filter.h>.
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16


def program(number: int, refused: list[str]) -> bytes:
    """The filter that answers `number` to the calls `refused`."""
    architecture, column = _ARCHITECTURES[platform.machine()]
    answer = _ERRNO | number
    steps = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _ALLOW)]
    for name in refused:
        steps.append((_LOAD, 0, 0, _NUMBER))
        if name == "netlink":
            steps += [(_EQUAL, 0, 3, CALLS["socket"][column]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
            steps += [(_EQUAL, 0, 1, AF_NETLINK), (_RETURN, 0, 0, answer)]
        else:
            steps += [(_EQUAL, 0, 1, CALLS[name][column]), (_RETURN, 0, 0, answer)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def refuse(number: int, refused: list[str]) -> bool:
    """From now on, in this process and its children; False where the kernel takes no filter."""
    if platform.machine() not in _ARCHITECTURES or sys.platform != "linux":
        return False
    code = program(number, refused)
    steps = ctypes.create_string_buffer(code)
    head = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(steps))
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_ulong(it) for it in (1, 0, 0, 0)]
    if libc.prctl(PR_SET_NO_NEW_PRIVS, *words):
        return False
    told = ctypes.create_string_buffer(head, len(head))
    filtered = libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), told, 0, 0)
    return bool(filtered == 0)


def main(arguments: list[str]) -> None:
    at = arguments.index("--")
    name, calls = arguments[:at]
    if not refuse(getattr(errno, name), calls.split(",")):
        sys.exit(REFUSED)
    os.execvp(arguments[at + 1], arguments[at + 1 :])


if __name__ == "__main__":
    main(sys.argv[1:])
