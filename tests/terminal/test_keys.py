"""Terminal bytes -> keys: every sequence, however cut, and nothing that a paste could smuggle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.system.timers import NEVER
from evloop.terminal.keys import KeyDecoder
from evloop.terminal.limits import (
    CSI_BYTES_MAX,
    PASTE_GUARD_S,
    PASTE_SILENCE_S,
    SEQUENCE_SILENCE_S,
)
from tests.support.pairs import pairwise

NAMED = {
    b"\r": "enter",
    b"\n": "enter",
    b"\t": "tab",
    b"\x00": "ctrl-@",
    b"\x01": "ctrl-a",
    b"\x1a": "ctrl-z",
    b"\x1c": "ctrl-\\",
    b"\x1d": "leave",
    b"\x1f": "ctrl-_",
    b"\x08": "backspace",
    b"\x7f": "backspace",
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[1;2C": "right",
    b"\x1bOD": "left",
    b"\x1b[H": "home",
    b"\x1bOH": "home",
    b"\x1b[1~": "home",
    b"\x1b[7~": "home",
    b"\x1b[F": "end",
    b"\x1b[4~": "end",
    b"\x1b[8~": "end",
    b"\x1b[3~": "delete",
    b"\x1b[1;5C": "ctrl-right",
    b"\x1b[1;5D": "ctrl-left",
    b"\x1b[1;3C": "alt-right",
    b"\x1b[1;3D": "alt-left",
    b"\x1b[1;7D": "ctrl-left",
    b"\x1bOc": "ctrl-right",
    b"\x1b[c": "right",
    b"\x1bOM": "enter",
    b"\x1bb": "alt-b",
    b"\x1bF": "alt-f",
    b"\x1bd": "alt-d",
    b"\x1b\x7f": "alt-backspace",
    b"\x1b\x08": "alt-backspace",
    b"\x1b\r": "alt-enter",
    b"\x1b\n": "alt-enter",
    b"\x1b\x1b[A": "up",
    b"\x1b[0n": "receipt",
    # What CSI u and modifyOtherKeys make of them, in case another program left that on.
    b"\x1b[93;5u": "leave",
    b"\x1b[27;5;93~": "leave",
    b"\x1b[99;5u": "ctrl-c",
    b"\x1b[13u": "enter",
    b"\x1b[27u": "escape",
    b"\x1b[98;3u": "alt-b",
    b"\x1b[13;3u": "alt-enter",
}
SWALLOWED = [
    b"\x1b[15~",  # F5
    b"\x1bOP",  # F1
    b"\x1b[[A",  # F1 on the Linux console
    b"\x1b[I",  # the window got the focus
    b"\x1b[?62;22c",  # who the terminal is
    b"\x1b[<0;3;4M",  # a mouse
    b"\x1b]11;rgb:0000/0000/0000\x07",
    b"\x1b]11;rgb:0000/0000/0000\x1b\\",
    b"\x1bP>|xterm(380)\x1b\\",
    b"\x1b_G1;OK\x1b\\",
    b"\x1bx",
    b"\x1b[200;2u",
    b"\x1b[;;u",
    b"\x1b[3;x",
    b"\x1b[" + b"1;" * CSI_BYTES_MAX + b"C",
    b"\x1b[201~",  # the end of a paste that never began
]


def names(data: bytes, escape: int) -> list[str]:
    return [name for name, _ in KeyDecoder(escape=escape).feed(data, 0.0)]


@pytest.mark.parametrize("data", NAMED)
def test_each_sequence_has_its_name_and_leaves_nothing_behind(data: bytes) -> None:
    decoder = KeyDecoder()
    assert decoder.feed(data, 0.0) == [(NAMED[data], "")]
    assert decoder.next_deadline() == NEVER
    assert decoder.feed(b"x", 0.0) == [("text", "x")]


@pytest.mark.parametrize("data", SWALLOWED)
def test_what_is_unknown_is_swallowed_whole(data: bytes) -> None:
    assert KeyDecoder().feed(data + b"x", 0.0) == [("text", "x")]


@pytest.mark.parametrize("data", [*NAMED, *SWALLOWED])
def test_a_sequence_may_arrive_byte_by_byte(data: bytes) -> None:
    decoder = KeyDecoder()
    keys = [key for i in range(len(data)) for key in decoder.feed(data[i : i + 1], 0.0)]
    assert keys == KeyDecoder().feed(data, 0.0)


def test_a_csi_without_end_costs_no_memory() -> None:
    decoder = KeyDecoder()
    decoder.feed(b"\x1b[", 0.0)
    for _ in range(100):
        assert decoder.feed(b"1;" * 4096, 0.0) == []
        assert len(decoder.held) <= CSI_BYTES_MAX
    assert decoder.feed(b"Cx", 0.0) == [("text", "x")]


def test_a_string_without_end_costs_no_memory_and_ends_in_silence() -> None:
    decoder = KeyDecoder()
    decoder.feed(b"\x1b]52;c;", 0.0)
    for _ in range(100):
        assert decoder.feed(b"A" * 4096, 0.0) == []
    assert not decoder.held
    assert decoder.handle_timer(SEQUENCE_SILENCE_S) == []
    assert decoder.feed(b"x", 1.0) == [("text", "x")]


@pytest.mark.parametrize(
    "begun",
    [b"", b"\x1b", b"\x1b[", b"\x1b[1;", b"\x1bO", b"\x1b[[", b"\x1b]0;ti", b"\x1bPq", b"\xe6\x97"],
)
def test_the_escape_key_acts_at_once_behind_anything_half_received(begun: bytes) -> None:
    decoder = KeyDecoder()
    decoder.feed(begun, 0.0)
    assert decoder.feed(b"\x1d", 0.0)[-1] == ("leave", "")
    assert decoder.feed(b"x", 0.0) == [("text", "x")]


def test_the_escape_key_can_be_another_and_even_esc() -> None:
    assert names(b"\x18", escape=0x18) == ["leave"]
    assert names(b"\x1d", escape=0x18) == ["ctrl-]"]
    assert names(b"\x1b", escape=0x1B) == ["leave"]


def test_a_lone_esc_is_told_by_silence() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b", 10.0) == []
    assert decoder.next_deadline() == 10.0 + SEQUENCE_SILENCE_S
    assert decoder.handle_timer(10.0 + SEQUENCE_SILENCE_S / 2) == []
    assert decoder.handle_timer(decoder.next_deadline()) == [("escape", "")]
    assert decoder.next_deadline() == NEVER
    assert decoder.feed(b"[A", 11.0) == [("text", "[A")]


def test_characters_may_be_cut_anywhere_and_junk_becomes_a_sign() -> None:
    decoder = KeyDecoder()
    assert decoder.feed("日".encode()[:2], 0.0) == []
    assert decoder.next_deadline() == SEQUENCE_SILENCE_S
    assert decoder.feed("日".encode()[2:], 0.1) == [("text", "日")]
    assert decoder.feed(b"\xff", 0.2) == [("text", "\ufffd")]
    assert decoder.feed(b"\xe6\r", 0.3) == [("text", "\ufffd"), ("enter", "")]
    decoder.feed(b"\xe6", 1.0)
    assert decoder.handle_timer(2.0) == [("text", "\ufffd")]


def test_latin_1() -> None:
    assert KeyDecoder(charset="latin-1").feed(b"Zo\xeb\x9b", 0.0) == [("text", "Zoë")]


# -- pastes ------------------------------------------------------------------------------------


def test_a_paste_is_text_with_its_controls_taken_out() -> None:
    keys = KeyDecoder().feed(
        b"\x1b[200~a\tb\x1b[31m\r\nc\rd\n\x07\x1d\x03\xc2\x9b31m\x1b[201~", 0.0
    )
    assert keys == [("paste", "a    b[31m\nc\nd\n31m")]


def test_a_line_break_of_two_bytes_may_be_cut_in_a_paste() -> None:
    decoder = KeyDecoder()
    keys = decoder.feed(b"\x1b[200~a\r", 0.0) + decoder.feed(b"\nb\r", 0.0)
    keys += decoder.feed(b"c\x1b[201~", 0.0)
    assert "".join(text for _, text in keys) == "a\nb\nc"


def test_what_is_glued_to_the_end_of_a_paste_can_not_act() -> None:
    decoder = KeyDecoder()
    # The attack: the text itself ends the paste and then types a command with Enter.
    keys = decoder.feed(b"\x1b[200~harmless\x1b[201~/quit\r\x1d\x04\x1b[A\x1b\r\trm\x1b[201~", 5.0)
    assert {name for name, _ in keys} == {"paste"}
    assert "".join(text for _, text in keys) == "harmless/quit\n    rm"
    assert decoder.next_deadline() == 5.0 + PASTE_GUARD_S


def test_only_silence_that_was_seen_ends_the_guard() -> None:
    decoder = KeyDecoder()
    decoder.feed(b"\x1b[200~x\x1b[201~", 0.0)
    # We were busy for a second; these bytes may have waited as long: still glued.
    assert decoder.feed(b"\r", 1.0) == [("paste", "\n")]
    assert decoder.handle_timer(1.0 + PASTE_GUARD_S / 2) == []
    assert decoder.feed(b"\r", 1.02) == [("paste", "\n")]
    assert decoder.handle_timer(1.02 + PASTE_GUARD_S) == []
    assert decoder.feed(b"\r", 1.02 + PASTE_GUARD_S) == [("enter", "")]


def test_the_guard_covers_a_sequence_that_straddles_its_end() -> None:
    decoder = KeyDecoder()
    decoder.feed(b"\x1b[200~x\x1b[201~\x1b", 0.0)
    assert decoder.handle_timer(PASTE_GUARD_S) == []  # not even as a lone Esc
    assert decoder.feed(b"[A", 1.0) == [("text", "[A")]


def test_a_second_paste_may_follow_at_once() -> None:
    keys = KeyDecoder().feed(b"\x1b[200~a\x1b[201~\x1b[200~b\x1b[201~", 0.0)
    assert keys == [("paste", "a"), ("paste", "b")]


def test_a_paste_whose_end_was_lost_can_be_left() -> None:
    decoder = KeyDecoder()
    decoder.feed(b"\x1b[200~never ends", 0.0)
    assert decoder.feed(b"\x1d", 0.5) == []  # part of the paste, as far as we know
    decoder.handle_timer(0.5 + PASTE_SILENCE_S)
    assert decoder.feed(b"\x1d", 3.0) == [("leave", "")]
    assert decoder.feed(b"x", 3.0) == [("text", "x")]


def test_a_paste_that_only_stalls_goes_on() -> None:
    decoder = KeyDecoder()
    decoder.feed(b"\x1b[200~one", 0.0)
    decoder.handle_timer(PASTE_SILENCE_S)
    assert decoder.feed(b"\rtwo\x1b[201~", 5.0) == [("paste", "\ntwo")]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_however_cut_the_bytes_mean_the_same(data: bytes, cuts: list[int]) -> None:
    whole = KeyDecoder().feed(data, 0.0)
    decoder = KeyDecoder()
    parts = []
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        parts += decoder.feed(data[start:end], 0.0)
    assert joined(parts) == joined(whole)


@given(st.binary(max_size=400))
def test_any_bytes_give_clean_text_and_bounded_memory(data: bytes) -> None:
    decoder = KeyDecoder()
    keys = decoder.feed(data, 0.0) + decoder.handle_timer(NEVER) + decoder.feed(data, 0.0)
    for name, text in keys:
        assert bool(text) == (name in ("text", "paste"))
        for char in text:
            assert char >= " " or (char == "\n" and name == "paste")
            assert not "\x7f" <= char < "\xa0"
    assert len(decoder.held) <= CSI_BYTES_MAX


@given(st.binary(max_size=60))
def test_after_silence_a_key_is_a_key_again(junk: bytes) -> None:
    decoder = KeyDecoder()
    decoder.feed(junk.replace(b"200~", b""), 0.0)
    decoder.handle_timer(NEVER)
    assert decoder.feed(b"\x1d", 1.0) == [("leave", "")]


def joined(keys: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Neighbouring pieces of text as one."""
    out: list[tuple[str, str]] = []
    for name, text in keys:
        if out and text and out[-1][0] == name:
            out[-1] = (name, out[-1][1] + text)
        else:
            out.append((name, text))
    return out


