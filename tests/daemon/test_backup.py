"""`--backup` and the history of kept rooms: what is copied, what is not, what is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from evloop.base.errors import SetupError
from evloop.daemon.backup import make_backup
from evloop.daemon.history_store import open_history
from evloop.daemon.keeping import history_path
from evloop.daemon.options import parse_options
from evloop.daemon.store import open_store

ANN = b"\x0a" * 8


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "directory.db"
    open_store(str(path)).close()
    return path


def keep(path: Path, fold: str, *texts: str, deleted: bool = False) -> None:
    store = open_history(str(path))
    number = store.number(fold, 1)
    for seq, text in enumerate(texts):
        store.insert(number, 1, ANN, seq, text.encode())
    store.commit()
    if deleted:
        store.forget(fold, 1)  # and the server ends before any row has gone
    store.close()


def held(path: Path, fold: str) -> list[bytes]:
    store = open_history(str(path))
    try:
        return [row.datagram for row in store.page(store.number(fold, 1), 2**62, 100)]
    finally:
        store.close()


def test_the_history_goes_beside_the_copy(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history, target = tmp_path / "history.db", tmp_path / "copy.db"
    keep(history, "lab", "one", "two")
    assert make_backup(str(state), str(target), str(history)) == 0
    assert capsys.readouterr().out == (
        f"copied 0 rooms of {state} to {target}\n"
        f"copied what was said in 1 room of {history} to {target}.history\n"
    )
    copy = tmp_path / "copy.db.history"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("copy.db.history?*")), "it needs no log"
    keep(history, "garden", "three")
    make_backup(str(state), str(target), str(history))
    assert held(copy, "lab") == [b"two", b"one"], "an older copy is replaced"
    assert held(copy, "garden") == [b"three"]


def test_what_is_deleted_is_in_no_copy(state: Path, tmp_path: Path) -> None:
    history = tmp_path / "history.db"
    keep(history, "lab", *(f"it stays {number}" for number in range(100)))
    keep(history, "garden", *(f"a secret {number}" for number in range(100)), deleted=True)
    assert b"a secret" in history.read_bytes()
    make_backup(str(state), str(tmp_path / "copy.db"), str(history))
    assert b"a secret" not in (tmp_path / "copy.db.history").read_bytes()
    assert len(held(tmp_path / "copy.db.history", "lab")) == 100


@pytest.mark.parametrize("what", ["letter", "state file", "history itself"])
def test_nothing_else_is_replaced(state: Path, tmp_path: Path, what: str) -> None:
    history, beside = tmp_path / "history.db", tmp_path / "copy.db.history"
    keep(history, "lab", "one")
    if what == "letter":
        beside.write_text("Dear Bob")
    elif what == "state file":
        open_store(str(beside)).close()
    else:
        beside.symlink_to(history)
    before = beside.read_bytes()
    with pytest.raises(SetupError) as caught:
        make_backup(str(state), str(tmp_path / "copy.db"), str(history))
    assert what in caught.value.sentence or "no copy of a history" in caught.value.sentence
    assert caught.value.exit_status == 73
    assert beside.read_bytes() == before and not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize("there", ["nothing", "empty"])
def test_where_nothing_is_kept_nothing_is_copied(state: Path, tmp_path: Path, there: str) -> None:
    history = tmp_path / "history.db"
    if there == "empty":
        history.write_bytes(b"")
    make_backup(str(state), str(tmp_path / "copy.db"), str(history))
    assert (tmp_path / "copy.db").exists() and not (tmp_path / "copy.db.history").exists()


@pytest.mark.parametrize("what", ["letter", "state file"])
def test_what_is_no_history_is_told(state: Path, tmp_path: Path, what: str) -> None:
    history = tmp_path / "history.db"
    if what == "letter":
        history.write_text("Dear Bob " * 100)
    else:
        open_store(str(history)).close()
    with pytest.raises(SetupError, match=r"not a database|is no history of evloop") as caught:
        make_backup(str(state), str(tmp_path / "copy.db"), str(history))
    assert str(history) in caught.value.sentence and caught.value.exit_status == 73
    assert not list(tmp_path.glob("copy.db.*"))


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ((), "/var/lib/evloop/history.db"),
        (("--keep", "all"), "/var/lib/evloop/history.db"),
        (("--keep-file", "/srv/said.db"), "/srv/said.db"),
        (("--keep", "none", "--keep-file", "/srv/said.db"), None),
    ],
)
def test_where_the_history_is(words: tuple[str, ...], path: str | None) -> None:
    assert history_path(parse_options(words), "/var/lib/evloop/directory.db") == path
