"""Paced: what is asked for often is done now and then."""

from __future__ import annotations

from evloop.system.loop import Loop
from evloop.system.timers import Paced


def test_what_is_asked_for_ten_thousand_times_is_done_twice() -> None:
    """As it was found: 10,000 SIGHUPs read the TLS files 10,000 times, and kept others waiting."""
    now = 100.0
    loop = Loop(clock=lambda: now)
    done: list[float] = []
    paced = Paced(loop, 1.0, lambda: done.append(loop.now))

    def tick() -> None:
        loop.defer(lambda: None)
        loop.tick()

    try:
        tick()
        paced.ask()
        tick()
        assert done == [100.0], "the first at once"
        for _ in range(10_000):
            paced.ask()
            if _ % 1_000 == 0:
                now += 0.05
                tick()
        assert done == [100.0]
        now = 101.1
        tick()
        assert done == [100.0, 101.1], "the last is not forgotten"
        now = 110.0
        tick()
        assert len(done) == 2
        paced.ask()
        tick()
        assert done[2:] == [110.0]
    finally:
        loop.close()
