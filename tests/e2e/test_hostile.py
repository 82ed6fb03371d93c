"""What a stranger tries against a server that runs for a year."""

from __future__ import annotations

import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from evloop.base.limits import CHANGE_BURST, FRAME_BYTES_MAX, PAYLOAD_BYTES_MAX
from evloop.daemon.dispatcher import Dispatcher
from evloop.daemon.limits import (
    CHANGES_PER_S,
    CONNECTIONS_BURST,
    DESCRIPTORS_RESERVED,
    DRAIN_S,
    HELLO_CHARS_MAX,
    RELAY_LEG_SHARE,
)
from evloop.directory.limits import BATCH_MEMBERS_MAX
from evloop.framing import pack_frame
from evloop.net import scheduler
from evloop.net.limits import (
    ACCEPT_PAUSE_S,
    FRAMES_FREE,
    FRAMES_PER_TICK,
    HELD_FREE_BYTES,
    OUT_HIGH_WATER_BYTES,
    UNFINISHED_FRAME_S,
    WRITE_PROGRESS_S,
)
from evloop.system.limits import EXPIRED_PER_TICK_MAX, LOG_REPEATS_MAX, READ_BYTES_PER_WAKE
from tests.support.effort import calls
from tests.support.live import (
    ROOT,
    Caller,
    House,
    Process,
    request,
)
from tests.support.pairs import both, pairwise


@pytest.fixture
def open_house() -> Iterator[Callable[..., House]]:
    houses: list[House] = []

    def build(*options: str) -> House:
        houses.append(House(*options))
        return houses[-1]

    yield build
    for house in houses:
        house.close()


# -- who is slow -----------------------------------------------------------------------------------


def test_who_says_nothing_is_gone_after_10_s(open_house: Callable[..., House]) -> None:
    house = open_house()
    silent, half, honest = house.caller(), house.caller(), house.caller()
    assert house.call(honest, "ping")["result"] == {}
    half.send(b"\0\0\0")
    house.skip(UNFINISHED_FRAME_S - 1.0)
    assert len(house.dispatcher.connections) == 3
    house.skip(2.0)
    for caller in (silent, half):
        caller.read()
        assert caller.closed
    house.skip(3600.0)
    assert house.call(honest, "ping")["result"] == {}, "who is idle after its first frame may stay"


def test_who_came_together_goes_in_turns(open_house: Callable[..., House]) -> None:
    house = open_house("--max-per-address", "0")
    for _ in range(300):
        house.caller()
    house.until(lambda: len(house.dispatcher.connections) == 300)
    house.skipped += UNFINISHED_FRAME_S + 1.0
    left = [300]
    while left[-1]:
        house.tick()
        left.append(len(house.dispatcher.connections))
    assert max(before - after for before, after in pairwise(left)) <= EXPIRED_PER_TICK_MAX
    house.skip(60.0)
    assert len(house.dispatcher.hub.unfinished) == 0


def test_dribbling_does_not_buy_time(open_house: Callable[..., House]) -> None:
    house = open_house()
    caller = house.caller()
    house.call(caller, "ping")
    for byte in request("ping", 2, {})[:4]:
        caller.send(bytes([byte]))
        house.skip(4.0)
    caller.read()
    assert caller.closed


