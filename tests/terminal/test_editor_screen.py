"""Model against screen: our emulator and, independently, pyte agree with what the editor means."""

from __future__ import annotations

from random import Random

import pyte
import pytest

from evloop.terminal.editor import Editor
from tests.fuzz.editor import (
    CERTAIN,
    KEYS,
    KINDS,
    MOVES,
    PLAIN,
    run,
)
from tests.support.screen import columns_of


@pytest.mark.parametrize("seed", range(2 * len(KINDS)))
def test_the_screen_shows_the_model_after_every_step(seed: int) -> None:
    run(seed, 1_000, **KINDS[seed % len(KINDS)])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 10 + len(KINDS)))
def test_the_screen_shows_the_model_at_length(seed: int) -> None:
    run(seed, 5_000, **KINDS[seed % len(KINDS)])


@pytest.mark.parametrize("seed", range(5))
def test_pyte_shows_it_too(seed: int) -> None:
    compare_with_pyte(seed, 200)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5, 7))
def test_pyte_shows_it_at_length(seed: int) -> None:
    compare_with_pyte(seed, 1_000)


def compare_with_pyte(seed: int, times: int) -> None:
    """pyte knows no emoji chains: only certain widths are typed."""
    random = Random(seed)
    columns, rows = random.choice([(20, 6), (40, 10), (80, 24)])
    screen = pyte.HistoryScreen(columns, rows, history=100)
    screen.set_mode(pyte.modes.LNM)  # the terminal driver's ONLCR
    stream = pyte.ByteStream(screen)
    editor = Editor(columns, rows, prompt="lab> ", history=["older"])
    texts = [*PLAIN, *(text for text in CERTAIN if text[0] != "\u0301" and len(text) == 1)]
    keys = [key for key in KEYS if key != b"\x12"] + MOVES * 3  # without the search's own prompt
    compared = step = 0
    while compared < times:
        step += 1
        now = float(step)
        choice = random.random()
        if choice < 0.5:
            list(editor.feed("".join(random.choices(texts, k=random.choice([1, 9]))).encode(), now))
        elif choice < 0.8:
            list(editor.feed(random.choice(keys), now))
        else:
            editor.above(f"#{step}# " + "".join(random.choices(texts, k=random.randrange(60))))
        list(editor.handle_timer(now + 0.5))
        stream.feed(editor.take(now))
        text = "lab> " + editor.text.replace("\n", "⏎")
        shown, at = [""], 0
        cursor = (0, 0)
        for index, char in enumerate([*text, ""]):
            wide = columns_of(char) if char else 0
            if at + wide > columns - 1:
                shown.append("")
                at = 0
            if index == 5 + editor.cursor:
                cursor = (len(shown) - 1, at)
            shown[-1] += char
            at += wide
        if len(shown) > rows or "\u0301" in text or "\ufffd" in text:
            continue  # pyte has no window, and its own idea of piled-up marks
        top = screen.cursor.y - cursor[0]
        display = screen.display  # pyte makes it anew at each look
        seen = [line.rstrip() for line in display[top : top + len(shown)]]
        assert seen == [line.rstrip() for line in shown], step
        assert screen.cursor.x == cursor[1], step
        assert not "".join(display[top + len(shown) :]).strip(), step
        compared += 1
