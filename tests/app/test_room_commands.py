"""What `/join` and its like do with a directory that answers late, badly or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evloop.app import room_commands
from evloop.app.commands import parse_line
from evloop.app.room_commands import RoomCommands
from evloop.base.errors import EvloopError, Refused
from evloop.directory.client import READY
from evloop.directory.protocol import RELIABLE, RoomEntry
from tests.support.chats import Room
from tests.support.several import Piped, Screen, Several


class Prompt:
    """Commands whose end the test decides."""

    def __init__(self) -> None:
        self.makes_rooms = False
        self.frontend: Any = None
        self.entered: object = {}  # as an old directory tells it: of no keeper
        self.asked: list[tuple[str, str | None, Any]] = []
        self.ran: list[tuple[str, list[str], dict[str, str], Any]] = []

    def enter(self, name: str, mode: str | None, done: Any) -> None:
        if name == "bad:name:":
            raise Refused(1, "bad_name", "that is no name")
        self.asked.append((name, mode, done))

    def run(self, word: str, arguments: list[str], options: dict[str, str], done: Any) -> None:
        self.ran.append((word, arguments, options, done))


class Link:
    state = READY

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []

    def request(self, method: str, params: dict[str, str], done: object) -> None:
        self.requests.append((method, params["name"]))


class Presence:
    def entered(self, chat: object) -> None: ...

    def count(self, chat: object, then: Callable[[int], object]) -> None:
        then(0)


class Client:
    """What `RoomCommands` takes of the client."""

    def __init__(self, frontend: Screen) -> None:
        several = Several(frontend)
        self.loop, self.frontend, self.style = several.loop, frontend, several.style
        self.prompt = Prompt()
        self.link = Link()
        self.status = 0
        self.held = False
        self.busy = False
        self.failures: list[str] = []
        self.names: list[str] = []
        self.over = 0
        self.given_up = 0
        self.reach: Any = None
        self.commands = RoomCommands(self)  # type: ignore[arg-type]
        self.rooms = self.commands.rooms
        self.prompt.frontend = frontend

    def show_prompt(self) -> None: ...
    def hold_lines(self) -> None: ...
    def quit(self) -> None: ...
    def left(self, chat: object) -> None: ...
    def on_chat(self, chat: object) -> None: ...

    def invitation(self, chat: object) -> tuple[list[str], bool]:
        return [], False

    def hold(self, held: bool) -> None:
        self.held = held

    def awaiting(self, waits: bool) -> None:
        self.busy = waits

    def failed(self, what: str, error: EvloopError) -> None:
        if str(error):
            self.failures.append(f"{what}: {error}")

    def give_up(self) -> None:
        self.given_up += 1
        self.commands.forget()

    def keep_name(self, name: str) -> None:
        self.names.append(name)

    def presence(self) -> Presence:
        return Presence()

    def rooms_over(self) -> None:
        self.over += 1

    # -- for the tests ---------------------------------------------------------------------------

    def type(self, line: str) -> None:
        """A command in a room."""
        try:
            parsed = parse_line("chat", line)
            assert parsed is not None
            command, arguments, options = parsed
            self.commands.run(command.word, arguments, options)
        except EvloopError as error:
            self.failures.append(str(error))

    def answer(self, port: int = 5751, error: EvloopError | None = None) -> None:
        """The directory answers the one `enter` that is open."""
        ((name, _, done),) = self.prompt.asked
        self.prompt.asked.clear()
        if error is None:
            try:
                self.commands.open(RoomEntry(name, "239.255.7.1", port, RELIABLE), 1, None, done)
                return
            except EvloopError as failure:
                error = failure
        done(error)

    def numbers(self) -> dict[int, str]:
        return {number: pane.name for number, pane in sorted(self.rooms.panes.items())}


@pytest.fixture(params=[Screen, Piped])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client in lab and garden."""
    monkeypatch.setattr(room_commands, "live_room", lambda *arguments: Room())
    client = Client(request.param())
    client.commands.enter_all(["lab", "garden", "LAB"], {}, lambda error: None)
    client.answer(5751)
    client.answer(5752)
    assert client.numbers() == {1: "lab", 2: "garden"} and client.prompt.asked == []
    client.frontend.taken()
    client.hold(False)
    yield client
    client.loop.close()


def front(client: Client) -> str:
    assert client.rooms.front is not None
    return client.rooms.front.name


def test_a_join_makes_no_room(client: Client) -> None:
    """`python3 -m evloop chat lab` makes it; a word that is mistyped later makes nothing."""
    client.prompt.makes_rooms = True
    client.type("join nope")
    assert not client.prompt.makes_rooms


def test_a_join_holds_lines_until_it_is_answered(client: Client) -> None:
    client.type("join ops --mode plain")
    assert (client.held, client.busy) == (True, True) and front(client) == "lab"
    assert client.prompt.asked[0][:2] == ("ops", "plain")
    client.answer(5753)
    assert (client.held, client.busy) == (False, False) and front(client) == "ops"


