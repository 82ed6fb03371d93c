"""The command table and its parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evloop.app import commands
from evloop.app.commands import UsageError, parse_line
from evloop.base.names import display


def test_every_command_of_the_mission_is_at_the_prompt() -> None:
    words = commands.words_at("prompt")
    mission = "connect bye name getdir makeroom deleteroom chat help quit"
    assert set(mission.split()) <= set(words)


def test_chat_commands_are_written_with_a_slash() -> None:
    assert set(commands.words_at("chat")) == {
        "/leave", "/who", "/name", "/me", "/history", "/show", "/save", "/ignore", "/stats",
        "/help", "/quit",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "word", "arguments", "options"),
    [
        ("getdir", "getdir", [], {}),
        ("  GETDIR  ", "getdir", [], {}),
        ("makeroom lab 239.255.7.1 5751", "makeroom", ["lab", "239.255.7.1", "5751"], {}),
        ("makeroom lab --mode plain", "makeroom", ["lab"], {"--mode": "plain"}),
        ("makeroom --mode=reliable lab", "makeroom", ["lab"], {"--mode": "reliable"}),
        ('makeroom "bad name"', "makeroom", ["bad name"], {}),
        ("makeroom 'bad name'", "makeroom", ["bad name"], {}),
        ("deleteroom ''", "deleteroom", [""], {}),
        ('makeroom a"b c"d', "makeroom", ["ab cd"], {}),
        ('deleteroom ""', "deleteroom", [""], {}),
        ("name O'Brien", "name", ["O'Brien"], {}),
    ],
)
def test_lines_of_the_prompt(
    line: str, word: str, arguments: list[str], options: dict[str, str]
) -> None:
    parsed = parse_line("prompt", line)
    assert parsed is not None
    command, got_arguments, got_options = parsed
    assert (command.word, got_arguments, got_options) == (word, arguments, options)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("makeroom", "too few arguments; usage: makeroom NAME"),
        ("makeroom a 239.1.1.1 5000 more", 'too many arguments from "more" on'),
        ("makeroom a --mode loud", '--mode takes reliable or plain, not "loud"'),
        ("makeroom a --mode", '--mode takes reliable or plain, not ""'),
        ("makeroom a --colour red", 'unknown option "--colour"'),
        ("getdri", "did you mean getdir?"),
        ("zzzzzzzz", "help lists the commands"),
        ('makeroom "a', 'a " is never closed'),
        ("makeroom 'a\" b", "a ' is never closed"),
        ("say x hello", "unknown command"),
        ("\x1b[2J", 'unknown command "^[[2J"'),
    ],
)
def test_a_bad_line_says_what_is_wrong(line: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_line("prompt", line)
    assert says in str(caught.value)


def test_an_empty_line_is_nothing() -> None:
    assert parse_line("prompt", "   ") is None


def test_me_takes_the_rest_of_the_line_as_it_is() -> None:
    parsed = parse_line("chat", 'me  waves  "hello --mode x')
    assert parsed is not None
    assert parsed[0].word == "me" and parsed[1] == ['waves  "hello --mode x']
    with pytest.raises(UsageError):
        parse_line("chat", "me")


def test_an_unknown_chat_word_says_how_to_send_a_slash() -> None:
    with pytest.raises(UsageError, match="// to send"):
        parse_line("chat", "shrug")


@given(st.sampled_from(["prompt", "chat", "shell"]), st.text())
def test_any_line_is_parsed_or_refused_with_a_sentence(door: str, line: str) -> None:
    try:
        parsed = parse_line(door, line)
    except UsageError as error:
        assert display(str(error)) == str(error)
    else:
        assert parsed is None or parsed[0] in commands.COMMANDS


@pytest.mark.parametrize("door", ["prompt", "chat", "shell"])
def test_help_names_every_command_and_fits_80_columns(door: str) -> None:
    text = "\n".join(commands.help_lines(door))
    for word in commands.words_at(door):
        assert word in text
        assert commands.help_lines(door, word.removeprefix("/"))
    assert max(map(len, text.splitlines())) <= 80
