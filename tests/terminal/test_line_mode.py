"""Lines out of bytes, without a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evloop.system.limits import LINE_BYTES_MAX
from evloop.system.loop import Loop
from evloop.system.stdin import LineReader
from evloop.terminal.line_mode import LineMode

ESCAPE = b"\x1d"


def texts(pairs: list[tuple[str, str]]) -> list[str]:
    return [text for kind, text in pairs if kind == "line"]


@given(
    st.lists(st.text(alphabet=st.characters(exclude_characters="\n\r", codec="utf-8"))), st.data()
)
def test_any_cut_gives_the_same_lines(lines: list[str], data: st.DataObject) -> None:
    stream = "".join(line + "\n" for line in lines).encode()
    reader = LineReader()
    got: list[str] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += texts(reader.feed(stream[:size]))
        stream = stream[size:]
    assert got + texts(reader.finish()) == lines


@given(st.lists(st.binary(max_size=30)))
def test_any_bytes_are_lines_or_refused(pieces: list[bytes]) -> None:
    reader = LineReader(ESCAPE)
    for piece in pieces:
        for kind, text in reader.feed(piece):
            assert kind in ("line", "bad", "escape") and "\n" not in text
    reader.finish()


def test_a_last_line_needs_no_end() -> None:
    reader = LineReader()
    assert reader.feed(b"one\r\ntwo") == [("line", "one")]
    assert reader.finish() == [("line", "two")]
    assert reader.finish() == []


def test_what_is_not_utf8_says_where() -> None:
    assert LineReader().feed(b"ok\nab\xffc\n")[1] == (
        "bad",
        "line 2 is not UTF-8: byte ff at 3",
    )


def test_a_line_without_end_is_refused_and_not_held() -> None:
    reader = LineReader()
    got = []
    for _ in range(40):
        got += reader.feed(b"x" * 10_000)
        assert len(reader.partial) <= LINE_BYTES_MAX
    assert got == [("bad", f"line 1 is longer than {LINE_BYTES_MAX} bytes")]
    assert reader.feed(b"rest\nnext\n") == [("line", "next")]


def test_the_escape_key_acts_from_anywhere_in_a_line() -> None:
    reader = LineReader(ESCAPE)
    assert reader.feed(b"half a li" + ESCAPE) == [("escape", "")]
    assert reader.feed(b"one\nhalf" + ESCAPE + b"two\n") == [
        ("line", "one"),
        ("escape", ""),
        ("line", "two"),
    ]


def test_without_an_escape_key_its_byte_is_text() -> None:
    assert LineReader().feed(b"a\x1db\n") == [("line", "a\x1db")]


class Owner:
    """Fails at the line "two"."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def line(self, text: str) -> None:
        if text == "two":
            raise ZeroDivisionError("planted")
        self.told.append(text)

    def passes(self, text: str) -> bool:
        return text == "urgent"

    def suspending(self) -> str:
        return ""

    def bad_line(self, why: str) -> None:
        self.told.append("bad")

    def leave(self) -> None:
        self.told.append("escape")

    def interrupt(self) -> None:
        self.told.append("interrupt")

    def eof(self) -> None:
        self.told.append("eof")


def test_a_bug_at_one_line_loses_no_other() -> None:
    loop = Loop()
    faults: list[Exception] = []
    loop.on_error = lambda origin, error: faults.append(error)
    mode = LineMode(loop, ESCAPE, lambda why: None)
    mode.owner = owner = Owner()
    mode.on_data(b"one\ntwo\nthree\n")
    mode.on_data(b"")
    mode.close()
    loop.close()
    assert owner.told == ["one", "three", "eof"]
    assert len(faults) == 1


def test_what_is_urgent_passes_a_command_that_takes_long_but_not_in_a_script() -> None:
    loop = Loop()
    mode = LineMode(loop, ESCAPE, lambda why: None)
    mode.owner = owner = Owner()
    mode.hold(True)
    mode.on_data(b"next\nurgent\n")
    assert owner.told == []
    mode.is_terminal = True
    mode.hand_out()
    assert owner.told == ["urgent"]
    mode.hold(False)
    mode.hand_out()
    assert owner.told == ["urgent", "next"]
    mode.close()
    loop.close()
