"""Each guarantee of the reactor: with a fake selector and clock, then with real descriptors."""

from __future__ import annotations

import errno
import math
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.base.errors import LocalProtocolError
from evloop.system.limits import (
    EVENTS_PER_TICK_MAX,
    READ_BYTES_PER_WAKE,
    SLEEP_S_MAX,
    STALE_TIMERS_MIN,
)
from evloop.system.loop import Loop, Watch
from evloop.system.timers import Timer

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
INF = math.inf


class FakeClock:
    def __init__(self) -> None:
        self.time = 100.0
        self.readings = 0

    def __call__(self) -> float:
        self.readings += 1
        return self.time


class FakeSelector(selectors.BaseSelector):
    """Sleeps by moving the clock; `ready` holds what each select answers, in order."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.interest: dict[int, int] = {}
        self.calls: list[tuple[str, int, int]] = []
        self.timeouts: list[float | None] = []
        self.ready: list[list[tuple[int, int]]] = []
        self.closed = False

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        assert fileobj not in self.interest
        assert events
        self.calls.append(("register", fileobj, events))
        self.interest[fileobj] = events
        return selectors.SelectorKey(fileobj, fileobj, events, data)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        assert fileobj in self.interest
        assert events
        self.calls.append(("modify", fileobj, events))
        self.interest[fileobj] = events
        return selectors.SelectorKey(fileobj, fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        self.calls.append(("unregister", fileobj, 0))
        return selectors.SelectorKey(fileobj, fileobj, self.interest.pop(fileobj), None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.timeouts.append(timeout)
        batch = self.ready.pop(0) if self.ready else []
        if not batch and timeout is not None:
            self.clock.time += timeout
        return [(selectors.SelectorKey(fd, fd, bits, None), bits) for fd, bits in batch]

    def close(self) -> None:
        self.closed = True

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        raise AssertionError("the loop has a map of its own")


class FakeFile:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closes = 0

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        self.closes += 1


class Bench:
    """A loop on fakes, and a log of what was called."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.selector = FakeSelector(self.clock)
        self.loop = Loop(clock=self.clock, selector=self.selector)
        self.log: list[str] = []

    def note(self, word: str) -> Callable[[], None]:
        return lambda: self.log.append(word)

    def watch(self, fd: int, *, writes: bool = False) -> Watch:
        file = FakeFile(fd)
        reading, writing = self.note(f"read {fd}"), self.note(f"write {fd}")
        watch = self.loop.watch(file, reading, writing, file.close)
        watch.want_write(writes)
        return watch

    def batch(self, *events: tuple[int, int]) -> list[str]:
        """One tick in which these events come; returns what it called."""
        self.log.clear()
        self.selector.ready.append(list(events))
        self.loop.tick()
        return self.log

    def tick(self) -> list[str]:
        self.log.clear()
        self.loop.tick()
        return self.log


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def nothing() -> None: ...


def fail() -> None:
    raise ValueError("a bug in a handler")


# -- how long it sleeps ----------------------------------------------------------------------------


def test_no_timers_sleeps_until_something_happens(bench: Bench) -> None:
    bench.tick()
    assert bench.selector.timeouts == [None]


def test_all_timers_cancelled_sleeps_until_something_happens(bench: Bench) -> None:
    for timer in [bench.loop.call_at(101.0 + n, bench.note("x")) for n in range(3)]:
        timer.cancel()
    assert bench.tick() == []
    assert bench.selector.timeouts == [None]


def test_an_overdue_timer_does_not_sleep_for_ever(bench: Bench) -> None:
    """A negative timeout would mean "for ever" to epoll."""
    bench.loop.call_at(-INF, bench.note("ages ago"))
    bench.loop.call_at(99.0, bench.note("overdue"))
    assert bench.tick() == ["ages ago", "overdue"]
    assert bench.selector.timeouts == [0]


def test_an_inf_timer_never_fires_but_can_be_moved(bench: Bench) -> None:
    timer = bench.loop.call_at(INF, bench.note("x"))
    assert bench.tick() == []
    assert bench.selector.timeouts == [None]
    timer.move(103.0)
    assert bench.tick() == ["x"]
    assert bench.selector.timeouts == [None, 3.0]


