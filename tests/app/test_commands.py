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
        "/leave", "/who", "/name", "/me", "/history", "/show", "/save", "/ignore", "/doctor",
        "/invite", "/stats", "/help", "/quit", "/join", "/switch", "/rooms", "/mute", "/getdir",
        "/makeroom", "/deleteroom", "/key",
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
        ("makeroom a --mode loud", '--mode takes reliable or plain or sealed, not "loud"'),
        ("makeroom a --mode", '--mode takes reliable or plain or sealed, not ""'),
        ("makeroom a --colour red", 'unknown option "--colour"'),
        ("getdri", "did you mean getdir?"),
        ("zzzzzzzz", "help lists the commands"),
        ('makeroom "a', 'a " is never closed'),
        ("makeroom 'a\" b", "a ' is never closed"),
        ("say x hello", "say is a command for scripts"),
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


# -- habits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "line", "word"),
    [
        ("prompt", "join lab", "chat"),
        ("prompt", "/JOIN lab", "chat"),
        ("prompt", "list", "getdir"),
        ("prompt", "/list", "getdir"),
        ("prompt", "nick Mel", "name"),
        ("prompt", "/nick", "name"),
        ("prompt", "exit", "quit"),
        ("prompt", "/exit", "quit"),
        ("prompt", "/q", "quit"),
        ("prompt", "/quit", "quit"),
        ("chat", "part", "leave"),
        ("chat", "nick Mel", "name"),
        ("chat", "names", "who"),
        ("chat", "exit", "quit"),
        ("chat", "join lab", "join"),
        ("chat", "chat lab", "join"),
        ("chat", "list", "getdir"),
        ("chat", "q", "quit"),
    ],
)
def test_habits_that_have_something_to_do(door: str, line: str, word: str) -> None:
    parsed = parse_line(door, line)
    assert parsed is not None and parsed[0].word == word


@pytest.mark.parametrize("word", commands.words_at("prompt"))
def test_every_command_of_the_prompt_has_a_slash_form(word: str) -> None:
    assert commands.find("prompt", f"/{word}") is commands.find("prompt", word)


@pytest.mark.parametrize(
    ("door", "line", "says"),
    [
        ("prompt", "who", "chat NAME enters one, and /who works there"),
        ("prompt", "/names", "chat NAME enters one"),
        ("prompt", "/part", "you are in no room"),
        ("prompt", "/msg bob hi", "no private messages"),
        ("prompt", "/query bob", "no private messages"),
        ("prompt", "/topic x", "no topic"),
        ("prompt", "/away", "nobody is marked as away"),
        ("prompt", "/me waves", "you are in no room"),
        ("prompt", "switch 2", "you are in no room"),
        ("prompt", "/mute", "you are in no room"),
        ("chat", "connect", "/leave goes back there"),
        ("chat", "msg bob hi", "no private messages"),
        ("chat", "query bob", "no private messages"),
        ("chat", "topic x", "no topic"),
        ("chat", "away", "nobody is marked as away"),
        ("chat", "bye", "/leave goes back there"),
    ],
)
def test_habits_for_which_there_is_nothing_to_do(door: str, line: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_line(door, line)
    assert says in str(caught.value)
    assert "unknown" not in str(caught.value)


@pytest.mark.parametrize("word", ["connect", "bye", "name", "quit"])
def test_a_command_of_the_prompt_in_the_shell_says_what_it_is(word: str) -> None:
    with pytest.raises(UsageError, match=f"{word} is a command of the main prompt"):
        commands.find("shell", word)


@pytest.mark.parametrize(
    ("door", "word", "says"),
    [
        ("prompt", "say", "(for scripts, as an argument of the program)"),
        ("shell", "connect", "(at the main prompt)"),
        ("shell", "who", "(in a room)"),
        ("shell", "tail", "follow a room"),
        ("prompt", "join", "talk in rooms"),
        ("chat", "/who", "who is here"),
    ],
)
def test_every_command_is_explained_everywhere(door: str, word: str, says: str) -> None:
    assert says in commands.help_lines(door, word)[-1]


def test_no_alias_hides_a_command() -> None:
    for door, aliases in commands.ALIASES.items():
        words = {word.removeprefix("/") for word in commands.words_at(door)}
        assert not words & set(aliases)
        assert set(aliases.values()) <= words
        assert not set(commands.ELSEWHERE[door]) & (words | set(aliases))


# -- what a history file may keep -----------------------------------------------------------------


@pytest.mark.parametrize("line", ["getdir", "/join lab", "makeroom x --mode plain", "/who", "QUIT"])
def test_commands_are_kept(line: str) -> None:
    assert commands.is_command(line, False)


@pytest.mark.parametrize(
    "line",
    ["hello", "help me please", "/me waves", "//who", "/msg bob secret", "quit smoking", "", "/"],
)
def test_what_was_said_is_not_kept(line: str) -> None:
    assert not commands.is_command(line, True)
    assert not commands.is_command(line, False)


@pytest.mark.parametrize("line", ["getdir", "chat lab", "quit"])
def test_in_a_room_only_a_slash_makes_a_command(line: str) -> None:
    assert commands.is_command(line, False)
    assert not commands.is_command(line, True)
    assert commands.is_command("/who", True)


@pytest.mark.parametrize(
    "line",
    [
        "key 000G-40R4-0M30-E209-185G-R38E-1ZF0",
        "key 000G-40R4-0M30-E209-185G-R38E-1ZF1 --set",
        "chat lab 000g-40r4-0m30-e209-185g-r38e-1zf0",
        "chat 000G 40R4 0M30 E209 185G R38E 1ZF0",
        "/join 000G-40R4-0M30-E209-185G-R38E-1ZF0",
    ],
)
def test_a_key_that_was_pasted_in_the_wrong_place_is_kept_in_no_file(line: str) -> None:
    assert not commands.is_command(line, False) and not commands.is_command(line, True)


# -- say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "arguments", "options"),
    [
        (["ops", "hi", "you"], ["ops", "hi", "you"], {}),
        (["ops", "--", "x"], ["ops", "x"], {}),
        (["--", "ops", "--help"], ["ops", "--help"], {}),
        (["ops", "a", "--", "--mode"], ["ops", "a", "--", "--mode"], {}),
        (["ops", "use", "--mode", "plain", "-h"], ["ops", "use", "--mode", "plain", "-h"], {}),
        (["ops", "--mode", "plain", "x"], ["ops", "x"], {"--mode": "plain"}),
        (
            ["--timeout=3", "ops", "--anybody"],
            ["ops"],
            {"--timeout": "3", "--anybody": "--anybody"},
        ),
        (["ops", "--- done ---"], ["ops", "--- done ---"], {}),
        (["ops", ""], ["ops", ""], {}),
        (["ops", "--help"], [], {"--help": ""}),
        (["-h"], [], {"--help": ""}),
    ],
)
def test_what_say_says(words: list[str], arguments: list[str], options: dict[str, str]) -> None:
    assert commands.parse_arguments(commands.find("shell", "say"), words) == (arguments, options)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ops", "--json"], 'unknown option "--json"; behind -- it is text'),
        (["ops", "--anybody=1"], "--anybody takes no value"),
        (["ops", "--timeout"], "--timeout takes a value"),
        ([], "too few arguments"),
    ],
)
def test_what_say_refuses(words: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        commands.parse_arguments(commands.find("shell", "say"), words)
    assert says in str(caught.value)
