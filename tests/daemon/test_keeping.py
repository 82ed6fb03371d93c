"""Rooms that a whole server keeps: what is asked, answered and refused; its file and its end."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evloop.base.errors import SetupError
from evloop.daemon.limits import KEEPER_STAYS_S
from evloop.directory.relay_frames import HISTORY, parse_down, room_frame
from evloop.framing import pack_frame
from evloop.room.reliable.packets import Codec, data_body
from tests.support.live import Caller, House

ANN = bytes([0xA]) * 8


class Client(Caller):
    """A client that takes frames of the relay and of the history too."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        self.frames: list[bytes] = []
        self.batches: list[Any] = []
        self.order: list[int] = []  # how many frames had come before each reply

    def read(self) -> bool:
        while not self.closed:
            try:
                data = self.sock.recv(1 << 18)
            except (BlockingIOError, ConnectionResetError):
                break
            self.closed = not data
            self.take(data)
        while (frame := self.decoder.next_frame()) is not None:
            if frame[:1] == b"\xf5":
                self.frames += [frame] * (frame[1] == HISTORY)  # and not what others say
                continue
            value = json.loads(frame)
            (self.batches if isinstance(value, list) else self.got).append(value)
            self.order.append(len(self.frames))
        return self.closed


class Kept:
    """A server with a client in a kept room, who speaks by the relay."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        state = folder / "directory.db"
        self.house = House("--state", str(state), "--interface", "127.0.0.1", *options)
        self.client = Client(self.house.address)
        self.house.callers.append(self.client)
        self.handle = 0
        self.codec = Codec("239.255.7.1:5751")
        self.said = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.house.call(self.client, method, **params)

    def make(self, name: str = "lab", **more: Any) -> dict[str, Any]:
        return self.call("makeroom", name=name, address="239.255.7.1", port=5751, **more)

    def enter(self) -> dict[str, Any]:
        entered: dict[str, Any] = self.call("enter", name="lab", sender=ANN.hex(), relay="full")
        result: dict[str, Any] = entered["result"]
        self.handle = result["handle"]
        return result

    def say(self, text: str) -> None:
        body = data_body(self.said + 1, (), b"Ann", 0, text.encode())
        datagram = self.codec.pack(1, 0, ANN, self.said, 1_800_000_000, body)
        self.said += 1
        self.client.send(room_frame(self.handle, datagram))

    def settle(self) -> None:
        """What was said is with the keeper, and on the disk."""
        keeper = self.house.dispatcher.keeping.keeper
        assert keeper is not None
        held = keeper.seated["lab"].session.message_log.history
        self.house.until(lambda: len(held) == self.said)
        self.house.skip(0.5)

    def history(self, **more: Any) -> tuple[list[bytes], dict[str, Any]]:
        self.client.frames.clear()
        reply = self.call("history", name="lab", **more)
        found: list[bytes] = []
        for frame in self.client.frames:
            parsed = parse_down(frame)
            if parsed is not None and parsed[0] == HISTORY:
                assert parsed[1] == self.handle
                found += [datagram for _, datagram in parsed[2]]
        return found, reply

    def texts(self, datagrams: list[bytes]) -> list[str]:
        packets: list[Any] = [self.codec.open(one) for one in datagrams]
        return [packet[5][4].decode() for packet in packets]

    def reason(self, reply: dict[str, Any]) -> tuple[int, str]:
        error = reply["error"]
        return error["code"], error["data"]["reason"]

    @property
    def file(self) -> Path:
        return self.folder / "history.db"


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.house.close()


def test_a_kept_room_from_its_making_to_its_end(kept: Kept) -> None:
    made = kept.make(keep=True)["result"]["room"]
    assert made["keep"] is True
    assert not kept.file.exists()  # nobody was there yet
    entered = kept.enter()
    assert len(entered["keeper"]) == 16 and entered["keep_days"] == 30
    assert entered["room"]["members"] == 1  # the keeper is none
    assert kept.call("enter", name="lab")["result"]["keeper"] == entered["keeper"]
    kept.enter()
    for number in range(30):
        kept.say(f"line {number}")
    kept.settle()
    datagrams, reply = kept.history()
    assert set(reply["result"]) == {"count", "next"}
    assert reply["result"] == {"count": 30, "next": None}
    assert kept.texts(datagrams) == [f"line {number}" for number in range(30)]
    page, reply = kept.history(limit=7)
    assert kept.texts(page) == [f"line {number}" for number in range(23, 30)]
    older, reply = kept.history(limit=500, before=reply["result"]["next"])
    assert kept.texts(older + page) == [f"line {number}" for number in range(30)]
    assert reply["result"]["next"] is None
    figures = kept.call("stats")["result"]
    assert (figures["keeper_rooms"], figures["keeper_messages"]) == (1, 30)
    assert figures["keeper_stored"] == 30
    kept.call("deleteroom", name="lab")
    assert kept.reason(kept.history()[1]) == (3, "no_such_room")
    kept.house.tick(30)
    for beside in kept.folder.glob("history.db*"):
        assert b"line 2" not in beside.read_bytes(), beside
    assert kept.make(keep=True)["result"]["room"]["keep"] is True
    assert kept.enter()["keeper"] != entered["keeper"]
    assert kept.history()[1]["result"] == {"count": 0, "next": None}


def test_it_stays_a_minute_after_the_last_one(kept: Kept) -> None:
    kept.make(keep=True)
    keeper = kept.enter()["keeper"]
    kept.call("leave", name="lab")
    kept.house.skip(KEEPER_STAYS_S - 2.0)
    assert kept.call("stats")["result"]["keeper_rooms"] == 1
    assert kept.enter()["keeper"] == keeper
    kept.client.close()  # the connection ends: it has left, too
    kept.house.skip(KEEPER_STAYS_S + 2.0)
    assert kept.house.dispatcher.readings()["keeper_rooms"] == 0


def test_what_is_refused(kept: Kept) -> None:
    for mode in ("plain", "sealed"):
        assert kept.reason(kept.make(keep=True, mode=mode)) == (4, "not_allowed")
    assert kept.reason(kept.make(keep="yes")) == (-32602, "wrong_type")
    assert kept.make()["result"]["room"]["keep"] is False
    assert kept.reason(kept.call("history", name="lab")) == (4, "not_allowed")
    assert "keeper" not in kept.enter()
    assert kept.reason(kept.call("history", name="lab")) == (4, "not_kept")
    assert kept.reason(kept.call("history", name="nowhere")) == (3, "no_such_room")
    for limit in (0, 501, -1):
        assert kept.reason(kept.call("history", name="lab", limit=limit)) == (-32602, "bad_limit")
    assert kept.reason(kept.call("history", name="lab", before=0)) == (-32602, "bad_before")
    assert kept.reason(kept.call("history", name="lab", before="x")) == (-32602, "wrong_type")
    assert kept.reason(kept.call("history")) == (-32602, "missing_member")
    assert not kept.file.exists()


def test_history_is_no_part_of_a_batch_and_a_notification_gets_nothing(kept: Kept) -> None:
    kept.make(keep=True)
    kept.enter()
    kept.say("one")
    kept.settle()
    ask = {"jsonrpc": "2.0", "method": "history", "params": {"name": "lab"}}
    kept.client.send(pack_frame(json.dumps([{**ask, "id": "b"}]).encode()))
    kept.client.send(pack_frame(json.dumps(ask).encode()))
    kept.call("ping")
    (batch,) = kept.client.batches
    assert kept.reason(batch[0]) == (-32600, "not_in_batch")
    assert not any(frame[1] == HISTORY for frame in kept.client.frames)


def test_pieces_come_before_their_own_replies(kept: Kept) -> None:
    """Pipelined with others, with long messages: in order, and nobody is cut off."""
    kept.make(keep=True)
    kept.enter()
    for number in range(60):
        kept.say(f"{number} " + "x" * 850)
        kept.house.tick(2)
    kept.settle()
    kept.client.frames.clear()
    kept.client.order.clear()
    last = 0
    for _ in range(20):
        kept.client.ask("history", name="lab")
        last = kept.client.ask("ping")
    kept.house.until(lambda: kept.client.reply(last))
    assert len(kept.client.frames) == 20
    assert kept.client.order == [number for number in range(1, 21) for _ in (0, 1)]


def test_what_is_kept_survives_a_restart(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.make(keep=True)
    kept.enter()
    kept.say("before")
    kept.settle()
    kept.house.close()
    kept = Kept(tmp_path)
    assert kept.call("getdir")["result"]["rooms"][0]["keep"] is True
    kept.enter()
    assert kept.texts(kept.history()[0]) == ["before"]
    kept.house.close()


def test_the_policies(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "--keep", "all", "--keep-days", "0.5")
    assert kept.make()["result"]["room"]["keep"] is True
    assert kept.call("makeroom", name="old", mode="plain")["result"]["room"]["keep"] is False
    den = kept.call("makeroom", name="den", mode="sealed")["result"]["room"]
    assert (den["mode"], den["keep"]) == ("sealed", False)
    assert "keeper" not in kept.call("enter", name="den")["result"]
    assert kept.reason(kept.call("history", name="den")) == (4, "not_kept")
    kept.call("deleteroom", name="den")
    assert kept.enter()["keep_days"] == 0.5
    kept.house.close()
    kept = Kept(tmp_path)  # marked: nobody has asked for it
    assert [room["keep"] for room in kept.call("getdir")["result"]["rooms"]] == [False, False]
    kept.call("deleteroom", name="lab")
    kept.make(keep=True)
    kept.house.close()
    kept = Kept(tmp_path, "--keep", "none")
    assert [room["keep"] for room in kept.call("getdir")["result"]["rooms"]] == [False, False]
    assert kept.reason(kept.call("makeroom", name="x", keep=True)) == (4, "not_allowed")
    assert "keeper" not in kept.enter()
    kept.house.close()
    kept = Kept(tmp_path)  # the mark has stayed
    assert [room["keep"] for room in kept.call("getdir")["result"]["rooms"]] == [True, False]
    kept.house.close()


def test_rooms_that_expire_lose_their_history(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "--expire", "0.01")
    kept.make(keep=True)
    kept.enter()
    kept.say("a secret of the lab")
    kept.settle()
    kept.call("leave", name="lab")
    assert b"a secret" in b"".join(one.read_bytes() for one in tmp_path.glob("history.db*"))
    kept.house.skip(0.02 * 86_400)
    assert len(kept.house.server.directory) == 0
    kept.house.tick(30)
    assert b"a secret" not in b"".join(one.read_bytes() for one in tmp_path.glob("history.db*"))
    kept.house.close()


def test_a_file_in_memory_mode_and_one_that_is_no_good(tmp_path: Path) -> None:
    house = House("--keep-file", str(tmp_path / "kept.db"), "--interface", "127.0.0.1")
    caller = house.caller()
    assert house.call(caller, "makeroom", name="lab", keep=True)["result"]["room"]["keep"] is True
    assert "keeper" in house.call(caller, "enter", name="lab")["result"]
    house.close()
    (tmp_path / "letter").write_text("dear aunt " * 500)
    with pytest.raises(SetupError, match="cannot keep history in") as caught:
        House("--keep-file", str(tmp_path / "letter"))
    assert caught.value.exit_status == 73
    house = House("--interface", "127.0.0.1")
    caller = house.caller()
    reply = house.call(caller, "makeroom", name="lab", keep=True)
    assert "--keep-file" in reply["error"]["message"]
    house.close()


def test_a_disk_that_fails_costs_the_history_alone(kept: Kept) -> None:
    kept.make(keep=True)
    kept.enter()
    kept.say("one")
    kept.settle()
    kept.file.unlink()
    kept.say("two")
    kept.house.skip(1.0)
    assert any("the keeper has left its rooms" in line for line in kept.house.lines)
    assert "result" in kept.call("makeroom", name="other")
    assert kept.reason(kept.call("history", name="lab")) == (7, "storage_failed")
    assert "keeper" not in kept.enter()
    kept.house.skip(61.0)
    assert "keeper" in kept.enter()
    rows = sqlite3.connect(kept.file)
    assert rows.execute("SELECT count(*) FROM messages").fetchone()[0] <= 1
    rows.close()