def test_a_thousand_dribblers_and_fifty_who_never_read(open_house: Callable[..., House]) -> None:
    house = open_house("--max-per-address", "0", "--rooms-per-address", "0", "--change-rate", "0")
    honest = house.caller()
    for number in range(200):
        house.call(honest, "makeroom", name=f"room{number}")

    def efforts(count: int) -> list[int]:
        """What each of so many requests costs, of server and client, in calls."""
        spent = []
        for _ in range(count):
            spent.append(calls(lambda: house.call(honest, "getdir")))
            honest.got.clear()
        return sorted(spent)

    idle = efforts(2_000)
    memory = house.server.metrics.flat()["resident_bytes"]
    dribblers = [house.caller() for _ in range(1_000)]
    flood = b"".join(request("getdir", number, {}) for number in range(10_000))
    greedy = [house.caller() for _ in range(50)]
    unsent = [flood] * len(greedy)
    for round_ in range(3):
        for caller in dribblers:
            caller.send(b"\0")
        for at, caller in enumerate(greedy):
            unsent[at] = unsent[at][caller.send(unsent[at]) :]
        house.skip(0.5 if round_ == 0 else 5.0)
    busy = efforts(2_000)
    over = [effort for effort in busy if effort > 3 * idle[1_980]]
    print(f"idle {idle[1_980]} calls, busy {busy[1_940]}; {len(over)} up to {busy[-1]}")
    # Some answers share their tick with what the crowd left behind. (50,000 calls take 10 ms.)
    assert busy[1_940] <= 3 * idle[1_980]
    assert busy[-1] <= 25_000
    queued = house.dispatcher.readings()["queued_bytes"]
    assert queued <= len(greedy) * (OUT_HIGH_WATER_BYTES + FRAME_BYTES_MAX)
    # The last bytes may have been acknowledged after the first look at them: then two spans.
    house.skip(2 * WRITE_PROGRESS_S + 5.0)
    assert len(house.dispatcher.connections) == 1
    assert house.call(honest, "ping")["result"] == {}
    assert house.dispatcher.readings()["queued_bytes"] == 0
    # What malloc keeps is allowed; what 50 full queues would take is not.
    grown = house.server.metrics.flat()["resident_bytes"] - memory
    assert grown < 48 * 2**20, f"{grown / 2**20:.0f} MiB"


# -- who talks nonsense ----------------------------------------------------------------------------

STRANGERS = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 32,
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": bytes(4096),
    "ones": b"\xff" * 100,
    "long": b"\x7f\xff\xff\xff{}",
}


@pytest.mark.parametrize("what", STRANGERS)
def test_a_stranger_gets_an_answer_and_is_closed(
    what: str, open_house: Callable[..., House]
) -> None:
    house = open_house()
    caller = house.caller()
    caller.send(STRANGERS[what])
    house.until(caller.read)
    assert not caller.reset, "the last reply was not destroyed"
    assert caller.got[-1]["error"]["code"] in (-32600, -32700)
    assert house.call(house.caller(), "ping")["result"] == {}


def test_ten_million_bytes_of_junk_in_ten_thousand_connections(
    open_house: Callable[..., House],
) -> None:
    house = open_house("--max-per-address", "0")
    rng = random.Random(5)
    honest = house.caller()
    house.call(honest, "ping")
    before = house.server.metrics.flat()
    junk = rng.randbytes(1 << 20)
    for _ in range(100):
        batch = [Caller(house.address) for _ in range(100)]
        for caller in batch:
            start = rng.randrange(len(junk) - 1_000)
            caller.send(junk[start : start + 1_000])
        house.tick(3)
        for caller in batch:
            caller.close()
        house.tick(2)
    house.until(lambda: len(house.dispatcher.connections) == 1)
    assert house.call(honest, "ping")["result"] == {}
    assert len(house.lines) <= 4 * LOG_REPEATS_MAX, "rate-limited"
    after = house.server.metrics.flat()
    assert after["connections"] == before["connections"] + 10_000
    assert after["open_descriptors"] == before["open_descriptors"]
    assert after["resident_bytes"] - before["resident_bytes"] < 16 * 2**20


def test_a_frame_that_ends_in_the_middle_harms_nobody(open_house: Callable[..., House]) -> None:
    house = open_house()
    honest = house.caller()
    for cut in range(1, 40):
        caller = house.caller()
        caller.send(request("makeroom", 1, {"name": "half"})[:cut])
        caller.close()
        house.callers.remove(caller)
    reply = house.call(honest, "getdir")
    assert reply["result"]["rooms"] == []


