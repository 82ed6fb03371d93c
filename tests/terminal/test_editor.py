"""The key map, row by row, and what the caller sees of the editor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.system.limits import HISTORY_LINES_MAX
from evloop.terminal.editor import INTERRUPT_HINT, Editor
from evloop.terminal.graphemes import split
from evloop.terminal.limits import (
    CANDIDATES_SHOWN_MAX,
    INTERRUPT_TWICE_S,
    LINE_CHARACTERS_MAX,
    SEQUENCE_SILENCE_S,
    UNDO_STEPS_MAX,
)
from tests.support.screen import Emulator

LEFT, RIGHT, UP, DOWN = b"\x1b[D", b"\x1b[C", b"\x1b[A", b"\x1b[B"
FAMILY = "👩\u200d👩\u200d👧"
CLUSTERS = ["e\u0301", "日", FAMILY, "👍\U0001f3fd", "🇳🇱", "❤\ufe0f", "한", "n\u0303\u0323"]


class Typist:
    """An editor with a screen to look at."""

    def __init__(self, **options: object) -> None:
        self.editor = Editor(80, 24, prompt="lab> ", **options)  # type: ignore[arg-type]
        self.screen = Emulator(80, 24)
        self.now = 100.0
        self.draw()

    def type(self, data: bytes | str) -> list[tuple[str, ...]]:
        if isinstance(data, str):
            data = data.encode()
        events = list(self.editor.feed(data, self.now))
        self.draw()
        return events

    def draw(self) -> bytes:
        self.now += 1.0
        data = self.editor.take(self.now)
        self.screen.write(data)
        return data

    @property
    def state(self) -> str:
        """The line with | for the cursor."""
        text, cursor = self.editor.text, self.editor.cursor
        return text[:cursor] + "|" + text[cursor:]


ROWS: list[tuple[str, bytes, str]] = [
    # (before, keys, after): the line with | where the cursor stands
    ("a|c", b"b", "ab|c"),
    ("e|", "\u0301".encode(), "e\u0301|"),
    ("|", "👍".encode(), "👍|"),
    ("ab|", b"\x1b\r", "ab\n|"),
    ("ab|", b"\x7f", "a|"),
    ("a|b", b"\x08", "|b"),
    ("|ab", b"\x7f", "|ab"),
    ("|ab", b"\x1b[3~", "|b"),
    ("ab|", b"\x1b[3~", "ab|"),
    ("a|b", b"\x04", "a|"),
    ("ab|", LEFT, "a|b"),
    ("ab|", b"\x02", "a|b"),
    ("|ab", LEFT, "|ab"),
    ("|ab", RIGHT, "a|b"),
    ("|ab", b"\x06", "a|b"),
    ("ab|", RIGHT, "ab|"),
    ("a|b", b"\x1b[H", "|ab"),
    ("a|b", b"\x01", "|ab"),
    ("a|b", b"\x1b[F", "ab|"),
    ("a|b", b"\x05", "ab|"),
    ("one two, three|", b"\x1b[1;5D", "one two, |three"),
    ("one two, |three", b"\x1b[1;3D", "one |two, three"),
    ("one |two", b"\x1bb", "|one two"),
    ("|one two", b"\x1b[1;5C", "one| two"),
    ("one| two", b"\x1b[1;3C", "one two|"),
    ("|one two", b"\x1bf", "one| two"),
    ("one| two", b"\x0b", "one|"),
    ("one| two", b"\x15", "| two"),
    ("a b/c d|", b"\x17", "a b/c |"),
    ("a b/c| d", b"\x17", "a | d"),
    ("a b/c|", b"\x1b\x7f", "a b/|"),
    ("one |two three", b"\x1bd", "one | three"),
    ("one two|", b"\x17\x01\x19", "two|one "),
    ("ab|", b"\x14", "ba|"),
    ("a|b", b"\x14", "ba|"),
    ("|ab", b"\x14", "|ab"),
    ("ab|", b"\x7f\x1f", "ab|"),
    ("one two|", b"\x1b", "one two|"),
    ("one two|", b"\x1b[15~\x1bOP\x1b]0;t\x07\x1bPx\x1b\\", "one two|"),
    ("one two|", b"\x16\x0f\x11\x00\x1e", "one two|"),  # keys that are bound to nothing
]


@pytest.mark.parametrize(("before", "keys", "after"), ROWS)
def test_the_key_map(before: str, keys: bytes, after: str) -> None:
    typist = Typist()
    left, _, right = before.partition("|")
    typist.type(left + right)
    typist.type(LEFT * len(right))
    assert typist.state == before
    assert typist.type(keys) == []
    assert typist.state == after
    line = typist.screen.used()[0]
    assert line == ("lab> " + typist.editor.text.replace("\n", "⏎")).rstrip()


@pytest.mark.parametrize("key", [b"\r", b"\n"])
def test_enter_submits_and_empties_the_line(key: bytes) -> None:
    typist = Typist()
    assert typist.type(b"hello" + LEFT + key) == [("line", "hello")]
    assert typist.state == "|"
    assert typist.screen.used() == ["lab>"]
    assert typist.type(key) == [("line", "")]


def test_a_line_break_is_sent_inside_and_dropped_at_the_end() -> None:
    assert Typist().type(b"a\x1b\rb\x1b\r\x1b\n\r") == [("line", "a\nb")]


def test_a_paste_becomes_one_line_with_return_signs() -> None:
    typist = Typist()
    pasted = "".join(f"line {number}\r" for number in range(50)).encode()
    assert typist.type(b"\x1b[200~" + pasted + b"\x1b[201~") == []
    assert typist.screen.used()[0].startswith("lab> line 0⏎line 1⏎")
    assert typist.type(b"\r") == []  # the guard: this may have been part of the paste
    assert list(typist.editor.handle_timer(typist.now + 1.0)) == []
    [(kind, text)] = typist.type(b"\r")
    assert kind == "line"
    assert text.split("\n") == [f"line {number}" for number in range(50)]


def test_ctrl_d_on_an_empty_line_leaves() -> None:
    assert Typist().type(b"\x04") == [("eof",)]
    assert Typist().type(b"x\x7f\x04") == [("eof",)]


def test_ctrl_z_and_ctrl_backslash_are_told() -> None:
    assert Typist().type(b"abc\x1a") == [("suspend",)]
    assert Typist().type(b"abc\x1c") == [("abort",)]


@pytest.mark.parametrize("begun", ["", "half a line", "\x1b", "\x1b[1;", "\x1b]0;x", "\x12sea"])
def test_the_escape_key_leaves_at_once_from_anywhere(begun: str) -> None:
    typist = Typist(history=["searched"])
    typist.type(begun)
    assert typist.type(b"\x1d") == [("leave",)]
    typist = Typist(escape=0x18)
    typist.type("half\x1b[D")
    assert typist.type(b"\x18") == [("leave",)]


def test_ctrl_c_clears_then_hints_then_leaves() -> None:
    typist = Typist()
    typist.type("half a line")
    assert typist.type(b"\x03") == []
    assert typist.state == "|"
    assert list(typist.editor.feed(b"\x03", 200.0)) == [("hint", INTERRUPT_HINT)]
    assert list(typist.editor.feed(b"\x03", 200.0 + INTERRUPT_TWICE_S)) == [("interrupt",)]
    assert typist.type(b"\x19") == []
    assert typist.state == "half a line|"


def test_two_ctrl_c_far_apart_are_two_hints() -> None:
    editor = Editor(80, 24)
    assert list(editor.feed(b"\x03", 200.0)) == [("hint", INTERRUPT_HINT)]
    assert list(editor.feed(b"\x03", 201.0 + INTERRUPT_TWICE_S)) == [("hint", INTERRUPT_HINT)]


def test_a_lone_esc_does_nothing_and_joins_nothing_that_comes_later() -> None:
    typist = Typist()
    assert typist.type(b"ab\x1b") == []
    assert typist.editor.next_deadline() == pytest.approx(typist.now - 1.0 + SEQUENCE_SILENCE_S)
    assert list(typist.editor.handle_timer(typist.now)) == []
    typist.type(b"b")
    assert typist.state == "abb|"


def test_ctrl_l_clears_the_screen_and_draws_the_line_anew() -> None:
    typist = Typist()
    typist.editor.above("12:01 bob: hi")
    typist.draw()
    typist.type(b"half\x0c")
    assert typist.screen.used() == ["lab> half"]
    assert (typist.screen.row, typist.screen.column) == (0, 9)


def test_keys_behind_an_event_wait_until_the_next_is_asked_for() -> None:
    editor = Editor(80, 24, prompt="evloop> ", echo=True)
    events = editor.feed(b"chat lab\rhello\r", 0.0)
    assert next(events) == ("line", "chat lab")
    assert editor.text == ""
    editor.set_prompt("lab> ", echo=False)
    assert next(events) == ("line", "hello")
    assert list(events) == []


def test_what_was_not_acted_on_comes_first_the_next_time() -> None:
    editor = Editor(80, 24)
    for _ in editor.feed(b"one\rtwo\r", 0.0):
        break
    assert list(editor.feed(b"three\r", 0.0)) == [("line", "two"), ("line", "three")]


# -- history and search -----------------------------------------------------------------------


def test_history_goes_back_and_forth_and_keeps_the_half_typed_line() -> None:
    typist = Typist(history=["first"])
    typist.type("second\rsecond\r   \rhalf")
    assert typist.editor.history == ["first", "second"]
    for key, shown in [
        (UP, "second|"),
        (b"\x10", "first|"),
        (UP, "first|"),
        (DOWN, "second|"),
        (b"\x0e", "half|"),
        (DOWN, "half|"),
    ]:
        typist.type(key)
        assert typist.state == shown
    assert typist.screen.bells == 2  # at both ends


def test_a_recalled_line_can_be_changed_and_undone() -> None:
    typist = Typist(history=["first"])
    typist.type(b"half" + UP + b"!\x1f")
    assert typist.state == "first|"
    typist.type(b"\x1f")
    assert typist.state == "half|"


def test_history_is_bounded() -> None:
    typist = Typist(history=[str(number) for number in range(2 * HISTORY_LINES_MAX)])
    typist.type("newest\r")
    assert len(typist.editor.history) == HISTORY_LINES_MAX
    assert typist.editor.history[-2:] == [str(2 * HISTORY_LINES_MAX - 1), "newest"]


def test_search_finds_older_and_older_lines() -> None:
    typist = Typist(history=["the kettle", "tea", "The Kettle is on", "bye"])
    typist.type(b"half\x12kettle")
    assert typist.screen.used() == ["(search) kettle: The Kettle is on"]
    typist.type(b"\x12")
    assert typist.screen.used() == ["(search) kettle: the kettle"]
    typist.type(b"\x12")
    assert typist.screen.bells == 1
    assert typist.type(b"\r") == [("line", "the kettle")]
    assert typist.screen.used() == ["lab>"]


@pytest.mark.parametrize(
    ("key", "state"),
    [(b"\x03", "half|"), (b"\x07", "half|"), (b"\x01", "|tea"), (LEFT, "te|a"), (b"\x1b", "tea|")],
)
def test_ways_out_of_the_search(key: bytes, state: str) -> None:
    typist = Typist(history=["tea", "bye"])
    typist.type(b"half\x12te")
    assert typist.type(key) == []
    typist.now += 1.0
    assert list(typist.editor.handle_timer(typist.now)) == []
    assert typist.state == state
    typist.draw()
    assert typist.screen.used() == ["lab> " + state.replace("|", "")]


def test_a_search_that_finds_nothing_says_so_and_can_be_shortened() -> None:
    typist = Typist(history=["tea"])
    typist.type(b"\x12te")
    typist.type(b"x")
    assert typist.screen.used() == ["(no search) tex: tea"]
    typist.type(b"\x7f")
    assert typist.screen.used() == ["(search) te: tea"]


# -- completion -----------------------------------------------------------------------------------


def complete(text: str, cursor: int) -> list[str]:
    word = text[:cursor].rpartition(" ")[2].casefold()
    words = ["getdir ", "kitchen ", "Kitchen-2 ", "Mel: ", "Melanie: "]
    return [known for known in words if known.casefold().startswith(word)]


@pytest.mark.parametrize(
    ("typed", "after", "listed", "bells"),
    [
        (b"g\t", "getdir |", [], 0),
        (b"chat k\t", "chat kitchen|", [], 0),
        (b"chat kitchen\t", "chat kitchen|", ["kitchen  Kitchen-2"], 0),
        (b"mela\t", "Melanie: |", [], 0),
        (b"me\t", "Mel|", [], 0),
        (b"xyz\t", "xyz|", [], 1),
        (b"go" + LEFT + b"\t", "getdir |o", [], 0),
    ],
)
def test_tab_completes_then_lists_or_rings(
    typed: bytes, after: str, listed: list[str], bells: int
) -> None:
    typist = Typist(complete=complete)
    typist.type(typed)
    assert typist.state == after
    assert [" ".join(row.split()) for row in typist.screen.used()[:-1]] == [
        " ".join(row.split()) for row in listed
    ]
    assert typist.screen.bells == bells


def test_a_long_list_of_candidates_is_cut() -> None:
    words = [f"room{number:04} " for number in range(CANDIDATES_SHOWN_MAX + 23)]
    typist = Typist(complete=lambda text, cursor: words)
    typist.type(b"room\t\t")
    shown = "\n".join(typist.screen.used())
    assert "room0099" in shown
    assert "room0100" not in shown
    assert "and 23 more" in shown


def test_hostile_names_are_listed_safely() -> None:
    typist = Typist(complete=lambda text, cursor: ["a\x1b[2J", "b\u202e"])
    typist.type(b"\t")
    assert typist.screen.used()[0].split() == ["a^[[2J", "b\ufffd"]


# -- clusters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_no_key_splits_a_cluster(cluster: str) -> None:
    typist = Typist()
    typist.type("a" + cluster + "b")
    typist.type(LEFT + LEFT)
    assert typist.state == f"a|{cluster}b"
    typist.type(RIGHT)
    assert typist.state == f"a{cluster}|b"
    typist.type(b"\x14")
    assert typist.state == f"ab{cluster}|"
    typist.type(b"\x7f")
    assert typist.state == "ab|"
    typist.type(b"\x1f" + LEFT + b"\x04")
    assert typist.state == "ab|"


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_cluster_typed_piece_by_piece_is_one(cluster: str) -> None:
    typist = Typist()
    for char in cluster:
        typist.type(char)
    typist.type(LEFT)
    assert typist.state == "|" + cluster


# -- the rest of the line --------------------------------------------------------------------


def test_kills_in_a_row_are_yanked_together() -> None:
    typist = Typist()
    typist.type(b"one two three\x17\x17\x19")
    assert typist.state == "one two three|"
    typist.type(b"\x17" + LEFT + b"\x17\x19")
    assert typist.state == "one two| "


def test_undo_takes_words_back_and_is_bounded() -> None:
    typist = Typist()
    for char in "one two\x1f":
        typist.type(char)
    assert typist.state == "one|"
    typist.type(b"\x1f")
    assert typist.state == "|"
    typist.type(b"x\x7f" * UNDO_STEPS_MAX + b"\x1f" * (2 * UNDO_STEPS_MAX))
    assert typist.editor.text in ("", "x")
    assert typist.screen.bells > 0


def test_a_line_has_an_end() -> None:
    typist = Typist()
    typist.type(b"\x1b[200~" + b"x" * LINE_CHARACTERS_MAX + b"\x1b[201~")
    assert len(typist.editor.text) == LINE_CHARACTERS_MAX
    typist.editor.handle_timer(typist.now + 1.0)
    bells = typist.screen.bells
    typist.type(b"y")
    assert len(typist.editor.text) == LINE_CHARACTERS_MAX
    assert typist.screen.bells == bells + 1


def test_a_failed_send_puts_the_text_back() -> None:
    typist = Typist()
    typist.type("precious\r")
    assert typist.editor.restore("precious")
    assert typist.state == "precious|"
    typist.type(b"\x15half")
    assert not typist.editor.restore("precious")
    assert typist.state == "half|"
    typist.type(b"\x01\x19")
    assert typist.state == "precious|half"


def test_discard_empties_the_line() -> None:
    typist = Typist()
    typist.type("half")
    typist.editor.discard()
    typist.draw()
    assert typist.screen.used() == ["lab>"]


# -- what is above ---------------------------------------------------------------------------


def test_chat_lines_go_above_what_is_typed() -> None:
    typist = Typist()
    typist.type("yes, since noo")
    typist.editor.above([("", "12:01 "), ("36", "bob"), ("", ": one\ntwo")], 11)
    typist.draw()
    assert typist.screen.used() == [
        "12:01 bob: one",
        "           two",
        "lab> yes, since noo",
    ]
    assert typist.screen.grid[0].styles[6:9] == ["36"] * 3
    assert typist.screen.grid[0].styles[10] == ""
    assert (typist.screen.row, typist.screen.column) == (2, 19)


def test_a_submitted_command_stays_when_echoed_and_costs_a_byte() -> None:
    typist = Typist(echo=True)
    typist.type("getdir")
    assert list(typist.editor.feed(b"\r", typist.now)) == [("line", "getdir")]
    typist.editor.above("no rooms", urgent=True)
    assert typist.draw() == b"\nno rooms\nlab> "
    assert typist.screen.used() == ["lab> getdir", "no rooms", "lab>"]


def test_urgent_lines_overtake_no_chat_line() -> None:
    typist = Typist()
    typist.editor.above("first")
    typist.draw()
    typist.now -= 1.0  # no time has passed: the next chat line must wait
    typist.editor.above("second")
    assert typist.editor.take(typist.now) == b""
    typist.editor.above("answer", urgent=True)
    typist.draw()
    assert typist.screen.used() == ["first", "second", "answer", "lab>"]


@pytest.mark.parametrize(
    "change",
    [
        lambda editor: editor.set_prompt("hall> ", echo=False),
        lambda editor: editor.progress("half of it"),
        lambda editor: editor.restore("unsent"),
        lambda editor: editor.discard(),
        lambda editor: editor.resize(5, 24),
        lambda editor: editor.hide(),
        lambda editor: editor.show(),
        lambda editor: editor.bell(),
        lambda editor: editor.above("a line"),
        lambda editor: editor.above("an answer", urgent=True),
        lambda editor: list(editor.feed(b"x", 200.0)),
    ],
)
def test_what_changes_the_picture_touches_the_editor(change: Callable[[Editor], object]) -> None:
    typist = Typist()
    if change.__code__.co_names[0] == "discard":
        typist.type("typed")
    assert not typist.editor.touched
    assert typist.draw() == b""
    change(typist.editor)
    assert typist.editor.touched
    assert typist.draw() != b""
    assert not typist.editor.touched


def test_on_a_slow_terminal_they_do_overtake() -> None:
    typist = Typist(slow=True)
    for number in range(100):
        typist.editor.above(f"line {number}")
    typist.draw()
    typist.editor.above("answer", urgent=True)
    data = typist.draw()
    assert b"answer" in data
    assert b"line" not in data


def test_what_waits_is_printed_before_the_prompt_goes() -> None:
    typist = Typist()
    typist.editor.above("first")
    typist.draw()
    typist.now -= 1.0
    typist.editor.above("second")
    typist.editor.hide()
    typist.screen.write(typist.editor.take(typist.now))
    assert typist.screen.used() == ["first", "second", ""]


def test_the_progress_line_is_replaced_and_goes() -> None:
    typist = Typist()
    typist.type("half")
    for percent in (10, 20):
        typist.editor.progress(f"history: {percent} %")
        typist.draw()
        assert typist.screen.used() == [f"history: {percent} %", "lab> half"]
    typist.editor.above("12:01 bob: hi")
    typist.draw()
    assert typist.screen.used() == ["12:01 bob: hi", "history: 20 %", "lab> half"]
    typist.editor.progress("")
    typist.draw()
    assert typist.screen.used() == ["12:01 bob: hi", "lab> half"]


def test_hidden_there_is_no_prompt_and_shown_there_is() -> None:
    typist = Typist()
    typist.type("half")
    typist.editor.hide()
    typist.editor.above("printed")
    typist.draw()
    assert typist.screen.used() == ["printed", ""]
    assert typist.screen.column == 0
    typist.editor.show()
    typist.draw()
    assert typist.screen.used() == ["printed", "lab> half"]


def test_after_others_wrote_the_line_is_drawn_anew_where_the_cursor_is() -> None:
    typist = Typist()
    typist.type("half" + "\x1b[1;5")
    typist.screen.write(b"\n[1]+ Stopped\nsh> fg\n")
    typist.editor.show()
    typist.draw()
    assert typist.screen.used() == ["lab> half", "[1]+ Stopped", "sh> fg", "lab> half"]
    typist.type("D")
    assert typist.state == "halfD|"


def test_nothing_changed_nothing_drawn() -> None:
    typist = Typist()
    typist.type("half")
    assert typist.draw() == b""


@pytest.mark.parametrize(("charset", "shown"), [("ascii", "lab> Zo? ?^Jx"), ("latin-1", "Zoë ?")])
def test_a_terminal_without_utf_8_gets_none(charset: str, shown: str) -> None:
    editor = Editor(80, 24, prompt="lab> ", charset=charset)
    typed = "Zoë 日\x1b\rx".encode("latin-1" if charset == "latin-1" else "utf-8", "ignore")
    if charset == "latin-1":
        typed = "Zoë ".encode("latin-1")
        editor.restore("Zoë 日")
        assert editor.take(0.0).decode("latin-1") == "lab> " + shown
    else:
        list(editor.feed(typed, 0.0))
        assert editor.take(0.0) == shown.encode()
        assert editor.text == "Zoë 日\nx"  # what is sent is whole


# -- against a plain string -------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[str, int], tuple[str, int]]] = {
    "a": lambda text, at: (text[:at] + "a" + text[at:], at + 1),
    "日": lambda text, at: (text[:at] + "日" + text[at:], at + 1),
    "\x02": lambda text, at: (text, max(0, at - 1)),
    "\x06": lambda text, at: (text, min(len(text), at + 1)),
    "\x01": lambda text, at: (text, 0),
    "\x05": lambda text, at: (text, len(text)),
    "\x7f": lambda text, at: (text[: max(0, at - 1)] + text[at:], max(0, at - 1)),
    "\x1b[3~": lambda text, at: (text[:at] + text[at + 1 :], at),
    "\x0b": lambda text, at: (text[:at], at),
    "\x15": lambda text, at: (text[at:], 0),
}


@given(st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=60))
def test_the_editor_is_a_string_with_a_cursor(keys: list[str]) -> None:
    editor = Editor(20, 5)
    text, at = "", 0
    for key in keys:
        list(editor.feed(key.encode(), 0.0))
        text, at = OPERATIONS[key](text, at)
        assert (editor.text, editor.cursor) == (text, at)


KEYS = [*"ab \u0301日🇳", "\x7f", "\x17", "\x14", "\x02", "\x01", "\x04", "\x0b", "\x19"]


@given(st.lists(st.sampled_from(KEYS), max_size=UNDO_STEPS_MAX))
def test_undo_goes_back_through_states_that_were(keys: list[str]) -> None:
    editor = Editor(20, 5)
    states = [""]
    for key in keys:
        list(editor.feed(key.encode(), 0.0))
        states.append(editor.text)
        assert editor.line.clusters == split(editor.text)
    while editor.line.undo():
        while states[-1] != editor.text:
            states.pop()  # IndexError: it never was
        assert editor.line.clusters == split(editor.text)
    assert editor.text == ""


# -- what may be kept on disk ----------------------------------------------------------------------


def test_only_commands_are_for_the_history_file() -> None:
    chatting = False
    editor = Editor(80, 24, history=["old"], is_command=lambda text: not chatting)
    list(editor.feed(b"chat lab\r", 0.0))
    chatting = True
    list(editor.feed(b"a secret\ra secret\r", 0.0))
    chatting = False
    list(editor.feed(b"quit\r", 0.0))
    assert editor.history == ["old", "chat lab", "a secret", "quit"]
    assert editor.commands == ["old", "chat lab", "quit"]
    list(editor.feed(b"\x10\x10", 0.0))  # Ctrl-P: in memory it is there
    assert editor.text == "a secret"