# -- a mouse that another program has left on ------------------------------------------------------


@pytest.mark.parametrize(
    "report",
    [b"\x1b[M !!", b"\x1b[M#\xc3\xa9", b"\x1b[M \x9b\xff", b"\x1b[t!!", b"\x1b[T" + b"!" * 6],
)
def test_a_report_of_the_mouse_types_nothing(report: bytes) -> None:
    whole = KeyDecoder()
    assert whole.feed(report + b"a" + report + b"b", 0.0) == [("text", "a"), ("text", "b")]
    cut = KeyDecoder()
    keys = [key for byte in report + b"ab" for key in cut.feed(bytes([byte]), 0.0)]
    assert keys == [("text", "a"), ("text", "b")]


def test_a_report_that_was_cut_holds_nothing_up() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b[M ", 0.0) == []
    assert decoder.feed(b"\x1d", 0.0) == [("leave", "")]
    decoder.feed(b"\x1b[M ", 1.0)
    assert decoder.handle_timer(decoder.next_deadline()) == []
    assert decoder.feed(b"abc", 2.0) == [("text", "abc")]
    assert decoder.feed(b"\x1b[1;2;3M" + b"x", 3.0) == [("text", "x")]  # urxvt's: all in parameters


def test_a_byte_order_mark_in_a_paste_is_no_text() -> None:
    keys = KeyDecoder().feed("\x1b[200~\ufeffabc\x1b[201~".encode(), 0.0)
    assert keys == [("paste", "abc")]
