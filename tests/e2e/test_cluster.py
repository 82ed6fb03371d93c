"""Several servers of one directory on a real etcd of one member."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.roles import Releases, serve
from tests.e2e.test_directory_page import COMMON, SPECIAL, STARTED, TAKEN, Talk
from tests.support.etcd import Etcd, real_etcd
from tests.support.processes import Crew, Server, fresh_words
from tests.support.rpc import Wire

pytestmark = real_etcd


@pytest.fixture
def etcd(crew: Crew) -> Iterator[Etcd]:
    etcd = Etcd(crew)
    yield etcd
    etcd.remove()


def member(crew: Crew, etcd: Etcd, *options: str) -> Server:
    """A server of the directory, which listens."""
    return crew.server("--cluster", etcd.endpoint, "--no-announce", *options)


def stored(listing: list[dict[str, object]]) -> list[object]:
    return [(room["name"], room["address"], room["port"]) for room in listing]


def test_two_servers_are_one_directory(crew: Crew, etcd: Etcd) -> None:
    first, second = member(crew, etcd), member(crew, etcd)
    with Wire(first.port) as a, Wire(second.port) as b:
        assert a.result("hello")["id"] == b.result("hello")["id"]
        assert b.result("watch") == {"version": 0}
        made = a.result("makeroom", name="Lab")
        assert made["version"] == 1
        news = b.receive()
        assert news is not None
        assert news["method"] == "room_made"
        assert news["params"] == made
        assert stored(a.rooms()) == stored(b.rooms()) != []

        refused = b.call("makeroom", name="lab")["error"]
        assert refused["data"] == {"reason": "room_exists"}
        place = {"address": "239.255.9.9", "port": 7000}
        a.result("makeroom", name="x", **place)
        assert b.call("makeroom", name="y", **place)["error"]["data"]["room"] == "x"

        a.result("enter", name="lab")
        crew.until(lambda: [room["members"] for room in b.rooms()] == [1, 0], every=0.05)
        deleted = b.result("deleteroom", name="LAB")
        assert deleted["room"]["name"] == "Lab"
        assert a.call("deleteroom", name="lab")["error"]["data"]["reason"] == "no_such_room"
        assert [room["name"] for room in a.rooms()] == ["x"]


def test_replies_keep_their_order_however_they_are_pipelined(crew: Crew, etcd: Etcd) -> None:
    """A connection reads its own writes, and a batch is answered once."""
    server = member(crew, etcd)
    with Wire(server.port) as wire:
        frames = b""
        for number in range(20):
            frames += wire.frame("makeroom", name=f"room {number}".replace(" ", "-"))
            frames += wire.frame("getdir")
            frames += wire.frame("ping")
        wire.send(frames)
        for number in range(20):
            assert wire.reply()["result"]["version"] == number + 1
            listing = wire.reply()["result"]
            assert listing["version"] == number + 1
            assert len(listing["rooms"]) == number + 1
            assert wire.reply()["result"] == {}
        members = [
            {"jsonrpc": "2.0", "id": 1, "method": "makeroom", "params": {"name": "one"}},
            {"jsonrpc": "2.0", "id": 2, "method": "makeroom", "params": {"name": "ONE"}},
            {"jsonrpc": "2.0", "method": "makeroom", "params": {"name": "quiet"}},
            {"jsonrpc": "2.0", "id": 3, "method": "deleteroom", "params": {"name": "quiet"}},
            {"jsonrpc": "2.0", "id": 4, "method": "ping"},
        ]
        payload = json.dumps(members).encode()
        wire.send(len(payload).to_bytes(4, "big") + payload + wire.frame("ping"))
        replies = wire.receive()
        assert isinstance(replies, list)
        assert [one["id"] for one in replies] == [1, 2, 3, 4]
        assert replies[0]["result"]["version"] == 21
        assert replies[1]["error"]["data"]["reason"] == "room_exists"
        assert replies[2]["result"]["version"] == 23
        assert wire.reply()["result"] == {}


def test_owners_are_asked_for_their_tokens_on_any_server(crew: Crew, etcd: Etcd) -> None:
    first, second = (member(crew, etcd, "--delete", "owner") for _ in range(2))
    with Wire(first.port) as a, Wire(second.port) as b:
        token = a.result("makeroom", name="mine")["token"]
        for wrong in ({}, {"token": "00"}):
            reason = b.call("deleteroom", name="mine", **wrong)["error"]["data"]["reason"]
            assert reason == "not_allowed"
        assert b.result("deleteroom", name="mine", token=token)["version"] == 2


def test_a_dead_server_takes_its_members_with_it_at_a_clean_end_at_once(
    crew: Crew, etcd: Etcd
) -> None:
    first, second = member(crew, etcd), member(crew, etcd)
    with Wire(first.port) as a, Wire(second.port) as b:
        a.result("makeroom", name="lab")
        a.result("enter", name="lab")
        crew.until(lambda: b.rooms()[0]["members"] == 1, every=0.05)
        first.process.send_signal(signal.SIGTERM)
        crew.finish(first)
        assert first.status == 0
        crew.until(lambda: b.rooms()[0]["members"] == 0, seconds=5, every=0.05)


@pytest.mark.slow
def test_etcd_away_for_a_moment_and_for_long(crew: Crew, etcd: Etcd) -> None:
    server = member(crew, etcd)
    with Wire(server.port) as wire:
        wire.result("makeroom", name="before")
        etcd.stop()
        assert [room["name"] for room in wire.rooms()] == ["before"]
        reply = wire.call("makeroom", name="while")
        reason = reply["error"]["data"]["reason"]
        assert reason in ("storage_failed", "storage_unknown")
        crew.until(lambda: "the cluster does not answer" in server.err)
        begun = wire.call("makeroom", name="later")  # more than 5 s have passed: at once
        assert begun["error"]["data"]["reason"] == "storage_failed"
        etcd.start()
        crew.until(lambda: "the cluster answers again" in server.err)
        assert wire.result("makeroom", name="after")["version"] >= 2
        assert (
            {"before", "after"}
            <= {room["name"] for room in wire.rooms()}
            <= {*("before", "while", "after")}
        )


def test_a_server_waits_for_etcd_and_says_so(crew: Crew, etcd: Etcd) -> None:
    etcd.stop()
    server = crew.start_server("--cluster", etcd.endpoint, "--no-announce")
    crew.until(lambda: f"waiting for the cluster at {etcd.endpoint}: " in server.err, seconds=8)
    assert not server.listens
    etcd.start()
    crew.until(lambda: server.listens)
    with Wire(server.port) as wire:
        assert wire.result("hello")["version"] == 0


def test_the_file_of_one_server_becomes_the_directory_and_back(
    crew: Crew, etcd: Etcd, tmp_path: Path
) -> None:
    alone, copy = str(tmp_path / "alone.db"), str(tmp_path / "copy.db")
    one = crew.server("--state", alone, "--no-announce")
    with Wire(one.port) as wire:
        for number in range(130):  # more than two transactions
            wire.result("makeroom", name=f"r{number}")
        wire.result("deleteroom", name="r0")
        identity = wire.result("hello")["id"]
        before = stored(wire.rooms())
    one.process.send_signal(signal.SIGTERM)
    crew.finish(one)

    many = member(crew, etcd, "--import", alone, "--state", copy)
    with Wire(many.port) as wire:
        hello = wire.result("hello")
        assert (hello["id"], hello["version"]) == (identity, 131)
        assert stored(wire.rooms()) == before
        assert wire.result("makeroom", name="new")["version"] == 132
    many.process.send_signal(signal.SIGTERM)
    crew.finish(many)

    again = crew.start_server(
        "--cluster", etcd.endpoint, "--no-announce", "--import", alone, "--state", copy
    )
    crew.finish(again)
    assert again.status == 73
    assert "the directory main is in etcd already; --import is for the first start" in again.err

    back = crew.server("--state", copy, "--no-announce")
    with Wire(back.port) as wire:
        hello = wire.result("hello")
        assert (hello["id"], hello["version"]) == (identity, 132)
        assert len(wire.rooms()) == len(before) + 1


@pytest.mark.slow
def test_the_file_of_an_older_release_is_imported_once(
    crew: Crew, etcd: Etcd, releases: Releases, tmp_path: Path
) -> None:
    """Rooms, version and owners of 0.1.0's file. Of two servers that import it at one moment, one
    makes the directory, and the other ends with 73; so does a third, later."""
    old = tmp_path / "old.db"
    first = serve(crew, releases["old"], "--state", str(old), "--delete", "owner")
    with Wire(first.port) as wire:
        token = wire.result("makeroom", name="mine")["token"]
        wire.result("makeroom", name="Ümlaut")
        before = stored(wire.rooms())
    first.process.send_signal(signal.SIGTERM)
    crew.finish(first)
    files = [str(shutil.copy(old, tmp_path / f"copy{number}.db")) for number in (1, 2, 3)]
    words = ("--cluster", etcd.endpoint, "--no-announce", "--delete", "owner")
    two = [crew.start_server(*words, "--import", file) for file in files[:2]]
    crew.until(lambda: all(one.listens or one.done for one in two))
    late = [one for one in two if one.listens]
    crew.until(lambda: any(one.done for one in two))
    assert len(late) == 1
    third = crew.finish(crew.start_server(*words, "--import", files[2]))
    for one in (*(it for it in two if it.done), third):
        assert one.status == 73, one.tell()
    with Wire(late[0].port) as wire:
        assert stored(wire.rooms()) == before != []
        assert wire.result("hello")["version"] == 2
        assert wire.call("deleteroom", name="mine")["error"]["data"]["reason"] == "not_allowed"
        assert wire.result("deleteroom", name="mine", token=token)["version"] == 3


def test_a_client_goes_to_the_next_server_when_one_dies(crew: Crew, etcd: Etcd) -> None:
    """The talk goes on meanwhile, and the list comes back as it was."""
    first, second = member(crew, etcd), member(crew, etcd)
    both = f"{first.place},{second.place}"
    room = "lab"
    with Wire(first.port) as wire:
        wire.result("makeroom", name=room)
    people = [crew.chatter(name, room, server=both) for name in ("ann", "bob")]
    crew.in_room(*people)
    with Wire(second.port) as wire:
        crew.until(lambda: [one["members"] for one in wire.rooms()] == [2], every=0.05)
        first.process.kill()
        for speaker, listener in (people, people[::-1]):
            words = fresh_words()[0]
            speaker.type(f"{words}\n")
            crew.until(lambda words=words, it=listener: words in it.out)  # type: ignore[misc]
        crew.until(lambda: all("is back" in one.err for one in people))
        # The dead server's own count goes with its lease, in 15 s.
        crew.until(lambda: wire.rooms()[0]["members"] >= 2, every=0.05)
        assert wire.result("hello")["version"] == 1
    listing = crew.finish(crew.client("getdir", "--json", server=both))
    assert listing.status == 0
    assert room in listing.out


def test_every_example_of_the_protocol_is_true_of_a_cluster(crew: Crew, etcd: Etcd) -> None:
    """Byte by byte, as it is of a server that is alone."""
    server = member(crew, etcd)
    for lines in COMMON:
        Talk(server).play(lines)
    played = 0
    for number, (first, *rest) in enumerate(SPECIAL):
        options = first.removeprefix(STARTED).removesuffix(TAKEN).split()
        if {"FILE", "--memory", "--tls-cert"} & set(options):
            continue  # these say nothing of the store
        own = member(crew, etcd, "--directory", f"d{number}", *options)
        played += 1
        if first.endswith(TAKEN):
            with Wire(own.port) as other:
                other.result("ping")
                Talk(own).play(rest)
        else:
            Talk(own).play(rest)
    assert played >= 2


def test_a_change_under_way_is_answered_before_the_goodbye(crew: Crew, etcd: Etcd) -> None:
    """etcd pauses, the server is told to end, etcd goes on: the reply comes, then `closing`."""
    server = member(crew, etcd)
    assert etcd.program is not None
    with Wire(server.port) as wire:
        wire.result("watch")
        etcd.program.signal(signal.SIGSTOP)
        wire.send(wire.frame("makeroom", name="late") + wire.frame("ping"))
        crew.until(lambda: server.err.count("\n") >= 2)
        with Wire(server.port) as other:
            other.result("ping")  # the request before it was taken, in the same tick or earlier
            server.signal(signal.SIGTERM)
            closing = other.receive()
            assert closing is not None and closing["method"] == "closing"
        etcd.program.signal(signal.SIGCONT)
        assert wire.reply()["result"]["version"] == 1
        assert [one["method"] for one in wire.notifications] == ["room_made"]
        last = wire.receive()
        assert last is not None and last["method"] == "closing"
    crew.finish(server)
    assert server.status == 0


def test_two_directories_share_an_etcd(crew: Crew, etcd: Etcd) -> None:
    first, second = (member(crew, etcd, "--directory", name) for name in ("one", "two"))
    with Wire(first.port) as a, Wire(second.port) as b:
        assert a.result("hello")["id"] != b.result("hello")["id"]
        a.result("makeroom", name="lab")
        assert b.rooms() == []


def test_hello_with_a_version_waits_for_it(crew: Crew, etcd: Etcd) -> None:
    first, second = member(crew, etcd), member(crew, etcd)
    with Wire(first.port) as a, Wire(second.port) as b:
        b.send(b.frame("hello", version=1))
        a.result("makeroom", name="lab")
        assert b.reply()["result"]["version"] == 1
        assert b.result("hello", version=99)["version"] == 1  # after 2 s


@pytest.mark.slow
def test_an_older_backup_of_etcd_is_not_taken_without_a_restart(crew: Crew, etcd: Etcd) -> None:
    """The server goes on with what it knew, refuses changes and says why; a new one takes it."""
    server = member(crew, etcd)
    with Wire(server.port) as wire:
        assert wire.result("makeroom", name="lab")["version"] == 1
        etcd.stop()
        backup = f"{etcd.folder}.backup"
        shutil.copytree(etcd.folder, backup)
        etcd.start()
        crew.until(lambda: "the cluster answers again" in server.err)
        assert wire.result("makeroom", name="hall")["version"] == 2
        etcd.stop()
        shutil.rmtree(etcd.folder)
        os.rename(backup, etcd.folder)
        etcd.start()
        crew.until(lambda: "was a backup restored" in server.err, seconds=30)
        refused = wire.call("makeroom", name="ops")["error"]["data"]["reason"]
        assert refused == "storage_failed"
        assert [room["name"] for room in wire.rooms()] == ["hall", "lab"]
    server.process.terminate()
    crew.finish(server)
    again = member(crew, etcd)
    with Wire(again.port) as wire:
        assert [room["name"] for room in wire.rooms()] == ["lab"]
        assert wire.result("makeroom", name="ops")["version"] == 2
