"""Lines of IRC: bytes to words and back."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evloop.irc.codec import (
    LineDecoder,
    NotUtf8,
    TooLong,
    is_nick,
    nick_of,
    pack,
    parse,
    pieces,
    utc_ms,
    utc_text,
    without_formats,
)
from evloop.irc.limits import IRC_LINE_BYTES_MAX, TAGS_BYTES_MAX


def lines_of(decoder: LineDecoder, most: int = 64) -> list[bytes]:
    found = []
    while lines := decoder.next_frames(most):
        found += lines
    return found


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 30)), st.integers(1, 5))
def test_however_the_bytes_are_cut(parts: list[bytes], cuts: list[int], most: int) -> None:
    lines = [part.replace(b"\n", b"").replace(b"\r", b"") for part in parts]
    data = b"".join([line + b"\r\n" for line in lines])
    decoder, found = LineDecoder(), []
    for cut in [*cuts, len(data)]:
        decoder.feed(data[:cut])
        data = data[cut:]
        found += lines_of(decoder, most)
    assert found == lines and decoder.rest == b""


def test_a_line_without_an_end_is_held_up_to_its_cap() -> None:
    decoder = LineDecoder()
    for _ in range(100):
        decoder.feed(b"x" * 1_000)
        assert lines_of(decoder) == [] and len(decoder) <= IRC_LINE_BYTES_MAX + TAGS_BYTES_MAX + 3
    decoder.feed(b"yyy\r\nPING a\n")
    long, ping = lines_of(decoder)
    assert ping == b"PING a"
    with pytest.raises(TooLong):
        parse(long)


@pytest.mark.parametrize(
    "data, command, words",
    [
        (b"PING a", "PING", ["a"]),
        (b"privmsg #lab :hello there: you", "PRIVMSG", ["#lab", "hello there: you"]),
        (b":someone!else@where PRIVMSG #lab  x  :", "PRIVMSG", ["#lab", "x", ""]),
        (b"JOIN :#lab", "JOIN", ["#lab"]),
        (b"  PING   a ", "PING", ["a"]),
        (b"@a=b;c PING x", "PING", ["x"]),
    ],
)
def test_parsing(data: bytes, command: str, words: list[str]) -> None:
    line = parse(data)
    assert line is not None and (line.command, line.words) == (command, words)


@given(st.binary(max_size=600))
def test_any_bytes_are_parsed_or_told(data: bytes) -> None:
    try:
        line = parse(data)
    except (TooLong, NotUtf8):
        return
    assert line is None or line.command


def test_tags_are_unescaped() -> None:
    line = parse(rb"@a=x\:y\sz\\;b=\q\ PING".replace(b" PING", b"") + b" PING x")
    assert line is not None and line.tags == {"a": "x;y z\\", "b": "q"}


@settings(max_examples=50)
@given(st.text(max_size=250), st.integers(4, 80))
@example("wörd " * 200, 60)
def test_pieces_lose_only_blanks(text: str, most: int) -> None:
    text = text.encode(errors="replace").decode()
    found = pieces(text, most)
    assert all(len(piece.encode()) <= most for piece in found)
    assert "".join(found).replace(" ", "") == text.replace(" ", "")


@settings(max_examples=50)
@given(st.text(max_size=250), st.dictionaries(st.sampled_from(["time", "msgid"]), st.text()))
@example("ä" * 600, {"time": "now"})
def test_a_packed_line_is_one_line(text: str, tags: dict[str, str]) -> None:
    from evloop.base.names import display

    data = pack(tags, "a!b@c", ["PRIVMSG", "#lab"], display(text))
    assert data.endswith(b"\r\n")
    line = data.rpartition(b":")[0] and data
    if tags:
        assert line.startswith(b"@")
    body = line.partition(b" ")[2] if tags else line
    assert len(body) <= 512


@given(st.text(max_size=40), st.binary(min_size=8, max_size=8))
def test_every_nick_is_one(name: str, sender: bytes) -> None:
    nick = nick_of(name, sender)
    assert nick and is_nick(nick) and not set(nick) & set(" ,*?!@:\r\n\0")
    assert nick[0] not in "#&$+%~"


def test_formats_are_taken_out() -> None:
    said = "\x02b\x02 \x1di\x1d \x0304,05c\x03 \x03,x \x0312345 \x04ff00aa,00ff00h"
    assert without_formats(said) == "b i c ,x 345 h"
    assert without_formats("\x04xyz \x03") == "xyz "


@given(st.integers(0, 4_102_444_800_000))
def test_times(ms: int) -> None:
    text = utc_text(ms)
    moment = datetime.fromtimestamp(ms // 1_000, timezone.utc)
    assert text == f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1_000:03}Z"
    assert utc_ms(text) == ms