def test_a_timer_moved_to_inf_wakes_nobody(bench: Bench) -> None:
    timer = bench.loop.call_at(101.0, bench.note("x"))
    timer.move(INF)
    assert bench.tick() == []
    assert bench.selector.timeouts == [None]


@pytest.mark.parametrize("when", [1e9, 1e300, sys.float_info.max])
def test_an_absurd_timeout_is_clamped(bench: Bench, when: float) -> None:
    bench.loop.call_at(when, bench.note("x"))
    assert bench.tick() == []
    assert bench.selector.timeouts == [SLEEP_S_MAX]


def test_the_real_selector_takes_the_longest_sleep(loop: Loop) -> None:
    reader, writer = socket.socketpair()
    watch = loop.watch(reader, nothing, release=reader.close)
    writer.send(b"x")
    loop.call_at(1e300, nothing)
    loop.tick()  # epoll raises OverflowError beyond 2**31 ms
    watch.close()
    writer.close()


def test_nan_is_refused_for_it_would_spoil_the_heap(bench: Bench) -> None:
    with pytest.raises(LocalProtocolError):
        bench.loop.call_at(math.nan, nothing)


def test_the_time_that_callbacks_took_is_not_slept_again(bench: Bench) -> None:
    bench.loop.call_at(103.0, bench.note("x"))

    def slow() -> None:
        bench.clock.time += 2.0

    bench.loop.before_sleep(slow)
    bench.tick()
    assert bench.selector.timeouts == [1.0]


def test_now_is_read_once_right_after_select(bench: Bench) -> None:
    seen = []

    def slow() -> None:
        seen.append(bench.loop.now)
        bench.clock.time += 5.0

    for fd in (3, 4):
        bench.loop.watch(FakeFile(fd), slow)
    bench.loop.defer(slow)
    bench.clock.time = 200.0
    bench.clock.readings = 0
    bench.batch((3, READ), (4, READ))
    assert seen == [200.0] * 3
    assert bench.clock.readings == 2  # the other one is before the select: how long may it sleep?


def test_on_busy_is_told_the_time_between_two_selects(bench: Bench) -> None:
    busy: list[float] = []
    bench.loop.on_busy = busy.append

    def slow() -> None:
        bench.clock.time += 0.25

    bench.loop.before_sleep(slow)
    bench.loop.defer(slow)
    bench.tick()
    bench.tick()
    assert busy == [0.25, 0.5]


# -- timers ----------------------------------------------------------------------------------------


def test_timers_run_in_order_of_time_then_of_asking(bench: Bench) -> None:
    for when, word in ((102.0, "c"), (101.0, "a"), (101.0, "b"), (103.0, "d")):
        bench.loop.call_at(when, bench.note(word))
    bench.clock.time = 102.5
    assert bench.tick() == ["a", "b", "c"]
    assert bench.tick() == ["d"]


def test_a_timer_that_arms_itself_for_now_waits_a_tick(bench: Bench) -> None:
    calls = 0

    def again() -> None:
        nonlocal calls
        calls += 1
        timer.move(bench.loop.now)

    timer = bench.loop.call_at(100.0, again)
    other = bench.loop.call_at(100.0, bench.note("other"))
    for tick in range(1, 4):
        assert bench.tick() == (["other"] if tick == 1 else [])
        assert calls == tick
    assert other.when == INF


def test_a_timer_made_for_the_past_in_a_pass_waits_a_tick(bench: Bench) -> None:
    bench.loop.call_at(100.0, lambda: bench.loop.call_at(0.0, bench.note("past")))
    assert bench.tick() == []
    assert bench.tick() == ["past"]
    assert bench.selector.timeouts == [0, 0]


def test_a_due_timer_is_cancelled_or_moved_by_one_before_it(bench: Bench) -> None:
    def first() -> None:
        cancelled.cancel()
        moved.move(105.0)
        disarmed.move(INF)

    bench.loop.call_at(100.0, first)
    cancelled = bench.loop.call_at(100.0, bench.note("cancelled"))
    moved = bench.loop.call_at(100.0, bench.note("moved"))
    disarmed = bench.loop.call_at(100.0, bench.note("disarmed"))
    assert bench.tick() == []
    assert bench.tick() == ["moved"]
    assert bench.clock.time == 105.0


