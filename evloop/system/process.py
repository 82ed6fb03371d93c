"""What both programs do before they begin: descriptors, and argparse without what it loads."""

from __future__ import annotations

import os
import sys

from evloop.system.limits import OPEN_FILES_MIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, HelpFormatter
    from collections.abc import Callable, Sequence
    from typing import Any


def fill_standard() -> None:
    """Put /dev/null where descriptor 0, 1 or 2 is closed.

    Else the next file opened would get that number; with number 2, the log would be written into
    the file of the rooms. In place of standard output it is opened for reading only: that nothing
    can be printed there is an error, as it is without us.
    """
    for number, flags in enumerate((os.O_RDWR, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(number)
        except OSError:
            os.open("/dev/null", flags)  # gets the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (for the life of the process)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _archive() -> str:
    """The file in which evloop is when Python runs it out of an archive, else ""."""
    loader = sys.modules[__name__].__loader__
    return getattr(loader, "archive", "")  # only the loader of archives has one


def command_of(program: str = "") -> str:
    """The shell command that starts `program` ("client", "server", or "" for both in one).

    `python3 -m evloop.client`; out of an archive `python3 evloop.pyz client`, so that what is
    printed for other machines names the file that they were given.
    """
    archive = _archive()
    if not archive:
        return f"python3 -m evloop.{program}" if program else "python3 -m evloop"
    name = os.path.basename(os.path.realpath(archive))
    if name.startswith("evloop-"):  # a copy that is called as one of the programs is
        return f"evloop-{program}" if program else "evloop"
    return f"python3 {name} {program}" if program else f"python3 {name}"


def name_of(program: str) -> str:
    """What help calls `program`: as it is installed; out of an archive, what starts it there."""
    name = f"evloop-{program}"
    if not _archive() or os.path.basename(sys.argv[0]).startswith(name):
        return name
    return command_of(program)


def last_words(text: str) -> None:
    """Write `text` to standard error as the process ends; it does not wait long for a reader that
    has stopped."""
    try:
        from evloop.system.stdout import Writer  # late: `--version` has no use for it

        writer = Writer(2)
    except (OSError, ImportError):  # no file can be opened, nor a descriptor be had
        _last_resort(text)
        return
    writer.line(text)
    writer.drain(0.5)
    writer.close()


def _last_resort(text: str) -> None:
    """`text` to standard error as it is."""
    try:
        os.write(2, f"{text}\n".encode(errors="replace"))
    except OSError:  # nobody reads it: the exit status is all that is left to tell
        return


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; return what it is then."""
    from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit

    try:
        soft, hard = getrlimit(RLIMIT_NOFILE)
    except OSError:  # a sandbox that does not tell
        return OPEN_FILES_MIN
    if soft == hard:
        return 1 << 20 if hard == RLIM_INFINITY else hard
    # Some systems accept less than they report; on Darwin it is OPEN_MAX of <sys/syslimits.h>.
    for ceiling in (hard, 10_240):
        above = soft != RLIM_INFINITY and (ceiling == RLIM_INFINITY or ceiling > soft)
        try:
            if above:
                setrlimit(RLIMIT_NOFILE, (ceiling, hard))
                return 1 << 20 if ceiling == RLIM_INFINITY else ceiling
        except (OSError, ValueError):
            continue
    return soft


def columns() -> int:
    """The width of the terminal: $COLUMNS, else what the kernel tells, else 80.

    shutil.get_terminal_size does the same, but loads the compressors: 2 ms at each start, because
    argparse asks for each option, whether help is printed or not.
    """
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given[:6]) > 0:
        return int(given[:6])
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:  # no terminal
        return 80


class _NoTheme:
    """No color for any part of a help text: what argparse of Python 3.14 and newer asks for."""

    __slots__ = ()

    def __getattr__(self, part: str) -> str:
        return ""


def formatter(kind: type[HelpFormatter]) -> Callable[..., HelpFormatter]:
    """A `formatter_class` of that kind, as wide as the terminal, without colors.

    Python 3.14 makes a colored formatter at the first option of a parser, whether help is asked for
    or not, and loads dataclasses and inspect for it: 13 ms and 2 MB of each start with an option.
    """
    width = columns() - 2

    class Uncolored(kind):  # type: ignore[valid-type, misc]
        __slots__ = ("_decolor", "_theme")

        def _set_color(self, *_wanted: object, **_more: object) -> None:
            self._theme = _NoTheme()
            self._decolor = str

    return lambda prog: Uncolored(prog, width=width)


def answer_version(arguments: Sequence[str], text: str) -> None:
    """Print `text` and exit when `--version` is the only argument. Scripts ask for it, and need not
    wait for argparse (measured: 0.8x of the time)."""
    if list(arguments) == ["--version"]:
        print_out(f"{text}\n")
        raise SystemExit(0)


def print_out(text: str) -> None:
    """Print `text` to standard output now; exit with a sentence when that fails.

    Standard output is flushed here and not when the interpreter ends, which would report a failure
    with a traceback. That nobody reads it (`| true`) is no failure.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer is written once more at the end, and Python 3.13 complains when
        # that fails: it goes to nowhere.
        os.dup2(os.open("/dev/null", os.O_WRONLY), sys.stdout.fileno())
        sys.stdout = None
        if not isinstance(error, BrokenPipeError):
            raise SystemExit(f"evloop: standard output: {error.strerror}") from None


def parser_kind() -> type[ArgumentParser]:
    """A parser whose `--help` and `--version` fail when they cannot be printed.

    argparse itself ignores that, and exits with 0. It is loaded here: most starts need none.
    """
    from argparse import ArgumentParser

    class Parser(ArgumentParser):
        __slots__ = ()

        def _print_message(self, message: str, file: Any = None) -> None:
            if file is sys.stdout:
                print_out(message)
            else:
                super()._print_message(message, file)

    return Parser