def test_a_long_greeting_is_not_kept(open_house: Callable[..., House]) -> None:
    house = open_house()
    caller = house.caller()
    assert "result" in house.call(caller, "hello", client="c" * 30_000, name="n" * 30_000)
    (connection,) = house.dispatcher.connections.values()
    assert len(connection.client) == len(connection.name) == HELLO_CHARS_MAX


# -- who wants all of it ---------------------------------------------------------------------------


def test_one_address_gets_its_share_of_connections(open_house: Callable[..., House]) -> None:
    house = open_house("--max-per-address", "8")
    inside = [house.caller("127.0.0.2") for _ in range(8)]
    for caller in inside:
        house.call(caller, "ping")
    refused = house.caller("127.0.0.2")
    house.until(refused.read)
    assert not refused.reset
    (reply,) = refused.got
    assert reply["id"] is None
    assert (reply["error"]["code"], reply["error"]["data"]["reason"]) == (6, "slow_down")
    assert reply["error"]["data"]["retry_after"] > 0
    assert house.call(house.caller("127.0.0.3"), "ping")["result"] == {}
    inside[0].close()
    house.callers.remove(inside[0])
    house.until(lambda: len(house.dispatcher.connections) == 8)
    assert house.call(house.caller("127.0.0.2"), "ping")["result"] == {}


def test_over_max_clients_everybody_is_told(open_house: Callable[..., House]) -> None:
    house = open_house("--max-clients", "5")
    inside = [house.caller() for _ in range(5)]
    for caller in inside:
        house.call(caller, "ping")
    for _ in range(50):
        refused = house.caller("127.0.0.9")
        refused.ask("getdir")  # unread bytes must not turn the goodbye into a reset
        house.until(refused.read)
        assert refused.got[0]["error"]["code"] == 6
        assert not refused.reset
    for caller in inside:
        assert house.call(caller, "ping")["result"] == {}


def test_a_flood_of_new_connections_is_slowed(open_house: Callable[..., House]) -> None:
    house = open_house()
    house.stop_clock()
    admitted = 0
    for _ in range(CONNECTIONS_BURST + 200):
        caller = Caller(house.address)
        house.tick(2)
        caller.ask("ping")
        house.tick(2)
        caller.read()
        admitted += bool(caller.got and "result" in caller.got[0])
        caller.close()
        house.tick()
    assert admitted == CONNECTIONS_BURST
    assert house.call(house.caller("127.0.0.7"), "ping")["result"] == {}


def test_two_hundred_connections_make_and_delete_everything(
    open_house: Callable[..., House],
) -> None:
    house = open_house("--rooms-per-address", "150")
    victim = house.caller("127.0.0.8")
    for number in range(20):
        house.call(victim, "makeroom", name=f"victim{number}")
    watcher, sleeper = house.caller("127.0.0.8"), house.caller("127.0.0.8")
    version = house.call(watcher, "watch")["result"]["version"]
    house.call(sleeper, "watch")
    mob = [house.caller("127.0.0.9") for _ in range(200)]
    for turn in range(12):
        for number, caller in enumerate(mob):
            makes = [f"a{number}", f"b{turn}-{number}"]
            deletes = [f"a{number}", f"b{turn - 1}-{number}", f"victim{(turn + number) % 20}"]
            frames = [request("makeroom", 1, {"name": name}) for name in makes]
            frames += [request("deleteroom", 2, {"name": name}) for name in deletes]
            caller.send(b"".join(frames))
        house.tick(5)
        watcher.read()
        for caller in mob:
            caller.read()
    house.tick(20)
    rooms = house.dispatcher.directory.rooms()
    assert sum(room.maker == "127.0.0.9" for room in rooms) <= 150
    reasons = {
        it["error"]["data"]["reason"] for caller in mob for it in caller.got if "error" in it
    }
    assert reasons <= {"too_many_rooms", "slow_down", "no_such_room", "room_exists"}
    assert {"too_many_rooms", "slow_down"} <= reasons
    changes = house.dispatcher.directory.version - version
    assert changes <= CHANGE_BURST + CHANGES_PER_S * 20
    # Whoever watches was told each change once and in order, or was disconnected.
    house.tick(20)
    watcher.read()
    told = [it["params"]["version"] for it in watcher.got if "method" in it]
    assert not watcher.closed
    assert told == list(range(version + 1, version + 1 + changes))
    house.skip(30.0)
    sleeper.read()
    told = [it["params"]["version"] for it in sleeper.got if "method" in it]
    assert told == list(range(version + 1, version + 1 + len(told)))
    assert sleeper.closed or len(told) == changes