@pytest.mark.parametrize("name", ["garden", "GARDEN", "239.255.7.1:5752"])
def test_a_join_of_a_room_of_ours_only_goes_there(client: Client, name: str) -> None:
    client.type(f"join {name}")
    assert front(client) == "garden" and client.prompt.asked == [] and not client.held


def test_a_join_of_a_room_of_ours_under_another_name_goes_there_too(client: Client) -> None:
    client.type("join alias")
    client.answer(5752)
    assert front(client) == "garden" and client.failures == []
    assert len(client.rooms.panes) == 2 and not client.held


def test_a_join_that_fails_is_told_and_lines_go_on(client: Client) -> None:
    client.type("join ops")
    client.answer(error=EvloopError("there is no room ops"))
    client.type("join bad:name:")
    assert client.failures == ["join ops: there is no room ops", "join bad:name:: that is no name"]
    assert not client.held and front(client) == "lab"


def test_leaving_all_gives_up_a_join(client: Client) -> None:
    """Its room is not entered when the answer comes, and the directory counts nobody."""
    client.type("join ops")
    client.commands.leave_all()
    assert client.link.requests == [("leave", "ops")] and client.given_up == 1
    assert (client.over, client.held, client.busy) == (1, False, False)
    client.answer(5753)
    assert client.rooms.panes == {} and client.failures == []
    assert client.frontend.taken()[-1] == "-- left lab, garden --"


def test_an_exception_does_not_keep_lines_waiting_for_ever(client: Client) -> None:
    client.type("join ops")
    client.commands.recover()
    assert not client.held and client.link.requests == [("leave", "ops")]
    client.answer(5753)
    assert client.numbers() == {1: "lab", 2: "garden"}
    client.commands.recover()  # nothing is under way
    assert len(client.link.requests) == 1


def test_what_is_given_up_for_all_enters_no_further_room(client: Client) -> None:
    ends: list[EvloopError | None] = []
    client.commands.enter_all(["a", "b", "c"], {}, ends.append)
    client.give_up()
    client.answer(error=EvloopError("given up"))
    assert ends == [None] and client.prompt.asked == []
    assert client.failures == ["chat a: given up"] and client.status == 1


def test_commands_of_the_prompt_answer_as_notes(client: Client) -> None:
    client.type("getdir")
    ((word, _, _, done),) = client.prompt.ran
    client.prompt.frontend.show("  lab  239.255.7.1  5751")
    client.prompt.frontend.note("evloop: so it is")
    assert word == "getdir" and client.held
    assert client.frontend.notes[-2:] == ["  lab  239.255.7.1  5751", "evloop: so it is"]
    done(Refused(1, "no", "it is refused"))
    assert client.failures == ["getdir: it is refused"] and not client.held
    assert client.prompt.frontend is client.frontend


def test_answers_that_nobody_waits_for_are_not_shown(client: Client) -> None:
    client.type("deleteroom x --yes")
    ((_, arguments, options, done),) = client.prompt.ran
    assert (arguments, options) == (["x"], {"--yes": "--yes"})
    answers = client.prompt.frontend
    client.commands.leave_all()
    client.frontend.taken()
    answers.show("deleted room x")
    done(None)
    assert client.frontend.taken() == [] and client.over == 1


def test_rooms_are_found_by_number_name_and_beginning(client: Client) -> None:
    client.type("join gargoyle")
    client.answer(5753)
    client.type("join 2go")
    client.answer(5754)
    for wanted, there in [("2", "garden"), ("3", "gargoyle"), ("GARDEN", "garden"),
                          ("l", "lab"), ("2g", "2go"), ("garg", "gargoyle")]:  # fmt: skip
        client.type(f"switch {wanted}")
        assert front(client) == there
    client.type("switch")
    assert front(client) == "2go"
    for command in ("switch gar", "leave nope", "switch 9"):
        client.type(command)
    assert client.failures == [
        'switch: you are in no room "gar"; /rooms lists yours',
        'leave: you are in no room "nope"; /rooms lists yours',
        'switch: you are in no room "9"; /rooms lists yours',
    ]


def test_rooms_lists_them(client: Client) -> None:
    client.type("mute")
    client.type("switch 2")
    client.rooms.panes[1].backlog.unread, client.rooms.panes[1].backlog.for_you = 2, 1
    client.frontend.taken()
    client.type("rooms")
    assert client.frontend.taken() == [
        "  1  lab  1 here, 2 unread, 1 for you, muted",
        "  2  garden  1 here, in front",
    ]
    client.type("mute")
    client.type("mute")
    assert client.frontend.taken() == ["-- garden is muted --", "-- garden is shown again --"]


def test_a_name_is_that_of_all_rooms(client: Client) -> None:
    client.rooms.panes[1].chat.line("/name Amy")
    names = {pane.chat.room.session.nickname for pane in client.rooms.panes.values()}
    assert names == {"Amy"} and client.names == ["Amy"]
