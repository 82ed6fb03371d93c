"""What a process does about its descriptors before it begins."""

import os
import sys


def fill_standard() -> None:
    """Put /dev/null where descriptor 0, 1 or 2 is closed.

    Else the next file opened would get that number, and with 2 it would be the rooms' own file
    into which the log is written.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # gets the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (for the life of the process)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; return what it is then."""
    from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit

    soft, hard = getrlimit(RLIMIT_NOFILE)
    if soft != hard:
        try:
            setrlimit(RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # some systems have a lower ceiling than they say
            return soft
    return 1 << 20 if hard == RLIM_INFINITY else hard