def test_a_deadline_pushed_back_again_and_again_wakes_once(bench: Bench) -> None:
    timer = bench.loop.call_at(101.0, bench.note("x"))
    for n in range(1000):
        timer.move(102.0 + n)
    assert len(bench.loop.timers.heap) == 1
    assert bench.tick() == ["x"]
    assert bench.selector.timeouts == [1001.0]


def test_a_deadline_pulled_forward_is_kept(bench: Bench) -> None:
    timer = bench.loop.call_at(150.0, bench.note("x"))
    timer.move(140.0)
    timer.move(145.0)
    assert bench.tick() == ["x"]
    assert bench.tick() == []
    assert bench.selector.timeouts == [45.0, None]


def test_a_deadline_pulled_forward_overtakes_others(bench: Bench) -> None:
    timer = bench.loop.call_at(150.0, bench.note("x"))
    for when in (120.0, 130.0):
        bench.loop.call_at(when, bench.note(f"{when}"))
    timer.move(110.0)
    assert [bench.tick() == [word] for word in ("x", "120.0", "130.0")] == [True] * 3
    assert bench.selector.timeouts == [10.0, 10.0, 10.0]


def test_a_deadline_pulled_forward_to_where_it_once_was(bench: Bench) -> None:
    timer = bench.loop.call_at(101.0, bench.note("x"))
    timer.move(150.0)
    bench.batch((99, READ))  # here the loop learns that 101 no longer holds
    bench.loop.call_at(120.0, bench.note("y"))
    timer.move(110.0)
    assert bench.tick() == ["x"]
    assert bench.clock.time == 110.0


def test_cancel_lets_go_of_the_function_and_is_final(bench: Bench) -> None:
    class Owner:
        def fire(self) -> None: ...

    owner = Owner()
    alive = weakref.ref(owner)
    timer = bench.loop.call_at(101.0, owner.fire)
    del owner
    assert alive() is not None
    timer.cancel()
    timer.cancel()
    assert alive() is None
    with pytest.raises(LocalProtocolError):
        timer.move(102.0)


def test_dead_entries_are_pruned_in_bulk(bench: Bench) -> None:
    kept = bench.loop.call_at(1e6, bench.note("kept"))
    longest = 0
    for n in range(10_000):
        bench.loop.call_at(200.0 + n, nothing).cancel()
        kept.move(1e6 - n)  # each earlier than the last: one more dead entry
        longest = max(longest, len(bench.loop.timers.heap))
    assert longest <= 2 * STALE_TIMERS_MIN + 4
    while bench.tick() == []:
        pass
    assert bench.log == ["kept"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["make", "move", "cancel", "pass"]),
            st.integers(0, 3),
            st.sampled_from([0.0, 1.0, 1.5, 2.0, 5.0, INF]),
        ),
        max_size=80,
    )
)
def test_timers_agree_with_a_plain_list(steps: list[tuple[str, int, float]]) -> None:
    """Model: every armed timer whose time has come, sorted by it; nothing else is called."""
    bench = Bench()
    fired: list[int] = []
    timers: list[Timer | None] = []
    model: dict[int, float] = {}
    for step, number, delay in steps:
        when = bench.clock.time + delay
        if step == "make":
            key = len(timers)
            timers.append(bench.loop.call_at(when, partial(fired.append, key)))
            model[key] = when
        elif step == "pass":
            fired.clear()
            bench.clock.time += min(delay, 10.0)
            bench.selector.ready.append([(99, READ)])  # nobody's: the tick does not sleep
            bench.loop.tick()
            due = {key: at for key, at in model.items() if at <= bench.clock.time}
            assert sorted(fired) == sorted(due)
            assert [due[key] for key in fired] == sorted(due.values())
            model.update(dict.fromkeys(due, INF))
        elif number < len(timers) and (timer := timers[number]) is not None:
            if step == "move":
                timer.move(when)
                model[number] = when
            else:
                timer.cancel()
                timers[number] = None
                model[number] = INF
        for key, one in enumerate(timers):
            assert one is None or one.when == model[key]
        assert bench.loop.timers.stale == sum(t.seq != seq for _, seq, t in bench.loop.timers.heap)
    waiting, before = min(model.values(), default=INF), bench.clock.time
    bench.loop.tick()
    expected = None if waiting == INF else max(0.0, waiting - before)
    assert bench.selector.timeouts[-1] == expected


