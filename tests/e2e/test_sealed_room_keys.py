"""The key of a room: what `/key` shows, and what becomes of remembered keys at new rooms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.homes import CODE, Home, key_file, make, screen_of
from tests.support.live import Process
from tests.support.processes import fresh_words
from tests.support.pty_run import PtyRun


@pytest.fixture
def server() -> Iterator[Process]:
    server = Process().ready()
    yield server
    server.close()


def codes(run: PtyRun) -> list[str]:
    return CODE.findall(screen_of(run))


@pytest.mark.slow
def test_key_is_that_of_the_room_and_an_open_room_has_none(ann: Home) -> None:
    """A new room of its name has another key; what is remembered of the name is not asked."""
    code = make(ann)
    assert ann.client("makeroom", "garden", *fresh_words()).returncode == 0
    with ann.person("Ann", "chat", "garden", "lab") as run:
        run.expect_line("-- in garden")
        run.send("/key\r")
        run.expect_line("evloop: key: room garden is reliable, not sealed")
        run.send("/switch lab\r")
        run.expect_line("-- in lab (sealed, ")
        run.send("/key\r")
        run.expect(lambda _: codes(run) == [code])
        run.send("/deleteroom lab --yes\r")
        run.expect_line("deleted room lab")
        run.send(f"/makeroom lab {' '.join(fresh_words())} --sealed\r")
        run.expect(lambda _: len(codes(run)) == 2)
        run.send("/key\r")
        run.expect(lambda _: len(codes(run)) == 3)
        assert codes(run)[2] == code != codes(run)[1]
        assert ann.client("key", "lab").stdout == f"key {codes(run)[1]}\n"
        run.send("/deleteroom lab --yes\r")
        run.expect(lambda _: screen_of(run).count("deleted room lab") == 2)
        run.send(f"/makeroom lab {' '.join(fresh_words())}\r")
        run.expect_line("-- the key of an earlier room lab is forgotten --")
        assert ann.client("key", "lab").returncode == 1
        run.send("/key\r")
        run.expect(lambda _: codes(run)[3:] == [code])


@pytest.mark.slow
def test_a_key_that_came_by_a_file_is_shown_too(ann: Home, server: Process, tmp_path: Path) -> None:
    code = make(ann)
    bob = Home(tmp_path / "bob", server)
    with bob.person("Bob", "--key-file", key_file(bob, code), "--json", "chat", "lab") as run:
        run.expect_line("-- in lab (sealed, ")
        run.send("/key\r")
        told = f'{{"v":1,"type":"key","room":"lab","key":"{code}"}}'
        run.expect(lambda _: told.encode() in bytes(run.raw))
    assert "room_keys" not in bob.files()


@pytest.mark.slow
def test_key_and_doctor_while_the_directory_is_away(
    ann: Home, server: Process, tmp_path: Path
) -> None:
    """The doctor sends nothing into the room: members would be told of somebody without a key."""
    code = make(ann)
    bob = Home(tmp_path / "bob", server)
    with ann.person("Ann", "chat", "lab") as run:
        run.expect_line("-- in lab (sealed, ")
        with bob.person("Bob", "--key-file", key_file(bob, code), "chat", "lab") as other:
            other.expect_line("-- in lab (sealed, ")
            run.expect_line("-- Bob joined --")
            server.close()
            run.expect_line("is away")
            run.send("/key\r")
            run.expect(lambda _: codes(run) == [code])
            run.send("/doctor\r")
            run.expect_line("evloop: doctor: ")
            shown = "".join(screen_of(run).split())  # rows are cut anywhere
            assert "isnotreached:itisaway,andistriedagainbyitself" in shown
            assert "whoisinthisroomcannotbeasked" in shown
            run.send("still here\r")
            other.expect_line("Ann: still here")
            other.send("so am I\r")
            run.expect_line("Bob: so am I")
            assert "without a key" not in screen_of(other) + screen_of(run)
            other.send("/stats\r")
            other.expect_line("  joins ")
            stats = screen_of(other)
            assert [it for it in ("key", "type", "flags") if f"dropped {it}" in stats] == []
