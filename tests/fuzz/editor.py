"""Model against screen: whatever is typed, said and resized, the screen shows exactly the model.

    python3 -m tests.fuzz.editor --steps 1000000 [--seed N]

One step is a key, a burst of messages, a resize, a change of prompt or progress line, or a
hide and show. After EVERY step what an emulator shows must be: the chat lines, then the rows of
the edit area, then nothing; and the cursor must stand where the model says. The seed replays a run.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from random import Random
from typing import TYPE_CHECKING

from evloop.base.names import display
from evloop.terminal.editor import Editor
from evloop.terminal.graphemes import (
    cell,
    joins,
    split,
)
from tests.support.screen import Emulator, columns_of

if TYPE_CHECKING:
    from evloop.terminal.renderer import Styled

KEYS = [
    *(bytes([code]) for code in range(1, 27) if code != 0x1A),
    b"\x1f", b"\x7f", b"\x1d", b"\x1bb", b"\x1bf", b"\x1bd", b"\x1b\x7f", b"\x1b\r",
    b"\x1b[A", b"\x1b[B", b"\x1b[C", b"\x1b[D", b"\x1b[H", b"\x1b[F", b"\x1b[3~",
    b"\x1b[1;5C", b"\x1b[1;5D", b"\x1bOC", b"\x1b[5~", b"\x1b[[A", b"\x1b]0;x\x07",
    b"\x1b[200~two\rlines\x1b[201~", b"\x1b[200~\ttab and \x1b[31mred\x1b[201~\r",
]  # fmt: skip
MOVES = [b"\x1b[C", b"\x1b[D", b"\x01", b"\x05", b"\x1bb", b"\x1bf", b"\x1b[A", b"\x7f", b"\x04"]
LOOKS_LIKE_A_LINE = re.compile(r"\s*(--|[*?]|\S*[:\uff1a]|(?=\S*:)[-\dT:]*\d[-\dT:]*)( |$)")
PLAIN = "abcdefgh ABC 0123 .,:;!?/"
CERTAIN = ["é", "ß", "ж", "日", "本", "語", "한", "e\u0301", "\u0301", "n\u0303", "🙂", "…", "ｱ"]
UNCERTAIN = [
    "👩\u200d👩\u200d👧", "👍\U0001f3fd", "🇳🇱", "❤\ufe0f", "1\ufe0f\u20e3", "\u200d", "🇪", "नि",
    "\u202e", "\u200b", "\u00ad",
]  # fmt: skip


class Recorder(Editor):
    """An editor that remembers what was to be printed above the prompt, in order."""

    printed: list[tuple[Styled, int]]

    def above(self, line: Styled, indent: int = 0, *, urgent: bool = False) -> None:
        self.printed.append((line, indent))
        super().above(line, indent, urgent=urgent)


class Run:
    """One terminal, one editor, and the model of what should be seen."""

    def __init__(
        self, seed: int, *, whole: bool = False, reflow: bool = False, uncertain: bool = True
    ) -> None:
        self.random = Random(seed)
        self.columns = self.random.choice([3, 8, 20, 40, 80])
        self.rows = self.random.choice([1, 2, 4, 6, 12])
        self.screen = Emulator(self.columns, self.rows, whole=whole, reflow=reflow)
        self.prompt = "lab> "
        self.echo = False
        self.progress = ""
        self.editor = Recorder(
            self.columns,
            self.rows,
            prompt=self.prompt,
            complete=self.complete,
            history=["older line", "the oldest of all lines " * 4],
            shift=self.random.random() < 0.8,
        )
        self.editor.printed = []
        self.texts = [*PLAIN, *CERTAIN] + (UNCERTAIN if uncertain else [])
        self.history: list[str] = []  # rows above the edit area
        self.shown = [""]  # rows of the edit area, blanks at the ends kept
        self.tokens: list[str] = []  # each chat line begins with one of its own
        self.said = 0
        self.scrolled = 0  # rows in the scrollback before the step
        self.now = 0.0
        self.bytes = 0

    def complete(self, text: str, cursor: int) -> list[str]:
        words = ["getdir ", "help ", "hello ", "Mel: ", "melba "]
        word = text[:cursor].replace("\n", " ").rpartition(" ")[2]
        return [known for known in words if known.casefold().startswith(word.casefold())]

    # -- steps --------------------------------------------------------------------------------

    def step(self) -> None:
        choice = self.random.random()
        self.now += 1.0
        resized = False
        if choice < 0.40:
            count = 1 if self.random.random() < 0.9 else 30
            self.type("".join(self.random.choices(self.texts, k=count)).encode())
        elif choice < 0.55:
            self.type(self.random.choice(MOVES))
        elif choice < 0.78:
            self.type(self.random.choice(KEYS))
        elif choice < 0.93:
            for _ in range(self.random.choice([1, 1, 1, 2, 7])):
                self.say()
        elif choice < 0.96:
            resized = True
            self.resize()
        elif choice < 0.98:
            self.progress = self.random.choice(["", "", "12 %", "getting 日本語 " * 9])
            self.editor.progress(self.progress)
        elif choice < 0.99:
            self.prompt = self.random.choice(["lab> ", "evloop> ", "日本> ", "", "a long room> "])
            self.echo = self.random.random() < 0.5
            self.editor.set_prompt(self.prompt, echo=self.echo)
        else:
            self.editor.hide()
            self.shown = []
            self.draw()
            self.check([], (0, 0))
            self.editor.show()
        self.draw()
        rows, cursor = self.expected()
        if resized:
            self.rebase(len(rows), cursor[0])
        self.check(rows, cursor)
        self.shown = rows

    def type(self, data: bytes) -> None:
        for event in self.editor.feed(data, self.now):
            if event[0] == "hint":
                self.editor.above(event[1], urgent=True)
        for event in self.editor.handle_timer(self.now + 0.5):
            raise AssertionError(event)

    def say(self) -> None:
        self.said += 1
        token = f"#{self.said}#"
        self.tokens.append(token)
        text = "".join(self.random.choices([*PLAIN, *CERTAIN[:-1]], k=self.random.randrange(120)))
        text = token + " " + text.replace("\u0301", "")
        if self.random.random() < 0.2:
            text += "\nsecond row"
        line: Styled = text
        if self.random.random() < 0.3:
            line = [("36", text[:3]), ("", text[3:])]  # a piece ends between clusters
        self.editor.above(line, self.random.choice([0, 2]))

    def resize(self) -> None:
        if self.random.random() < 0.8:
            self.columns = self.random.choice([2, 3, 8, 20, 39, 40, 41, 79, 80, 200])
        if self.random.random() < 0.5:
            self.rows = self.random.choice([1, 2, 3, 6, 12, 24])
        self.screen.resize(self.columns, self.rows)
        self.editor.resize(self.columns, self.rows)

    def draw(self) -> None:
        data = self.editor.take(self.now)
        self.bytes += len(data)
        self.screen.write(data)
        if data.startswith(b"\x1b[H\x1b[J"):
            # Ctrl-L: the rows that were visible are gone, those scrolled away are not.
            self.history = self.screen.scrollback[: self.scrolled]
            self.tokens.clear()
        for line, indent in self.editor.printed:
            text = line if isinstance(line, str) else "".join(piece for _, piece in line)
            if "".join(self.shown) == text and text.isascii() and self.shown:
                self.history += self.shown
            else:
                self.history += wrap(text, indent, self.columns, self.screen.whole)
            self.shown = []
        self.editor.printed.clear()
        self.scrolled = len(self.screen.scrollback)

    def rebase(self, count: int, row: int) -> None:
        """After a resize the terminal alone knows where rows went; but no chat line is lost."""
        top = self.screen.row - row
        self.history = self.screen.scrollback + self.screen.lines()[:top]
        everything = "".join(self.history)
        lost = [token for token in self.tokens[-5:] if token not in everything]
        if self.columns < 20:
            self.tokens.clear()  # cut by the terminal itself, if it does not reflow
        else:
            assert not lost, lost

    # -- what should be seen ------------------------------------------------------------------

    def expected(self) -> tuple[list[str], tuple[int, int]]:
        """The rows of the edit area and the cursor, laid out anew and naively."""
        room = max(1, self.columns - 1)
        prompt, line = self.prompt, self.editor.line
        if self.editor.search is not None:
            wanted, found, _ = self.editor.search
            prompt = f"({'no ' if found < 0 and wanted else ''}search) {display(wanted)}: "
        rows, at, cursor = [""], 0, (0, 0)
        clusters = [*split(prompt), *line.clusters]
        for index, cluster in enumerate([*clusters, ""]):
            shown, wide, certain = cell(cluster) if cluster else ("", 0, True)
            if wide > room:
                shown, wide, certain = "?", 1, True
            if at + wide > room:
                rows.append("")
                at = 0
            if index == len(clusters) - len(line.clusters) + line.cursor:
                cursor = (len(rows) - 1, at)
            gap = 0 if certain else wide - self.drawn(shown)
            rows[-1] += shown + " " * gap
            at += wide
        most = max(1, self.rows - 1 if self.progress else self.rows)
        if len(rows) > most:
            first = min(max(0, cursor[0] - most // 2), len(rows) - most)
            rows = rows[first : first + most]
            cursor = (cursor[0] - first, cursor[1])
        if self.progress and self.rows > 1:
            shown = ""
            for char in self.progress:
                if sum(map(columns_of, shown + char)) > room:
                    break
                shown += char
            rows.insert(0, shown)
            cursor = (cursor[0] + 1, cursor[1])
        return rows, cursor

    def drawn(self, shown: str) -> int:
        """Columns that this kind of terminal gives a cluster whose width nobody agrees on."""
        return columns_of(shown[0]) if self.screen.whole else sum(map(columns_of, shown))

    def check(self, rows: list[str], cursor: tuple[int, int]) -> None:
        screen = self.screen
        total = [row.rstrip(" ") for row in self.history + (rows or [""])]
        while len(total) > len(self.history) + cursor[0] + 1 and not total[-1]:
            total.pop()
        seen = screen.used()
        assert len(screen.scrollback) + len(seen) == len(total), (seen, total[-12:])
        seen = screen.scrollback[-3:] + seen
        assert seen == total[-len(seen) :], (seen, total[-len(seen) :])
        where = (screen.row + len(screen.scrollback) - len(self.history), screen.column)
        assert where == cursor, (where, cursor, seen)


def wrap(text: str, indent: int, columns: int, whole: bool) -> list[str]:
    """How a terminal wraps a chat line by itself; a row that looks like a line is set in."""
    rows: list[str] = []
    for index, part in enumerate(text.split("\n")):
        rows.append("")
        at = 0
        last = ""
        part = (" " * indent if index else "") + display(part)
        for position, char in enumerate(part):
            wide = columns_of(char)
            if at and (wide == 0 or (whole and last != " " and joins(last, char))):
                rows[-1] += char
                last += char
                continue
            if at + max(1, wide) > columns:
                looks = LOOKS_LIKE_A_LINE.match(part[position : position + 64])
                at = (indent or 4) if looks and columns >= 20 and indent >= 0 else 0
                rows.append(" " * at)
            rows[-1] += char
            last = char
            at += max(1, wide)
    return rows


def run(seed: int, steps: int, **kind: bool) -> Run:
    """`steps` steps in runs of at most 500, each from a seed of its own; raises on a difference."""
    total = None
    for start in range(0, steps, 500):
        this = Run(seed * 1_000_003 + start, **kind)
        for number in range(min(500, steps - start)):
            try:
                this.step()
            except Exception as error:
                where = f"seed {seed} {kind}, step {start + number}"
                raise AssertionError(where) from error
        total = this
    assert total is not None
    return total


KINDS = [{"whole": whole, "reflow": reflow} for whole in (False, True) for reflow in (False, True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    began = time.process_time()
    done, seed = 0, options.seed
    while done < options.steps:
        steps = min(5_000, options.steps - done)
        run(seed, steps, **KINDS[seed % len(KINDS)])
        done += steps
        seed += 1
        print(f"\r{done} steps, next seed {seed}", end="", file=sys.stderr, flush=True)
    print(f"\n{done} steps agree, {time.process_time() - began:.1f} s CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
