"""0.1.0 and what is built now read each other's files: the server's and the client's."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.roles import Releases, both_ways, serve, use
from tests.support.pairs import both
from tests.support.processes import (
    Crew,
    Program,
    Seated,
    Server,
    no_trace,
)
from tests.support.rpc import Wire

# -- the state file of the server ------------------------------------------------------------------


def stop(crew: Crew, server: Server) -> None:
    server.signal(signal.SIGTERM)
    assert crew.finish(server).status == 0
    no_trace(server)


def entries(wire: Wire) -> list[dict[str, object]]:
    """The rooms, without "keep", which the old release does not know and 0.2 says of each."""
    found: list[dict[str, object]] = wire.rooms()
    return [{key: value for key, value in one.items() if key != "keep"} for one in found]


@both_ways
def test_a_state_file_goes_there_and_back(
    crew: Crew, releases: Releases, tmp_path: Path, serving: str, using: str
) -> None:
    """Rooms, version and owner tokens. `serving` has it first, then `using`, then `serving`."""
    options = ("--state", str(tmp_path / "directory.db"), "--delete", "owner")
    first = serve(crew, releases[serving], *options)
    with Wire(first.port) as wire:
        tokens = {}
        for name, place in (("a", {}), ("b", {"mode": "plain"}), ("c", {}), ("Ümlaut", {})):
            tokens[name] = wire.result("makeroom", name=name, **place)["token"]
        wire.result("deleteroom", name="a", token=tokens["a"])
        rooms, version = entries(wire), wire.result("hello")["version"]
    assert [room["name"] for room in rooms] == ["b", "c", "Ümlaut"]
    stop(crew, first)
    second = serve(crew, releases[using], *options)
    with Wire(second.port) as wire:
        assert (entries(wire), wire.result("hello")["version"]) == (rooms, version)
        assert wire.call("deleteroom", name="b", token=tokens["c"])["error"]["code"]
        wire.result("deleteroom", name="b", token=tokens["b"])
        tokens["d"] = wire.result("makeroom", name="d")["token"]
        rooms, version = entries(wire), wire.result("hello")["version"]
    assert [room["name"] for room in rooms] == ["c", "d", "Ümlaut"]
    stop(crew, second)
    third = serve(crew, releases[serving], *options)
    with Wire(third.port) as wire:
        assert (entries(wire), wire.result("hello")["version"]) == (rooms, version)
        for name in ("c", "d", "Ümlaut"):
            wire.result("deleteroom", name=name, token=tokens[name])
        assert entries(wire) == []


def test_a_directory_is_the_same_after_an_older_release(
    crew: Crew, releases: Releases, tmp_path: Path
) -> None:
    """0.1.0 tells no identity, and keeps the one that is in the file."""
    told = []
    for release in ("new", "old", "new"):
        server = serve(crew, releases[release], "--state", str(tmp_path / "directory.db"))
        with Wire(server.port) as wire:
            told.append(wire.result("hello").get("id"))
        stop(crew, server)
    assert told[0] == told[2] is not None and told[1] is None


def change(path: Path, *steps: str) -> list[tuple[Any, ...]]:
    """Do `steps` to the state file of a server that has ended; return what the last one found."""
    with closing(sqlite3.connect(path)) as connection:
        for step in steps:
            found = connection.execute(step).fetchall()
        connection.commit()
    return found


@both_ways
def test_the_time_of_expire_goes_on(
    crew: Crew, releases: Releases, tmp_path: Path, serving: str, using: str
) -> None:
    """What one release has counted, the other goes on with: seconds run, and when seen."""
    path = tmp_path / "directory.db"
    options = ("--state", str(path), "--expire", str(500 / 86_400))
    first = serve(crew, releases[serving], "--state", str(path))
    with Wire(first.port) as wire:
        for name in ("fresh", "stale"):
            wire.result("makeroom", name=name)
    stop(crew, first)
    first = serve(crew, releases[serving], *options)  # sweeps at once, and notes what it found
    with Wire(first.port) as wire:
        assert [wire.result("ping") for _ in range(3)] and len(wire.rooms()) == 2
    stop(crew, first)
    assert change(path, "SELECT count(*) FROM rooms WHERE seen IS NOT NULL") == [(2,)]
    later = "UPDATE state SET ran = ran + 400"  # as if it had run for so long
    change(path, later, "UPDATE rooms SET seen = seen + 400 WHERE name = 'fresh'")
    second = serve(crew, releases[using], *options)
    with Wire(second.port) as wire:
        assert [wire.result("ping") for _ in range(3)] and len(wire.rooms()) == 2
    stop(crew, second)
    [(ran,)] = change(path, "SELECT ran FROM state")
    assert 400 <= ran < 500
    change(path, "UPDATE state SET ran = ran + 100")
    for release in (using, serving):
        server = serve(crew, releases[release], *options)
        with Wire(server.port) as wire:
            crew.until(lambda: [room["name"] for room in wire.rooms()] == ["fresh"], every=0.05)
        stop(crew, server)
    assert "a room has expired room=stale" in crew.programs[-2].err


@pytest.mark.parametrize("release", ["old", "new"])
def test_a_state_file_of_the_future_is_refused(
    crew: Crew, releases: Releases, tmp_path: Path, release: str
) -> None:
    """0.1.0 says so by its own sentence, and leaves the file as it is."""
    path = tmp_path / "directory.db"
    new = serve(crew, releases["new"], "--state", str(path))
    with Wire(new.port) as wire:
        wire.result("makeroom", name="lab")
    stop(crew, new)
    [(known,)] = change(path, "PRAGMA user_version")
    change(path, "ALTER TABLE rooms ADD COLUMN colour TEXT", "PRAGMA user_version = 99")
    before = path.read_bytes()
    server = crew.start_server("--state", str(path), prefix=releases[release].prefix)
    assert crew.finish(server).status == 73
    knows = 2 if release == "old" else known
    cannot = "can not" if release == "old" else "cannot"
    assert server.err == (
        f"evloop: {cannot} use the state file {path}: it was written by a newer evloop (layout 99,"
        f" this one knows {knows}); install that version, or name another file with --state\n"
    )
    assert path.read_bytes() == before


# -- the files of the client -----------------------------------------------------------------------


@both_ways
def test_tokens_that_one_keeps_serve_the_other(
    crew: Crew, releases: Releases, serving: str, using: str
) -> None:
    server = serve(crew, releases[serving], "--delete", "owner")
    for maker, deleter in ((serving, using), (using, serving)):
        assert use(crew, releases[maker], server, "makeroom", "Lab").status == 0
        stranger = crew.client(
            "deleteroom",
            "lab",
            server=server,
            prefix=releases[deleter].prefix,
            XDG_STATE_HOME="/nowhere",
        )
        assert crew.finish(stranger).status == 77
        assert "can be deleted only by who made it" in stranger.err
        assert use(crew, releases[deleter], server, "deleteroom", "lab").status == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@both_ways
def test_certificates_that_one_trusts_are_known_to_the_other(
    crew: Crew, releases: Releases, tmp_path: Path, serving: str, using: str
) -> None:
    """TLS between the two releases; a certificate pinned by `using` is known to `serving`."""
    for name in ("one.pem", "two.pem"):
        made = crew.add(
            Program(releases[serving].command("evloop.server", "--make-cert", str(tmp_path / name)))
        )
        assert crew.finish(made).status == 0, made.tell()

    def tls(release: str, name: str, listen: str = "127.0.0.1:0") -> Server:
        files = (str(tmp_path / name), str(tmp_path / f"{name}.key"))
        options = ("--tls-cert", files[0], "--tls-key", files[1])
        return serve(crew, releases[release], *options, listen=listen)

    server = tls(serving, "one.pem")
    first = use(crew, releases[using], server, "--tls", "makeroom", "lab")
    assert first.status == 0 and first.err.startswith(f"-- trusting {server.place} from now on")
    for release in (serving, using):
        known = use(crew, releases[release], server, "--tls", "getdir")
        assert (known.status, known.err) == (0, "")
    stop(crew, server)
    other = tls(using, "two.pem", server.place)
    for release in (serving, using):
        warned = use(crew, releases[release], other, "--tls", "getdir")
        assert warned.status == 77
        assert f"THE CERTIFICATE OF {server.place} HAS CHANGED" in warned.err


@both_ways
def test_the_history_of_typed_lines(
    crew: Crew, releases: Releases, serving: str, using: str
) -> None:
    """What was typed in the one comes back by the Up key in the other, and none of it is lost."""
    server = serve(crew, releases[serving])

    def seat(release: str) -> Seated:
        words = ("--server", server.place, "--name", "Mel")
        program = Seated(releases[release].command("evloop.client", *words))
        crew.add(program)
        crew.until(lambda: "help lists the commands" in program.out)
        return program

    def leave(program: Seated) -> None:
        program.type("\x15\x04")  # Ctrl-U, Ctrl-D: empty the line, and leave
        crew.finish(program)
        assert program.status == 0, program.tell()

    typed = ["makeroom lab", r"makeroom \n\ü 239.255.7.77 5999", "help connect"]
    first = seat(serving)
    for line, answer in both(typed, ("made room lab", "239.255.7.77:5999", "HOST[:PORT]")):
        first.type(line + "\r")
        crew.until(lambda: answer in first.out)  # noqa: B023
    leave(first)
    second = seat(using)
    second.type("\x1b[A\x1b[A")
    crew.until(lambda: typed[1] in second.out)
    second.type("\x1b[A\r")
    crew.until(lambda: "lab exists already" in second.out)
    second.type("getdir\r")
    crew.until(lambda: "0 here" in second.out)
    leave(second)
    third = seat(serving)
    third.type("\x1b[A" * 4)
    crew.until(lambda: typed[1] in third.out)
    leave(third)