# -- descriptors -----------------------------------------------------------------------------------


def test_reading_comes_before_writing(bench: Bench) -> None:
    bench.watch(3, writes=True)
    assert bench.batch((3, READ | WRITE)) == ["read 3", "write 3"]


def test_interest_is_asked_for_only_when_it_changes(bench: Bench) -> None:
    watch = bench.watch(3)
    for want in (True, True, False, False):
        watch.want_write(want)
        watch.want_read(True)
    assert bench.selector.calls == [
        ("register", 3, READ),
        ("modify", 3, READ | WRITE),
        ("modify", 3, READ),
    ]


def test_who_wants_nothing_is_taken_out_of_the_selector(bench: Bench) -> None:
    """epoll reports hang-ups of what is registered without any interest, for ever."""
    watch = bench.watch(3)
    watch.want_read(False)
    assert bench.selector.interest == {}
    watch.want_read(True)
    assert bench.selector.interest == {3: READ}
    watch.want_read(False)
    watch.close()
    assert isinstance(watch.fileobj, FakeFile)
    assert watch.fileobj.closes == 1


def test_a_paused_hang_up_does_not_spin(loop: Loop) -> None:
    reader, writer = socket.socketpair()
    reads = []
    watch = loop.watch(reader, lambda: reads.append(1), release=reader.close)
    watch.want_read(False)
    writer.close()
    loop.call_at(loop.now, nothing)
    loop.tick()
    assert loop.poller.poll(0, 10) == []
    watch.want_read(True)
    loop.tick()
    assert reads == [1]
    watch.close()


def test_a_descriptor_closed_earlier_in_the_batch_is_not_called(bench: Bench) -> None:
    victim = bench.watch(4, writes=True)
    bench.loop.watch(FakeFile(3), victim.close)
    assert bench.batch((3, READ), (4, READ | WRITE)) == []


def test_interest_dropped_earlier_in_the_batch_is_respected(bench: Bench) -> None:
    victim = bench.watch(4, writes=True)
    bench.loop.watch(FakeFile(3), lambda: victim.want_read(False))
    assert bench.batch((3, READ), (4, READ | WRITE)) == ["write 4"]


def test_a_reader_that_closes_itself_is_not_asked_to_write(bench: Bench) -> None:
    watch = bench.watch(3, writes=True)
    watch.on_read = watch.close
    assert bench.batch((3, READ | WRITE)) == []


def test_a_number_handed_out_again_in_the_batch_gets_no_old_news(bench: Bench) -> None:
    victim = bench.watch(4, writes=True)

    def close_and_take_its_number() -> None:
        victim.close()
        bench.watch(4, writes=True)

    first = bench.loop.watch(FakeFile(3), close_and_take_its_number)
    assert bench.batch((3, READ), (4, READ | WRITE)) == []
    first.on_read = nothing
    assert bench.batch((3, READ), (4, READ | WRITE)) == ["read 4", "write 4"]