def test_a_mob_that_reads_does_not_hold_up_the_others(open_house: Callable[..., House]) -> None:
    house = open_house("--max-per-address", "0")
    honest = house.caller()
    house.call(honest, "ping")
    mob = [house.caller() for _ in range(50)]
    flood = b"".join(request("ping", number, {}) for number in range(2_000))
    for caller in mob:
        caller.send(flood)
    house.tick()  # accepted
    number = honest.ask("ping")
    handled = []
    while not honest.reply(number):
        before = house.dispatcher.handled
        house.tick()
        handled.append(house.dispatcher.handled - before)
        assert len(handled) < 4, "it is served in the tick in which it asks"
    for _ in range(20):
        before = house.dispatcher.handled
        house.tick()
        handled.append(house.dispatcher.handled - before)
        for caller in mob:
            caller.read()
    free = FRAMES_FREE
    assert max(handled) <= FRAMES_PER_TICK + len(mob) * free + 1, handled
    answered = [len(caller.got) for caller in mob]
    assert min(answered) > 0.3 * max(answered), "and the mob takes turns"


# -- when the system has no more -------------------------------------------------------------------


def test_few_descriptors_two_hundred_clients(processes: list[Process]) -> None:
    limited = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
    process = Process("--max-per-address", "0", before=limited)
    processes.append(process)
    process.ready()
    assert "fewer clients fit the limit of open files" in process.log
    fit = 64 - DESCRIPTORS_RESERVED - 64 // RELAY_LEG_SHARE  # these are for relayed rooms
    callers = [Caller(process.address) for _ in range(200)]
    try:
        for caller in callers[:fit]:
            assert process.call(caller, "ping")["result"] == {}
        begin, cpu = time.monotonic(), process.cpu_s()
        process.until(lambda: time.monotonic() - begin > 1.0)
        assert process.cpu_s() - cpu < 0.3, "it does not spin"
        for caller in callers[:fit]:
            assert process.call(caller, "getdir")["result"]["rooms"] == []
        for caller in callers[fit:]:
            process.until(caller.read)
        for caller in callers[: fit // 2]:
            caller.close()
        stayed = callers[fit - 1]
        while process.call(stayed, "stats")["result"]["clients"] == fit:
            stayed.got.clear()
        late = Caller(process.address)
        callers.append(late)
        assert process.call(late, "ping")["result"] == {}
    finally:
        for caller in callers:
            caller.close()


def test_a_limit_that_leaves_no_room_is_told(processes: list[Process]) -> None:
    process = Process(before=("sh", "-c", 'ulimit -n 30; exec "$@"', "sh"))
    processes.append(process)
    assert process.wait() == 1
    assert "the limit of 30 open files is too low" in process.log


def test_without_descriptors_accepting_pauses_and_goes_on(
    open_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = open_house()
    inside = house.caller()
    house.call(inside, "ping")
    calls = 0
    accept = socket.socket.accept

    def no_more(listener: socket.socket) -> tuple[socket.socket, object]:
        nonlocal calls
        calls += 1
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket.socket, "accept", no_more)
    late = house.caller()
    number = late.ask("ping")
    begin = house.loop.now
    while house.loop.now < begin + 1.0:
        assert house.call(inside, "ping")["result"] == {}
        house.skip(0.01)
    assert 4 <= calls <= 1.5 / ACCEPT_PAUSE_S + 1
    assert house.server.metrics.flat()["accept_pauses"] == 1, "told once, not each time"
    monkeypatch.setattr(socket.socket, "accept", accept)
    house.skip(2 * ACCEPT_PAUSE_S)
    assert house.until(lambda: late.reply(number))["result"] == {}


def test_real_shortage_of_descriptors(open_house: Callable[..., House]) -> None:
    house = open_house()
    inside = house.caller()
    house.call(inside, "ping")
    late = [house.caller() for _ in range(20)]
    numbers = [caller.ask("ping") for caller in late]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        house.until(lambda: house.server.metrics.flat()["accept_pauses"] == 1)
        for _ in range(20):
            assert house.call(inside, "ping")["result"] == {}
            house.skip(0.05)
        assert any(caller.reply(number) is None for caller, number in both(late, numbers))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for caller, number in both(late, numbers):
        house.until(partial(caller.reply, number))
    assert sum("no more connections can be taken" in line for line in house.lines) == 1


# -- the state file --------------------------------------------------------------------------------


def test_a_state_file_of_junk_is_a_reason_to_end(processes: list[Process], tmp_path: Path) -> None:
    path = str(tmp_path / "directory.db")
    with open(path, "wb") as file:
        file.write(random.Random(1).randbytes(20_000))
    process = Process("--state", path, memory=False)
    processes.append(process)
    assert process.wait() == 73
    assert "cannot use the state file" in process.log
    assert "Traceback" not in process.log
    assert os.path.getsize(path) == 20_000, "left as it was"


def test_a_state_file_that_is_deleted_loses_nothing_that_was_answered(
    open_house: Callable[..., House], tmp_path: Path
) -> None:
    path = str(tmp_path / "directory.db")
    house = open_house("--state", path)
    caller = house.caller()
    assert "result" in house.call(caller, "makeroom", name="kept")
    os.rename(path, path + ".away")
    reply = house.call(caller, "makeroom", name="refused")
    assert reply["error"]["data"]["reason"] == "storage_failed"
    reply = house.call(caller, "makeroom", name="refused too")
    assert sum("the store takes no changes" in line for line in house.lines) == 1
    os.rename(path + ".away", path)
    assert "result" in house.call(caller, "makeroom", name="again")
    names = [room["name"] for room in house.call(caller, "getdir")["result"]["rooms"]]
    assert names == ["again", "kept"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs: needs root")
@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_a_full_disk(processes: list[Process], tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=300k tmpfs "$0" && exec "$@"'
    before = ("unshare", "-m", "sh", "-c", mount, str(tmp_path))
    if subprocess.run([*before, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs root and mount namespaces")
    state = str(tmp_path / "directory.db")
    process = Process("--change-rate", "0", "--state", state, before=before, memory=False)
    processes.append(process)
    process.ready()
    caller = Caller(process.address)
    try:
        made, refused = [], []
        for number in range(2_000):
            name = f"room{number:04}"
            reply = process.call(caller, "makeroom", name=name)
            caller.got.clear()
            if "result" in reply:
                made.append(name)
            else:
                assert reply["error"]["data"]["reason"] == "storage_failed"
                refused.append(name)
                if len(refused) > 5:
                    break
        assert refused, "300 kB hold no 2,000 rooms"
        listed = []
        after: dict[str, str] = {}
        while True:
            page = process.call(caller, "getdir", **after)["result"]
            listed += [room["name"] for room in page["rooms"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert listed == made, "what was refused is not there, what was answered is"
        assert process.log.count("the store takes no changes") == 1
        # Its root too: these tests may run in a chroot, which is not that of the namespace.
        into = ("nsenter", "-t", str(process.process.pid), "-m", "-r")
        more_room = ("mount", "-o", "remount,size=4m", str(tmp_path))
        subprocess.run([*into, *more_room], check=True)
        assert "result" in process.call(caller, "makeroom", name=refused[0])
        process.until(lambda: "the store takes changes again" in process.log)
    finally:
        caller.close()


# -- what all of them together hold ---------------------------------------------------------------


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> int:
    budget = 4 * 2**20
    monkeypatch.setattr(scheduler, "HELD_BYTES_MAX", budget)
    monkeypatch.setattr(scheduler, "HELD_AFTER_BYTES", budget * 3 // 4)
    return budget


def held_by(house: House) -> int:
    """Bytes that all connections hold, added up without the hub's own sum."""
    connections = house.dispatcher.connections.values()
    return sum(one.queued + len(one.decoder.rest) for one in connections)


@pytest.mark.parametrize("at_once", [1, 4, 16])
def test_slow_readers_together_hold_no_more_than_the_budget(
    at_once: int, open_house: Callable[..., House], small_budget: int
) -> None:
    house = open_house("--change-rate", "0")
    honest, slow_but_small = house.caller(), house.caller()
    for number in range(600):
        house.dispatcher.make_room(f"room-{number:050}", None, None, "127.0.0.1", b"")
    readers = []
    for _ in range(60):
        reader = house.caller()
        reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        readers.append(reader)
    house.call(slow_but_small, "ping")
    # One stream may fill its queue before it is looked at; what is so little does not count.
    most = small_budget + OUT_HIGH_WATER_BYTES + FRAME_BYTES_MAX + 60 * HELD_FREE_BYTES
    for _ in range(240 // at_once):
        for reader in readers:
            for _ in range(at_once):
                if not reader.closed:
                    reader.ask("getdir")
        house.tick()
        assert held_by(house) <= most
        holdings = house.dispatcher.hub.holdings
        assert holdings.total == sum(holdings.amounts.values())
    house.tick(5)
    assert held_by(house) <= small_budget
    assert house.server.metrics.figures()["connections_broken"] == {
        "cut off": pytest.approx(30, abs=29)
    }
    assert house.call(honest, "ping")["result"] == {}
    assert house.call(slow_but_small, "ping")["result"] == {}, "who holds little is not cut off"
    for reader in readers:
        reader.close()
    house.until(lambda: len(house.dispatcher.connections) == 2)
    assert house.dispatcher.hub.holdings.total == 0


def test_half_frames_together_hold_no_more_than_the_budget(
    open_house: Callable[..., House], small_budget: int
) -> None:
    house = open_house()
    honest = house.caller()
    house.call(honest, "ping")
    half = (PAYLOAD_BYTES_MAX).to_bytes(4, "big") + b" " * (PAYLOAD_BYTES_MAX - 100)
    callers = [house.caller() for _ in range(100)]
    for _ in range(40):
        for caller in callers:
            if not caller.closed and not caller.got:
                left = getattr(caller, "left", half)
                caller.left = left[caller.send(left) :]  # type: ignore[attr-defined]
        house.tick()
        assert held_by(house) <= small_budget + READ_BYTES_PER_WAKE * 100
    house.tick(5)
    assert held_by(house) <= small_budget
    assert house.call(honest, "ping")["result"] == {}
    house.skip(UNFINISHED_FRAME_S + 1)
    assert house.dispatcher.hub.holdings.total == 0


# -- the end ---------------------------------------------------------------------------------------


def _say_goodbye(processes: list[Process]) -> float:
    """Seconds from SIGTERM to the end, with a hundred clients who read."""
    process = Process()
    processes.append(process)
    process.ready()
    callers = [Caller(process.address) for _ in range(100)]
    try:
        for caller in callers:
            process.call(caller, "ping")
        begin = time.monotonic()
        process.process.terminate()
        assert process.wait() == 0
        took = time.monotonic() - begin
        for caller in callers:
            caller.read()
            assert caller.closed and not caller.reset
            assert caller.got[-1]["method"] == "closing"
    finally:
        for caller in callers:
            caller.close()
    return took


def test_sigterm_says_goodbye_to_a_hundred_clients(processes: list[Process]) -> None:
    """Without waiting: that would take DRAIN_S each time; a busy machine delays one of some."""
    assert any(_say_goodbye(processes) < DRAIN_S for _ in range(5))


def test_sigterm_does_not_wait_for_who_does_not_read(processes: list[Process]) -> None:
    process = Process("--rooms-per-address", "0")
    processes.append(process)
    process.ready()
    caller = Caller(process.address)
    try:
        for number in range(100):
            process.call(caller, "makeroom", name=f"room{number}")
        greedy = Caller(process.address)
        greedy.send(b"".join(request("getdir", number, {}) for number in range(2_000)))
        process.call(caller, "ping")
        begin = time.monotonic()
        process.process.terminate()
        assert process.wait() == 0
        assert time.monotonic() - begin < WRITE_PROGRESS_S  # else it was for that it waited
        greedy.close()
    finally:
        caller.close()


# -- how it is started -----------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["0<&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_descriptors_do_no_harm(closed: str, tmp_path: Path) -> None:
    """Where 2 is closed, the rooms' own file would get that number, and the log's lines."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    state = str(tmp_path / "directory.db")
    options = ["--state", state, "--listen", f"127.0.0.1:{address[1]}", "-v"]
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "evloop.server", *options],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        caller = None
        while caller is None:
            assert process.poll() is None, "it ended"
            try:
                caller = Caller(address)
            except ConnectionRefusedError:
                continue
        number = caller.ask("makeroom", name="lab")
        while (reply := caller.reply(number)) is None:
            assert not caller.closed
        assert "result" in reply
        caller.close()
        standard = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)]
        assert not any("directory.db" in path or "socket" in path for path in standard)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    house = House("--state", state)
    try:
        assert [room.name for room in house.dispatcher.directory.rooms()] == ["lab"]
    finally:
        house.close()


# 64 KiB of `[1,1,1,...` take 10 ms to be judged, a batch is 64 requests in one frame; fifty
# streams of either must not take fifty times that in one tick.
_PING = b'{"jsonrpc":"2.0","method":"ping","id":1}'
LARGE = {
    "list": pack_frame(b"[" + b"1," * 32_000 + b"1]"),
    "batches": pack_frame(b"[" + b",".join([_PING] * BATCH_MEMBERS_MAX) + b"]") * 24,
}


@pytest.mark.parametrize("what", LARGE)
def test_large_payloads_wait_their_turn(
    what: str, open_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = open_house("--max-per-address", "0")
    house.stop_clock()
    honest = house.caller()
    house.call(honest, "ping")
    flood = (
        LARGE[what] + request("ping", 1, {})
    ) * 3  # a request between, so that it is not sent away
    mob = [house.caller() for _ in range(50)]
    unsent = [flood] * len(mob)
    sizes: list[int] = []
    handle = Dispatcher.handle

    def counting(dispatcher: Dispatcher, connection: Any, payloads: list[bytes]) -> int:
        taken = handle(dispatcher, connection, payloads)
        sizes.extend(map(len, payloads[:taken]))
        return taken

    monkeypatch.setattr(Dispatcher, "handle", counting)
    house.tick()
    waits, largest = [], 0
    for _ in range(40):
        for at, caller in enumerate(mob):
            unsent[at] = unsent[at][caller.send(unsent[at]) :]
        number, ticks = honest.ask("ping"), 0
        while not honest.reply(number):
            sizes.clear()
            house.tick()
            largest = max(largest, sum(sizes))
            ticks += 1
        waits.append(ticks)
    assert max(waits) <= 2, "an honest request goes before the large ones"
    assert largest <= 3 * PAYLOAD_BYTES_MAX, "of a tick"
    house.until(lambda: all(caller.read() or len(caller.got) >= 6 for caller in mob))
    assert not any(caller.closed for caller in mob)
