"""The user's small files: private, whole, and kept when two programs write them."""

from __future__ import annotations

import os
import pwd
import resource
import signal
import socket
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import CANT_CREATE, SetupError
from evloop.daemon.server import state_path
from evloop.system import files
from evloop.system.files import (
    keep_name,
    kept_name,
    load_history,
    read_small,
    save_history,
    state_directory,
    write_atomically,
    write_new,
    write_private,
)
from evloop.system.limits import HISTORY_LINES_MAX


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/evloop"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/evloop"),
        ({"HOME": "/h"}, "/h/.local/state/evloop"),
        ({"XDG_STATE_HOME": "", "HOME": ""}, "/of/the/database/.local/state/evloop"),
        ({"HOME": "."}, "/of/the/database/.local/state/evloop"),
        ({}, "/of/the/database/.local/state/evloop"),
    ],
)
def test_where_they_live(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = SimpleNamespace(pw_dir="/of/the/database")
    monkeypatch.setattr(pwd, "getpwuid", lambda user: entry)
    assert state_directory(environment) == expected


def unknown_user(user: int) -> None:
    raise KeyError(f"uid not found: {user}")


@pytest.mark.parametrize("relative", ["", "relative", "./x", "~"])
def test_who_has_no_home_has_no_place_and_never_the_working_directory(
    relative: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", unknown_user)
    environment = {"XDG_STATE_HOME": relative, "HOME": relative}
    assert state_directory(environment) is None
    with pytest.raises(SetupError, match="--state FILE") as it:
        state_path(environment)
    assert it.value.exit_status == CANT_CREATE
    assert state_path({**environment, "STATE_DIRECTORY": "/var/lib/evloop:/x"}) == (
        "/var/lib/evloop/directory.db"
    )
    with pytest.raises(SetupError):
        state_path({**environment, "STATE_DIRECTORY": "relative"})


def test_both_programs_agree() -> None:
    environment = {"XDG_STATE_HOME": "/x"}
    assert os.path.dirname(state_path(environment)) == state_directory(environment)


def test_a_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a" / "evloop" / "pins"
    before = os.umask(0)
    try:
        write_private(str(path), b"secret")
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert read_small(str(path), 100) == b"secret"
    assert read_small(str(path), 3) == b"sec"


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_small(str(tmp_path / "nothing"), 10) == b""
    assert load_history(str(tmp_path)) == []


def test_a_fifo_in_its_place_does_not_hang_us(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "history")
    with pytest.raises(OSError, match="not a regular file"):
        read_small(str(tmp_path / "history"), 10)
    assert load_history(str(tmp_path)) == []


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_failure_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "tokens"
    write_atomically(str(path), b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space"):
            write_atomically(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["tokens"]


@pytest.mark.parametrize("link", [True, False])
def test_what_stands_at_the_temporary_name_is_replaced_and_a_link_not_followed(
    tmp_path: Path, link: bool
) -> None:
    victim, temporary = tmp_path / "victim", tmp_path / f"pins.{os.getpid()}.new"
    victim.write_bytes(b"precious")
    if link:
        temporary.symlink_to(victim)
    else:
        temporary.write_bytes(b"half")
    write_atomically(str(tmp_path / "pins"), b"new")
    assert victim.read_bytes() == b"precious"
    assert (tmp_path / "pins").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["pins", "victim"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:3])))
        write_atomically(str(tmp_path / "pins"), b"0123456789")
    assert (tmp_path / "pins").read_bytes() == b"0123456789"


@given(st.lists(st.text(max_size=20).filter(lambda line: "\ud800" not in line), max_size=20))
def test_any_lines_come_back(lines: list[str]) -> None:
    assert [files.unescape(files.escape(line)) for line in lines] == lines
    assert not any("\n" in files.escape(line) for line in lines)


def test_history_survives_a_run(tmp_path: Path) -> None:
    directory = str(tmp_path / "state")
    save_history(directory, [], ["getdir", "two\nlines", "back\\slash\\n", "日本"])
    assert load_history(directory) == ["getdir", "two\nlines", "back\\slash\\n", "日本"]
    assert mode(tmp_path / "state" / "history") == 0o600


def test_two_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    directory = str(tmp_path)
    save_history(directory, [], ["old"])
    first, second = load_history(directory), load_history(directory)
    save_history(directory, first, [*first, "from the first"])
    save_history(directory, second, [*second, "from the second"])
    assert load_history(directory) == ["old", "from the first", "from the second"]


def test_history_is_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    directory = str(tmp_path)
    before: list[str] = []
    for run in range(3):
        lines = [*before, *(f"{run} {number}" for number in range(300))][-HISTORY_LINES_MAX:]
        save_history(directory, before, lines)
        before = load_history(directory)
    assert len(before) == HISTORY_LINES_MAX
    assert before[-1] == "2 299"
    assert before[0] == "1 100"


def test_a_damaged_history_does_not_stop_us(tmp_path: Path) -> None:
    (tmp_path / "history").write_bytes(b"good\n\xff\xfe\n\\\nhalf")
    assert load_history(str(tmp_path)) == ["good", "\ufffd\ufffd", "\\"]


def test_a_name_is_kept_and_read_back(tmp_path: Path) -> None:
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    assert kept_name(environment) == "" and kept_name({}) == ""
    assert keep_name(environment, "Zoë") == "" and kept_name(environment) == "Zoë"
    assert mode(tmp_path / "evloop" / "name") == 0o600
    assert "set HOME" in keep_name({}, "Zoë")
    (tmp_path / "evloop" / "name").unlink()
    (tmp_path / "evloop" / "name").mkdir()
    assert kept_name(environment) == "" and keep_name(environment, "Zoë") == "Is a directory"


def test_a_new_file_is_new_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "talk"
    write_new(str(path), "a\n")
    with pytest.raises(FileExistsError):
        write_new(str(path), "b\n")
    assert path.read_text() == "a\n"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limit[1]))  # as a disk that fills up
    try:
        with pytest.raises(OSError, match="File too large"):
            write_new(str(tmp_path / "full"), "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert not (tmp_path / "full").exists()


def test_a_file_for_others_is_readable_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "evloop.prom"
    before = os.umask(0o077)
    try:
        write_atomically(str(path), b"old\n", mode=0o644, durable=False)
        with path.open() as reader:
            write_atomically(str(path), b"new\n", mode=0o644, durable=False)
            assert reader.read() == "old\n", "who had it open reads on"
    finally:
        os.umask(before)
    assert path.read_text() == "new\n"
    assert mode(path) == 0o644, "another user collects it"
    assert os.listdir(tmp_path) == ["evloop.prom"]


def test_a_file_in_the_working_directory_needs_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_atomically("evloop.prom", b"figures\n")
    assert (tmp_path / "evloop.prom").read_bytes() == b"figures\n"


def test_a_trap_beside_the_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    trap = tmp_path / f"pins.{os.getpid()}.new"
    trap.symlink_to(victim)
    write_atomically(str(tmp_path / "pins"), b"figures")
    assert victim.read_text() == "precious"
    os.mkfifo(trap)
    write_atomically(str(tmp_path / "pins"), b"figures")


def test_our_own_link_stays_a_link(tmp_path: Path) -> None:
    """The history of who keeps his settings in a repository."""
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "history", tmp_path / "elsewhere" / "typed"
    link.symlink_to(target)
    for text in (b"first", b"second"):  # the first time it leads nowhere yet
        write_atomically(str(link), text)
        assert link.is_symlink() and target.read_bytes() == text
    save_history(str(tmp_path), [], ["hello"])
    assert link.is_symlink() and load_history(str(tmp_path)) == ["hello"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make another user's link")
def test_a_strangers_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    link, victim = tmp_path / "evloop.prom", tmp_path / "victim"
    victim.write_text("precious")
    link.symlink_to(victim)
    os.lchown(link, 12345, 12345)
    write_atomically(str(link), b"figures")
    assert victim.read_text() == "precious"
    assert not link.is_symlink() and link.read_bytes() == b"figures"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """Root would replace what the whole machine uses: `ln -s /dev/null history` is a habit, and so
    is /dev/stdout as a file of figures."""
    fifo, place = tmp_path / "fifo", tmp_path / "socket"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(place))
    for path in (fifo, place):
        link = path.with_suffix(".link")
        link.symlink_to(path)
        for name in (path, link):
            with pytest.raises(OSError, match="not a regular file"):
                write_atomically(str(name), b"figures")
    assert stat.S_ISFIFO(fifo.stat().st_mode) and stat.S_ISSOCK(place.stat().st_mode)
    assert len(os.listdir(tmp_path)) == 4


def test_a_history_that_is_linked_to_nowhere_is_kept_nowhere(tmp_path: Path) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.stat("/dev/null").st_rdev)
    except OSError:
        null = Path("/dev/null")  # whoever is not root could not replace it in any case
    (tmp_path / "history").symlink_to(null)
    save_history(str(tmp_path), [], ["getdir"])
    assert stat.S_ISCHR(null.stat().st_mode) and load_history(str(tmp_path)) == []
    assert {path.name for path in tmp_path.iterdir()} <= {"history", "null", "history.lock"}


def test_what_earlier_releases_kept_of_rooms_is_forgotten(tmp_path: Path) -> None:
    directory = str(tmp_path)
    save_history(directory, [], ["getdir", "a secret", "quit"])

    def is_command(line: str) -> bool:
        return " " not in line

    assert load_history(directory, is_command) == ["getdir", "quit"]
    save_history(directory, ["getdir", "quit"], ["getdir", "quit", "bye"], is_command)
    assert load_history(directory) == ["getdir", "quit", "bye"]