def test_a_number_handed_out_again_in_the_batch_for_true(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    made: list[Watch] = []
    called: list[str] = []

    def handler(mine: int) -> None:
        if made:
            return
        other = watches[1 - mine]
        number = other.fd
        other.close()
        new, peer = socket.socketpair()
        pairs.append((new, peer))
        assert new.fileno() == number
        made.append(loop.watch(new, lambda: called.append("new"), release=new.close))

    watches = [
        loop.watch(pairs[0][0], lambda: handler(0), release=pairs[0][0].close),
        loop.watch(pairs[1][0], lambda: handler(1), release=pairs[1][0].close),
    ]
    for _, peer in pairs:
        peer.send(b"x")
    loop.tick()
    assert len(made) == 1
    assert called == []
    pairs[2][1].send(b"y")
    loop.tick()
    assert called == ["new"]
    for _, peer in pairs:
        peer.close()
    for watch in (*watches, *made):
        watch.close()


def test_closing_twice_is_fine_and_spares_the_next_owner(bench: Bench) -> None:
    old = bench.watch(4)
    old.close()
    old.close()
    bench.watch(4)
    old.close()
    assert isinstance(old.fileobj, FakeFile)
    assert old.fileobj.closes == 1
    assert bench.selector.interest == {4: READ}
    assert bench.batch((4, READ)) == ["read 4"]


def test_unregister_comes_before_close(bench: Bench) -> None:
    order = []

    class File(FakeFile):
        def close(self) -> None:
            order.append(dict(bench.selector.interest))

    file = File(4)
    bench.loop.watch(file, nothing, release=file.close).close()
    assert order == [{}]


def test_a_closed_watch_can_not_be_watched_again(bench: Bench) -> None:
    watch = bench.watch(4)
    watch.close()
    assert watch.fd == -1
    watch.want_read(False)
    with pytest.raises(LocalProtocolError):
        watch.want_read(True)
    with pytest.raises(LocalProtocolError):
        watch.want_write(True)


def test_one_descriptor_is_watched_once(bench: Bench) -> None:
    bench.watch(4)
    with pytest.raises(LocalProtocolError):
        bench.watch(4)
    assert bench.batch((4, READ)) == ["read 4"]


def test_close_cuts_the_cycle_to_the_owner(bench: Bench) -> None:
    class Owner:
        def __init__(self) -> None:
            self.watch = bench.loop.watch(FakeFile(4), self.read)

        def read(self) -> None: ...

    owner = Owner()
    alive = weakref.ref(owner)
    owner.watch.close()
    del owner
    assert alive() is None


def test_what_nobody_releases_stays_open(loop: Loop) -> None:
    """Who opens a descriptor closes it; the loop judges by no number and no type."""
    with socket.socket() as sock:
        pairs: list[tuple[Any, int]] = [(0, 0), (sock, sock.fileno())]
        reader, writer = os.pipe()
        pairs.append((reader, reader))
        for thing, fd in pairs:
            before = os.fstat(fd)
            loop.watch(thing, None).close()
            assert os.fstat(fd) == before
        loop.watch(reader, nothing)
    loop.close()
    os.fstat(reader)
    os.close(reader)
    os.close(writer)


def test_a_refused_connection_is_told_to_whoever_waits_to_write(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(address)
    errors = []

    def connected() -> None:
        errors.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        watch.close()

    watch = loop.watch(sock, None, connected, sock.close)
    watch.want_write(True)
    while not errors:
        loop.tick()
    assert errors[0]


def test_what_epoll_refuses_is_said_at_once_and_not_kept(loop: Loop) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    for _ in range(2):
        with pytest.raises(PermissionError):
            loop.watch(null, nothing)
    os.close(null)


# -- fairness --------------------------------------------------------------------------------------


def test_a_busy_descriptor_starves_nobody(loop: Loop) -> None:
    """One that is always readable; another, a timer and a deferred function get every tick."""
    busy, flood = socket.socketpair()
    other, peer = socket.socketpair()
    flood.setblocking(False)
    calls: list[str] = []

    def read_flood() -> None:
        busy.recv(READ_BYTES_PER_WAKE)
        try:
            while flood.send(bytes(65_536)):
                pass
        except BlockingIOError:
            calls.append("busy")

    def read_other() -> None:
        calls.append(other.recv(1).decode())

    def tick_timer() -> None:
        calls.append("timer")
        timer.move(loop.now)

    watches = [
        loop.watch(busy, read_flood, release=busy.close),
        loop.watch(other, read_other, release=other.close),
    ]
    timer = loop.call_at(loop.now, tick_timer)
    flood.send(b"x")
    for _ in range(5):
        calls.clear()
        peer.send(b"o")
        loop.defer(lambda: calls.append("deferred"))
        loop.tick()
        assert sorted(calls) == ["busy", "deferred", "o", "timer"]
    for watch in watches:
        watch.close()
    flood.close()
    peer.close()


def test_with_more_ready_than_a_tick_takes_all_get_their_turn(loop: Loop) -> None:
    count = EVENTS_PER_TICK_MAX * 3 // 2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * count), hard))
    seen = [0] * count

    def see(number: int) -> None:
        seen[number] += 1

    readers = [os.pipe() for _ in range(count)]
    for n, (readable, writable) in enumerate(readers):
        os.write(writable, b"x")  # readable until it is read, and nobody reads it
        loop.watch(readable, partial(see, n), release=partial(os.close, readable))
    for _ in range(3):
        loop.tick()
    assert seen == [2] * count
    loop.close()
    for _, writable in readers:
        os.close(writable)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- deferred functions and hooks ------------------------------------------------------------------


def test_deferred_runs_once_after_events_and_timers(bench: Bench) -> None:
    bench.watch(3)
    bench.loop.defer(bench.note("deferred"))
    bench.loop.call_at(100.0, bench.note("timer"))
    assert bench.batch((3, READ)) == ["read 3", "timer", "deferred"]
    assert bench.tick() == []
    assert bench.selector.timeouts == [0, None]


def test_a_deferred_function_that_defers_itself_lets_the_others_in(bench: Bench) -> None:
    bench.watch(3)

    def piece() -> None:
        bench.log.append("piece")
        bench.loop.defer(piece)

    bench.loop.defer(piece)
    for _ in range(3):
        assert bench.batch((3, READ)) == ["read 3", "piece"]
    assert bench.selector.timeouts == [0, 0, 0]


def test_hooks_run_in_order_before_the_timeout_is_computed(bench: Bench) -> None:
    bench.loop.before_sleep(bench.note("commit"))
    bench.loop.before_sleep(bench.note("flush"))
    bench.loop.before_sleep(lambda: bench.loop.call_at(101.0, bench.note("timer")))
    assert bench.tick() == ["commit", "flush", "timer"]
    assert bench.selector.timeouts == [1.0]


def test_a_hook_may_defer(bench: Bench) -> None:
    bench.loop.before_sleep(lambda: bench.loop.defer(bench.note("deferred")))
    assert bench.tick() == ["deferred"]
    assert bench.selector.timeouts == [0]


def test_stop_ends_the_tick_and_runs_the_hooks_once_more(bench: Bench) -> None:
    """What the last tick promised is committed and flushed."""
    bench.watch(3).on_read = bench.loop.stop
    bench.loop.before_sleep(bench.note("commit"))
    bench.loop.defer(bench.note("deferred"))
    bench.selector.ready.append([(3, READ)])
    bench.loop.run()
    assert bench.log == ["commit", "deferred", "commit"]
    bench.selector.ready.append([(3, READ)])
    bench.loop.run()
    assert bench.log == ["commit", "deferred", "commit", "commit", "commit"]


def test_stop_in_a_hook_does_not_sleep(bench: Bench) -> None:
    bench.loop.before_sleep(bench.loop.stop)
    bench.loop.run()
    assert bench.selector.timeouts == [0]


# -- no nesting, no half states --------------------------------------------------------------------


def test_a_tick_is_never_re_entered(bench: Bench) -> None:
    failures: list[str] = []

    def nest() -> None:
        for inner in (bench.loop.tick, bench.loop.run, bench.loop.close):
            with pytest.raises(LocalProtocolError) as caught:
                inner()
            failures.append(str(caught.value))

    bench.loop.before_sleep(nest)
    bench.loop.watch(FakeFile(3), nest)
    bench.loop.call_at(100.0, nest)
    bench.loop.defer(nest)
    bench.batch((3, READ))
    assert len(failures) == 12
    bench.batch((3, READ))
    assert len(failures) == 18


def test_a_closed_loop_does_not_tick(bench: Bench) -> None:
    watch = bench.watch(3)
    bench.loop.close()
    bench.loop.close()
    assert bench.selector.closed
    assert watch.fd == -1
    assert isinstance(watch.fileobj, FakeFile)
    assert watch.fileobj.closes == 1
    with pytest.raises(LocalProtocolError):
        bench.loop.tick()


def test_an_error_leaves_the_tick_and_loses_nothing(bench: Bench) -> None:
    bench.loop.watch(FakeFile(3), fail)
    bench.watch(4)
    for word in ("t1", "t2"):
        bench.loop.call_at(100.0, fail)
        bench.loop.call_at(100.0, bench.note(word))
        bench.loop.defer(fail)
        bench.loop.defer(bench.note(word.replace("t", "d")))
    with pytest.raises(ValueError, match="a bug"):
        bench.batch((3, READ), (4, READ))
    assert bench.log == ["read 4", "t1", "t2", "d1", "d2"]  # everybody else was served first
    for _ in range(4):
        with pytest.raises(ValueError, match="a bug"):
            bench.loop.tick()
    assert bench.selector.timeouts == [0] * 5
    bench.tick()
    assert bench.log == []
    assert bench.batch((4, READ)) == ["read 4"]


def test_on_error_lets_the_owner_decide_and_the_tick_goes_on(bench: Bench) -> None:
    caught: list[object] = []

    def on_error(origin: object, error: Exception) -> None:
        assert isinstance(error, ValueError)
        caught.append(origin)

    bench.loop.on_error = on_error
    bench.loop.before_sleep(fail)
    watch = bench.loop.watch(FakeFile(3), fail)
    bench.watch(4)
    timer = bench.loop.call_at(100.0, fail)
    bench.loop.call_at(100.0, bench.note("timer"))
    bench.loop.defer(fail)
    bench.loop.defer(bench.note("deferred"))
    assert bench.batch((3, READ), (4, READ)) == ["read 4", "timer", "deferred"]
    assert caught == [fail, watch, timer, fail]


def test_ctrl_c_is_not_an_error_of_a_handler(bench: Bench) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    bench.loop.on_error = lambda origin, error: pytest.fail("asked about KeyboardInterrupt")
    bench.loop.defer(interrupt)
    with pytest.raises(KeyboardInterrupt):
        bench.loop.tick()
    assert bench.tick() == []


# -- signals ---------------------------------------------------------------------------------------


def test_sigterm_while_idle_ends_the_sleep() -> None:
    program = (
        "import os, signal\n"
        "from evloop.system.loop import Loop\n"
        "loop = Loop()\n"
        "loop.on_signal(signal.SIGTERM, loop.stop)\n"
        "loop.defer(lambda: os.write(1, b'idle'))\n"
        "loop.run()\n"
        "loop.close()\n"
        "os.write(1, b' stopped')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", program], stdout=subprocess.PIPE, bufsize=0
    ) as child:
        assert child.stdout is not None
        assert child.stdout.read(4) == b"idle"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.read() == b" stopped"
        assert child.wait() == 0


def test_a_signal_in_the_middle_of_select_is_a_read_in_the_same_tick(loop: Loop) -> None:
    calls: list[float] = []
    loop.on_signal(signal.SIGALRM, lambda: calls.append(loop.now))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    loop.tick()
    assert calls == [loop.now]


def test_each_delivery_is_one_call_in_its_order(loop: Loop) -> None:
    calls: list[str] = []
    loop.on_signal(signal.SIGUSR1, lambda: calls.append("one"))
    loop.on_signal(signal.SIGUSR2, lambda: calls.append("two"))
    for signum in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
        signal.raise_signal(signum)
    assert calls == []  # nothing runs between two instructions of somebody else
    loop.tick()
    assert calls == ["one", "two", "one"]


def test_signals_come_by_a_pipe_where_socket_pairs_are_refused(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> tuple[socket.socket, socket.socket]:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(socket, "socketpair", refuse)
    calls: list[int] = []
    loop.on_signal(signal.SIGUSR1, lambda: calls.append(1))
    for count in (1, 2):
        signal.raise_signal(signal.SIGUSR1)
        loop.tick()
        assert len(calls) == count
    assert not os.get_blocking(signal.set_wakeup_fd(-1)), "the interpreter does not wait"


def test_signals_of_others_are_passed_over(loop: Loop) -> None:
    calls: list[str] = []
    before = signal.signal(signal.SIGUSR2, lambda signum, frame: calls.append("theirs"))
    loop.on_signal(signal.SIGUSR1, lambda: calls.append("ours"))
    signal.raise_signal(signal.SIGUSR2)
    loop.tick()
    assert calls == ["theirs"]
    signal.signal(signal.SIGUSR2, before)


def test_close_gives_the_signals_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    loop = Loop()
    loop.on_signal(signal.SIGUSR1, nothing)
    loop.on_signal(signal.SIGUSR1, fail)  # the last one asked for holds
    assert signal.getsignal(signal.SIGUSR1) != before
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_an_error_in_a_signal_function_goes_to_the_owner(loop: Loop) -> None:
    caught: list[object] = []
    loop.on_error = lambda origin, error: caught.append(origin)
    loop.on_signal(signal.SIGUSR1, fail)
    signal.raise_signal(signal.SIGUSR1)
    loop.tick()
    assert caught == [fail]


# -- selectors of every kind -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [selectors.EpollSelector, selectors.PollSelector, selectors.SelectSelector]
)
def test_every_selector_of_the_library_will_do(kind: type[selectors.BaseSelector]) -> None:
    loop = Loop(selector=kind())
    reader, writer = socket.socketpair()
    calls: list[str] = []
    reading, writing = partial(calls.append, "read"), partial(calls.append, "write")
    watch = loop.watch(reader, reading, writing, reader.close)
    watch.want_write(True)
    loop.tick()
    writer.send(b"x")
    loop.tick()
    assert calls == ["write", "read", "write"]
    watch.want_write(False)
    writer.close()
    reader.recv(1)
    loop.tick()
    assert calls == ["write", "read", "write", "read"]
    loop.close()
    assert reader.fileno() == -1


@pytest.mark.skipif(not os.path.exists("/usr/bin/strace"), reason="strace is not installed")
def test_an_idle_loop_makes_no_system_call(tmp_path: Any) -> None:
    """With an armed timer far away, in a timed stretch of idleness ended by a signal."""
    program = (
        "import os, signal\n"
        "from evloop.system.loop import Loop\n"
        "loop = Loop()\n"
        "loop.on_signal(signal.SIGALRM, loop.stop)\n"
        "loop.call_at(loop.now + 3600, loop.stop)\n"
        "loop.before_sleep(lambda: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.5)\n"
        "os.write(2, b'idle from here')\n"
        "loop.run()\n"
    )
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-o", trace, sys.executable, "-S", "-c", program],
        check=True,
        capture_output=True,
    )
    lines = trace.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if "idle from here" in line)
    end = next(n for n, line in enumerate(lines) if "SIGALRM" in line and "---" in line)
    calls = lines[start + 1 : end]
    assert len(calls) == 1, calls
    assert "epoll_wait" in calls[0]


# -- a selector that refuses some descriptors, as kqueue does ------------------------------------


class Refusing(selectors.PollSelector):
    """EINVAL for one descriptor; select cannot help with EBADF."""

    refused, number = -1, errno.EINVAL

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if fileobj == self.refused:
            raise OSError(self.number, os.strerror(self.number))
        return super().register(fileobj, events, data)


def test_with_the_first_refused_all_move_to_select() -> None:
    selector = Refusing()
    loop = Loop(selector=selector)
    seen: list[int] = []
    pipes = [os.pipe() for _ in range(2)]
    for readable, writable in pipes:
        os.write(writable, b"x")
        Refusing.refused = pipes[1][0]
        loop.watch(readable, partial(seen.append, readable))
    loop.tick()
    assert sorted(seen) == sorted(readable for readable, _ in pipes)
    loop.close()
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def test_a_closed_descriptor_is_still_an_error() -> None:
    loop = Loop(selector=Refusing())
    readable, writable = os.pipe()
    Refusing.refused, Refusing.number = readable, errno.EBADF
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.watch(readable, nothing)
    Refusing.number = errno.EINVAL
    loop.close()
    os.close(readable)
    os.close(writable)
