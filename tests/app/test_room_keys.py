"""Keys of sealed rooms at the client: where one comes from, what is remembered, what is refused."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evloop.app import room_keys
from evloop.app.limits import KEY_FILE_BYTES_MAX
from evloop.app.room_keys import PASSPHRASE_PORTS, RoomKeys, read_key_file
from evloop.base.errors import INTERRUPTED, REFUSED, EvloopError, SetupError
from evloop.directory.key_ring import KeyRing
from evloop.directory.protocol import RoomEntry
from evloop.directory.roomkeys import SLIP, code_of, stretched
from evloop.system.loop import Loop

SECRET = bytes(range(16))
CODE = "000G-40R4-0M30-E209-185G-R38E-1ZF0"
OTHER = b"another secret!!"
PLACE, ELSEWHERE = "239.255.7.1:5751", "239.255.9.9:50000"
IDENTITY = "9f0c55d01a2b3c4d"

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Screen:
    """A frontend that answers questions from a list; what it was asked and told."""

    def __init__(self) -> None:
        self.is_terminal = True
        self.answers: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.notes: list[str] = []
        self._waiting: Callable[[str, str], object] | None = None

    @property
    def asking(self) -> bool:
        return self._waiting is not None

    def ask(self, question: str, done: Callable[[str, str], object]) -> None:
        self.asked.append(question)
        if self.answers:
            done(*self.answers.pop(0))
        else:
            self._waiting = done

    def unask(self) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        waiting("interrupt", "")

    def note(self, text: str, manner: str = "") -> None:
        self.notes.append(text)


class World:
    def __init__(self, home: Path) -> None:
        self.loop = Loop()
        self.screen = Screen()
        self.options = SimpleNamespace(key_file=None, key_file_of_sealed=None)
        self.link = SimpleNamespace(identity=IDENTITY, endpoint="192.0.2.1:44444")
        self.environ = {"XDG_STATE_HOME": str(home), "HOME": str(home)}
        self.ring = KeyRing(str(home / "evloop"))
        self.keys = self.again()

    def again(self) -> RoomKeys:
        """The client is started again."""
        return RoomKeys(
            self.loop,
            self.screen,  # type: ignore[arg-type]
            self.link,  # type: ignore[arg-type]
            self.options,  # type: ignore[arg-type]
            self.environ,
            lambda: random.Random(1),
        )

    def enter(self, entry: RoomEntry) -> bytes | EvloopError | None:
        """The secret, None for an open room, or why it is not entered."""
        got: list[Any] = []
        try:
            self.keys.enter(entry, got.append, got.append)
        except EvloopError as error:
            got.append(error)
        self.until(lambda: bool(got))
        assert len(got) == 1
        found: bytes | EvloopError | None = got[0]
        return found

    def until(self, true: Callable[[], bool]) -> None:
        self.loop.call_at(self.loop.now + 30, lambda: pytest.fail("it takes too long"))
        while not true():
            self.loop.tick()

    def refused(self, entry: RoomEntry) -> str:
        error = self.enter(entry)
        assert isinstance(error, EvloopError) and error.exit_status == REFUSED, error
        return str(error)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.loop.close()


def room(mode: str = "sealed", place: str = PLACE, name: str = "lab") -> RoomEntry:
    address, _, port = place.rpartition(":")
    return RoomEntry(name, address, int(port), mode)


def key_file(tmp_path: Path, text: str, mode: int = 0o600) -> str:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


# -- where it comes from ---------------------------------------------------------------------------


def test_an_open_room_needs_none(world: World) -> None:
    assert world.enter(room("reliable")) is None and world.enter(room("plain")) is None
    assert not world.screen.asked and not os.path.exists(world.ring.path)


def test_the_order_of_sources(world: World, tmp_path: Path) -> None:
    world.screen.answers = [("line", code_of(OTHER))]
    assert world.enter(room()) == OTHER
    assert world.screen.asked == ["key of lab (not shown): "]
    world.ring.keep(IDENTITY, "lab", PLACE, SECRET)
    assert world.enter(room()) == SECRET, "what is remembered, without a question"
    world.options.key_file_of_sealed = key_file(tmp_path, code_of(OTHER) + "\n")
    assert world.enter(room()) == OTHER
    (tmp_path / "named").mkdir()
    world.options.key_file = key_file(tmp_path / "named", f"key {CODE}\nmore\n")
    assert world.enter(room()) == SECRET
    assert world.ring.at(PLACE) == SECRET and len(world.ring.all()) == 1


def test_a_passphrase_is_stretched_while_the_loop_goes_on(world: World, tmp_path: Path) -> None:
    world.options.key_file = key_file(tmp_path, "  correct horse   battery staple\n")
    ticks = []
    world.loop.defer(lambda: ticks.append(1))
    secret = world.enter(room())
    assert isinstance(secret, bytes)  # an older mypy does not see it from what follows
    assert secret == stretched("correct horse battery staple", PLACE) and ticks
    assert secret.hex() == "a338afa0268a2300822b027c5323d3e3a385a168567dd6ce29bcc15d542042df"


def test_what_is_typed_is_remembered_only_when_somebody_has_proved_to_have_it(world: World) -> None:
    world.screen.answers = [("line", CODE)]
    assert world.enter(room()) == SECRET
    assert world.ring.at(PLACE) is None
    assert world.enter(room()) == SECRET and len(world.screen.asked) == 1, "asked once a run"
    assert world.keys.proven(PLACE) == "" and world.ring.at(PLACE) == SECRET
    assert world.ring.named(IDENTITY, "lab") == {PLACE: SECRET}
    assert world.keys.proven(PLACE) == "", "others prove it too"
    world.keys = world.again()
    assert world.enter(room()) == SECRET and len(world.screen.asked) == 1


def test_what_came_by_a_file_is_never_remembered(world: World, tmp_path: Path) -> None:
    world.options.key_file = key_file(tmp_path, CODE)
    assert world.enter(room()) == SECRET and world.keys.proven(PLACE) == ""
    assert not os.path.exists(world.ring.path)


def test_a_slip_is_asked_about_three_times(world: World) -> None:
    slip = CODE.replace("4", "5", 1)
    world.screen.answers = [("line", slip), ("line", ""), ("line", CODE)]
    assert world.enter(room()) == SECRET
    no_key = "room lab is sealed, and no key was given"
    assert world.screen.notes == [f"evloop: {SLIP}", f"evloop: {no_key}"]
    world.keys = world.again()
    world.screen.answers = [("line", slip)] * 4
    assert world.refused(room()) == SLIP and world.screen.answers == [("line", slip)]
    world.screen.answers = [("eof", "")]
    assert world.refused(room()) == no_key


def test_ctrl_c_ends_the_question_and_the_stretching(world: World) -> None:
    got: list[Any] = []
    assert not world.keys.give_up()
    world.keys.enter(room(), got.append, got.append)
    assert world.screen.asking and world.keys.give_up() and not world.screen.asking
    assert [(error.exit_status, str(error)) for error in got] == [(INTERRUPTED, "")]
    world.screen.answers = [("line", "correct horse battery staple")]
    world.keys.enter(room(), got.append, got.append)
    assert len(got) == 1 and world.keys.give_up() and not world.keys.give_up()
    assert got[1].exit_status == INTERRUPTED and not world.loop.watches


def test_nobody_to_ask(world: World) -> None:
    world.screen.is_terminal = False
    assert world.refused(room()) == (
        "room lab is sealed: give its key by --key-file FILE, or type it once at a terminal"
    )


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (CODE, 0o640, "{} can be read by others: chmod 600 {}"),
        (CODE, 0o604, "{} can be read by others: chmod 600 {}"),
        (CODE.replace("4", "5", 1), 0o600, "{}: " + SLIP),
        ("\n" + CODE, 0o600, "{}: there is no key in its first line"),
        ("x" * (KEY_FILE_BYTES_MAX + 1), 0o600, "{}: its first line has over 4096 bytes"),
        ("\udcff", 0o600, "{}: it is not UTF-8"),
    ],
)
def test_a_file_that_is_refused(tmp_path: Path, text: str, mode: int, why: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(text.encode(errors="surrogateescape"))
    path.chmod(mode)
    with pytest.raises(SetupError) as error:
        read_key_file(str(path))
    assert str(error.value) == why.format(path, path) and error.value.exit_status == REFUSED


@pytest.mark.parametrize(
    "text",
    [CODE + "\r\n", "\ufeff" + CODE, "\ufeff" + CODE + "\r\n", f"  {CODE}  ", CODE + "\nmore\n"],
)
def test_a_file_from_another_machine(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(text.encode())
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    assert read_key_file(str(path)) == read_key_file(str(tmp_path / "link")) == SECRET
    path.chmod(0o644)
    with pytest.raises(SetupError, match="can be read by others"):
        read_key_file(str(tmp_path / "link"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("empty", "there is no key in its first line"),
        ("folder", "Is a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("/dev/null", "there is no key in its first line"),
        ("/dev/zero", "its first line has over 4096 bytes"),
        ("a\0b", "embedded null"),
    ],
)
def test_what_is_no_file_of_a_key(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "empty").touch(mode=0o600)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SetupError, match=why) as error:
        read_key_file(str(tmp_path / name))
    assert error.value.exit_status == REFUSED


def test_a_pipe_with_a_name_is_waited_for_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    writer = subprocess.Popen(["sh", "-c", 'printf %s "$0" >"$1"', CODE, path])
    assert read_key_file(path) == SECRET, "which writes no end of the line"
    assert writer.wait() == 0
    monkeypatch.setattr(room_keys, "KEY_FILE_WAIT_S", 0.02)
    with pytest.raises(SetupError, match="no key came in 0 s"):
        read_key_file(path)


def test_a_file_that_is_not_there_falls_through_to_nothing(world: World, tmp_path: Path) -> None:
    world.ring.keep(IDENTITY, "lab", PLACE, SECRET)
    world.options.key_file_of_sealed = str(tmp_path / "none")
    assert world.refused(room()) == f"{tmp_path}/none: No such file or directory"
    assert not world.screen.asked


def test_a_pipe_is_read_whatever_its_mode(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, CODE.lower().encode() + b"\n")
    os.close(writer)
    assert read_key_file(f"/dev/fd/{reader}") == SECRET
    os.close(reader)


# -- downgrade -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (room("reliable"), f"is now reliable at {PLACE}"),
        (room("plain"), f"is now plain at {PLACE}"),
        (room("reliable", ELSEWHERE), f"is now reliable at {ELSEWHERE}"),
        (room("reliable", ELSEWHERE, "LAB"), f"is now reliable at {ELSEWHERE}"),
        (room("reliable", PLACE, "garden"), f"is now reliable at {PLACE}"),
        (room("sealed", ELSEWHERE), f"is now sealed at {ELSEWHERE}"),
    ],
)
def test_a_room_that_was_sealed_otherwise_is_not_entered(
    world: World, entry: RoomEntry, sentence: str
) -> None:
    world.ring.keep(IDENTITY, "lab", PLACE, SECRET)
    assert world.refused(entry) == (
        f"room {entry.name} was sealed at {PLACE} and {sentence}: not entered. If that is meant:"
        f" key {entry.name} --forget"
    )
    assert not world.screen.asked


def test_another_directory_may_have_an_open_room_of_that_name(world: World) -> None:
    world.ring.keep(IDENTITY, "lab", PLACE, SECRET)
    world.link.identity = "0000000000000001"
    assert world.enter(room("reliable", ELSEWHERE)) is None
    assert world.refused(room("reliable")), "but not at the place of a key that is remembered"


def test_with_a_key_file_a_moved_room_is_entered_and_its_place_remembered(
    world: World, tmp_path: Path
) -> None:
    world.ring.keep(IDENTITY, "lab", PLACE, SECRET)
    world.options.key_file = key_file(tmp_path, code_of(OTHER))
    assert world.enter(room(place=ELSEWHERE)) == OTHER
    assert world.ring.at(ELSEWHERE) == OTHER and world.ring.at(PLACE) == SECRET


def test_a_key_file_for_an_open_room_is_a_downgrade_and_the_variable_is_not(
    world: World, tmp_path: Path
) -> None:
    world.options.key_file_of_sealed = path = key_file(tmp_path, CODE)
    assert world.enter(room("reliable")) is None
    world.options.key_file = path
    assert world.refused(room("reliable")) == "room lab is reliable, not sealed: not entered"


def test_a_damaged_file_of_keys_lets_nobody_in(world: World) -> None:
    world.ring.keep(IDENTITY, "lab", PLACE, SECRET)
    Path(world.ring.path).write_text("damage\n")
    for entry in (room(), room("reliable")):
        error = world.enter(entry)
        assert isinstance(error, SetupError) and "line 1" in str(error)


def raised(error: EvloopError) -> None:
    raise error


# -- making a room ---------------------------------------------------------------------------------


def made(world: World, passphrase: bool = False, placed: bool = False) -> tuple[Any, Any]:
    """(what the key is made of, the place that was drawn)."""
    got: list[Any] = []
    world.keys.before_making(
        "lab", passphrase, placed, lambda key, place: got.append((key, place)), got.append
    )
    [found] = got
    assert isinstance(found, tuple), found
    return found


def test_a_new_room_has_a_new_key_that_is_remembered_at_once(world: World) -> None:
    codes: list[str] = []
    assert made(world) == (None, None)
    for _ in range(2):
        world.keys.made("lab", PLACE, None, codes.append, raised)
    assert len(set(codes)) == 2 and not world.screen.asked
    assert code_of(world.ring.at(PLACE) or b"") == codes[-1]


def test_a_passphrase_is_asked_for_twice_and_its_room_is_anywhere(world: World) -> None:
    words = "correct horse battery staple"
    world.screen.answers = [
        ("line", "short"),
        ("line", words),
        ("line", words + "r"),
        ("line", " correct horse  battery staple "),
    ]
    key, place = made(world, passphrase=True)
    assert key == words and world.screen.notes == [
        "evloop: a passphrase has at least 12 characters",
        "evloop: that is not the same passphrase",
    ]
    assert place[0].startswith("239.255.") and place[1] in PASSPHRASE_PORTS
    world.screen.answers = [("line", words)] * 2
    assert made(world, passphrase=True, placed=True) == (words, None)
    codes: list[str] = []
    world.keys.made("lab", PLACE, words, codes.append, raised)
    world.until(lambda: bool(codes))
    assert codes == [""] and world.ring.at(PLACE) == stretched(words, PLACE)


def test_the_key_of_a_file_makes_a_room_too(world: World, tmp_path: Path) -> None:
    world.options.key_file = key_file(tmp_path, CODE)
    assert made(world) == (SECRET, None)


def test_an_open_room_of_a_remembered_name_forgets_its_key(world: World) -> None:
    world.ring.keep(IDENTITY, "lab", PLACE, SECRET)
    world.keys.made_open("lab", ELSEWHERE)
    assert world.ring.all() == {} and world.enter(room("reliable", ELSEWHERE)) is None
    assert world.screen.notes == ["-- the key of an earlier room lab is forgotten --"]
    world.keys.made_open("lab", ELSEWHERE)
    assert len(world.screen.notes) == 1


def test_who_sits_in_a_sealed_room_and_makes_an_open_one_of_its_name_keeps_no_key(
    world: World,
) -> None:
    """Else what was typed would be remembered later, and shut its owner out of the new room."""
    world.screen.answers = [("line", CODE)]
    assert world.enter(room()) == SECRET
    world.keys.made_open("LAB", ELSEWHERE)
    assert world.keys.proven(PLACE) == "" and world.ring.all() == {}
    assert world.enter(room("reliable", ELSEWHERE)) is None


# -- the command `key` -----------------------------------------------------------------------------


def key(world: World, name: str, *options: str, known: RoomEntry | None = None) -> list[str]:
    """What `key NAME` shows; raises what it fails with."""
    shown: list[str] = []
    over: list[EvloopError | None] = []
    world.keys.command(name, known, dict.fromkeys(options, ""), shown.append, over.append)
    world.until(lambda: bool(over))
    if over[0] is not None:
        raise over[0]
    return shown


def test_the_key_of_a_room_is_shown(world: World) -> None:
    with pytest.raises(EvloopError, match="key: no key of lab is remembered"):
        key(world, "lab")
    world.ring.keep(IDENTITY, "lab", PLACE, SECRET)
    assert key(world, "lab") == key(world, PLACE) == key(world, "LAB", known=room()) == [CODE]
    world.link.identity = world.link.endpoint = ""
    assert key(world, "lab") == [CODE], "without a directory, of any"


def test_an_open_room_gets_no_key(world: World) -> None:
    """It could not be entered any more: somebody may want one to talk in the open."""
    for option in ("--new", "--set"):
        with pytest.raises(EvloopError, match="key: room lab is reliable, not sealed"):
            key(world, "lab", option, known=room(mode="reliable"))
    world.enter(room(mode="reliable"))
    world.ring.keep(IDENTITY, "lab", PLACE, SECRET)
    key(world, "lab", "--forget", known=room(mode="reliable"))
    assert world.ring.at(PLACE) is None


def test_a_passphrase_is_not_shown(world: World) -> None:
    world.ring.keep(IDENTITY, "lab", PLACE, bytes(32))
    assert key(world, "lab") == []
    assert world.screen.notes == ["-- the key of lab was made of a passphrase; tell that --"]


def test_another_key_is_set_made_and_forgotten(world: World) -> None:
    with pytest.raises(EvloopError, match="is not known here"):
        key(world, "lab", "--new")
    [code] = key(world, "lab", "--new", known=room())
    assert key(world, "lab") == [code] != [CODE]
    world.screen.answers = [("line", CODE)]
    assert key(world, "lab", "--set") == [] and key(world, "lab") == [CODE]
    assert world.enter(room()) == SECRET
    key(world, "lab", "--forget")
    with pytest.raises(EvloopError, match="no key of lab is remembered"):
        key(world, "lab", "--forget")
    with pytest.raises(EvloopError, match="do not go together"):
        key(world, "lab", "--forget", "--new")
    world.screen.is_terminal = False
    with pytest.raises(EvloopError, match="asks at a terminal"):
        key(world, "lab", "--set", known=room())
