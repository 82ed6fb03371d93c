"""What a person is told when something happened that nobody has foreseen."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from evloop.base.errors import FAILED, INTERNAL
from evloop.system.unexpected import told
from tests.support.sources import ROOT

REFUSES = "this system refuses a call that evloop needs: "
SHOWS = "; --debug shows where"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_call_that_is_refused_is_no_mistake_of_ours(number: int) -> None:
    why = os.strerror(number)
    assert told(OSError(number, why)) == (REFUSES + why + SHOWS, FAILED)
    named = f"{REFUSES}{why}: '/a'{SHOWS}"
    assert told(OSError(number, why, "/a")) == (named, FAILED)


@pytest.mark.parametrize("error", [OSError(errno.EBADF, "Bad file descriptor"), KeyError("x")])
def test_all_else_is(error: Exception) -> None:
    what = f"{type(error).__name__}: {error}"
    assert told(error) == (f"internal error: {what}{SHOWS}", INTERNAL)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/lib/json.py"),
        ImportError(f"x.so: cannot open shared object file: {os.strerror(errno.EMFILE)}"),
    ],
)
def test_the_limit_of_open_files_is_none_either(error: Exception) -> None:
    limit = os.sysconf("SC_OPEN_MAX")
    sentence = f"the limit of {limit} open files is too low; see ulimit -n"
    assert told(error) == (sentence, FAILED)
    assert told(ImportError("no module named x"))[1] == INTERNAL


@pytest.mark.parametrize("is_read", [True, False])
def test_last_words_need_no_descriptor_and_no_reader(is_read: bool) -> None:
    program = (
        "import os\n"
        "from resource import RLIMIT_NOFILE, setrlimit\n"
        "from evloop.system.process import last_words\n"
        "setrlimit(RLIMIT_NOFILE, (3, 3))\n"
        "last_words('the end')\n"
        "os._exit(7)\n"
    )
    reader, writer = os.pipe()
    if not is_read:
        os.close(reader)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stderr=writer, check=False)
    os.close(writer)
    assert done.returncode == 7
    if is_read:
        assert os.read(reader, 99) == b"the end\n"
        os.close(reader)
