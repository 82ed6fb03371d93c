"""What sqlite leaves in the gaps of its pages: gone, and the file is as whole as before."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from evloop.daemon.scrubbing import scrub


def scrub_all(path: Path, pages: int) -> int:
    """All of it in pieces; how many pieces."""
    number, pieces = 1, 0
    while number:
        number = scrub(str(path), number, pages)
        pieces += 1
    return pieces


@pytest.mark.parametrize("page_bytes", [512, 4_096, 65_536])
def test_deleted_text_goes_and_all_else_stays(tmp_path: Path, page_bytes: int) -> None:
    """Small pages make a map of many pages. Before, something is there: the test can fail."""
    path = tmp_path / "file.db"
    file = sqlite3.connect(path, isolation_level=None)
    file.execute(f"PRAGMA page_size = {page_bytes}")
    file.execute("PRAGMA auto_vacuum = INCREMENTAL")
    file.execute("PRAGMA secure_delete = ON").fetchone()
    file.execute("CREATE TABLE texts (at INTEGER PRIMARY KEY, who INTEGER, body BLOB)")
    file.execute("CREATE INDEX by_who ON texts (who, body)")
    file.execute("BEGIN")
    words = b"secret", b"public"
    rows = [(at, at % 2, b"%s %d " % (words[at % 4 == 3], at) * 3) for at in range(4_000)]
    file.executemany("INSERT INTO texts VALUES (?, ?, ?)", rows)
    file.execute("COMMIT")
    file.execute("BEGIN")
    gone = [(at,) for at, _, text in rows if text.startswith(b"secret")]
    file.executemany("DELETE FROM texts WHERE at = ?", gone)
    file.execute("COMMIT")
    file.execute("PRAGMA incremental_vacuum(50)").fetchall()
    file.close()
    left_behind = path.read_bytes().count(b"secret")
    assert scrub_all(path, 100) >= 1
    assert left_behind or page_bytes == 65_536
    assert b"secret" not in path.read_bytes()
    again = sqlite3.connect(path)
    assert again.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert again.execute("SELECT * FROM texts ORDER BY at").fetchall() == rows[3::4]
    again.close()
    before = path.read_bytes()
    scrub_all(path, 7)
    assert path.read_bytes() == before


def test_files_that_are_too_short(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    for content in (b"", b"SQLite format 3\0", bytes(99), bytes(5_000), b"\xff" * 5_000):
        path.write_bytes(content)
        assert scrub(str(path), 1, 10) == 0 or content[16:18] == b"\0\0"
        assert path.read_bytes() == content
