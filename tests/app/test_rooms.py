"""Several rooms in one client: what is shown, what waits, which line is whose."""

from __future__ import annotations

import re
from random import Random

import pytest

from evloop.app.style import Stamps
from evloop.base.errors import EvloopError
from evloop.terminal.editor import Editor
from tests.support.chats import BOB
from tests.support.several import Several, two

# -- the prompt and the first line -----------------------------------------------------------------


def test_with_one_room_all_is_as_with_one_room(world: Several) -> None:
    world.enter("lab")
    world.say("lab", "hello Mel")
    assert world.frontend.all == ["-- in lab. Ctrl-] or /leave goes back --", "Bob: hello Mel"]
    assert world.frontend.prompts == ["lab> "] and world.frontend.bells == 1
    world.frontend.press(b"one two\x1b[1;3D\x1b2")
    assert world.frontend.editor.cursor == 4  # Alt-Left is by word
    world.rooms.leave_all()
    assert world.frontend.all[-1] == "-- left lab --" and world.emptied == 1


def test_a_further_room_comes_to_the_front(world: Several) -> None:
    world.enter("lab")
    world.frontend.taken()
    world.enter("garden")
    assert world.frontend.taken() == [
        "-- in garden. Alt-1 or /switch goes to lab, /leave leaves, Ctrl-] leaves all --"
    ]
    assert world.frontend.prompts == ["lab> ", "2:garden > "]


def test_a_room_entered_behind_tells_its_line_with_a_label(world: Several) -> None:
    world.enter("lab")
    world.frontend.taken()
    world.enter("garden", behind=True)
    assert world.frontend.taken() == ["[2:garden] -- in garden --"]
    assert world.frontend.prompts[-1] == "1:lab > "


def test_numbers_are_the_lowest_that_are_free(world: Several) -> None:
    for name in "abc":
        world.enter(name)
    world.pane("b").chat.leave()
    assert world.enter("d").number == 2 and sorted(world.rooms.panes) == [1, 2, 3]
    for n in range(13):
        world.rooms.check_more()
        world.enter(f"x{n}")
    with pytest.raises(EvloopError) as caught:
        world.rooms.check_more()
    assert str(caught.value) == (
        "join: you are in 16 rooms, and that is the most; /leave one first"
    )


# -- the background --------------------------------------------------------------------------------


def test_calm_messages_come_at_once_and_further_ones_are_kept(world: Several) -> None:
    two(world)
    for n in range(5):
        world.say("garden", f"n{n}")
    assert world.frontend.taken() == [f"[2:garden] Bob: n{n}" for n in range(3)]
    assert world.frontend.prompts[-1] == "1:lab*> "
    world.wait(1.9)
    assert world.frontend.taken() == []
    world.wait(0.2)
    assert world.frontend.taken() == ["-- 2:garden: 2 more messages (Alt-2) --"]
    world.say("garden", "n5")
    world.wait(59.0)
    assert world.frontend.taken() == []
    world.wait(1.1)
    assert world.frontend.taken() == ["-- 2:garden: 3 more messages (Alt-2) --"]
    world.wait(600.0)  # nothing new: no further line
    assert world.frontend.taken() == []
    world.frontend.press(b"\x1b2")
    assert world.frontend.taken() == ["-- 2:garden --", "Bob: n3", "Bob: n4", "Bob: n5"]
    assert world.frontend.prompts[-1] == "2:garden > "


def test_more_than_are_kept_are_counted(world: Several) -> None:
    two(world)
    for n in range(3 + 57):
        world.say("garden", f"n{n}")
    world.frontend.taken()
    world.rooms.switch(world.pane("garden"))
    assert world.frontend.taken() == [
        "-- 2:garden --",
        "-- 37 older messages: /history 57 shows them --",
        *(f"Bob: n{n}" for n in range(40, 60)),
    ]


def test_a_mention_comes_at_once_and_is_remembered(world: Several) -> None:
    two(world)
    world.pane("garden").backlog.muted = True
    world.say("garden", "quiet")
    world.say("garden", "Mel: here?")
    assert world.frontend.taken() == ["[2:garden] Bob: Mel: here?"]
    assert (world.frontend.mentions, world.frontend.bells) == (1, 1)
    assert world.frontend.prompts[-1] == "1:lab!> "
    world.say("lab", "Mel!")  # one bell in 5 seconds, whatever the room
    assert world.frontend.bells == 1
    world.wait(5.0)
    world.say("lab", "Mel!")
    assert world.frontend.bells == 2
    world.frontend.taken()
    world.frontend.press(b"\x1ba")
    assert world.frontend.taken() == ["-- 2:garden --", "Bob: quiet"]


def test_who_comes_and_goes_is_told_in_front_only(world: Several) -> None:
    two(world)
    world.hear("garden", ("joined", BOB, "Bob"), ("renamed", BOB, "Bob", "Rob"))
    world.wait(3.0)
    assert world.frontend.taken() == []
    world.hear("garden", ("lost", BOB, "Bob", 12))
    (line,) = world.frontend.taken()
    assert line.startswith("[2:garden] -- 12 messages from Bob are gone")
    world.hear("lab", ("joined", BOB, "Bob"))
    world.wait(3.0)
    assert world.frontend.taken() == ["-- Bob joined --"]


# -- lines -----------------------------------------------------------------------------------------


def test_a_half_typed_line_stays_with_its_room(world: Several) -> None:
    two(world)
    screen = world.frontend
    screen.press(b"half a li\x1b2")
    assert screen.editor.text == ""
    screen.press(b"other\x1b1ne")
    assert screen.editor.text == "half a line"
    screen.press(b"\x1f")  # undo comes back with it
    assert screen.editor.text != "half a line"
    screen.press(b"\x1b[1;3C")
    assert screen.editor.text == "other" and world.rooms.front is world.pane("garden")


def test_a_half_typed_line_of_the_prompt_passes_on_to_the_first_room_alone(world: Several) -> None:
    world.frontend.press(b"half")
    world.enter("lab")
    assert world.frontend.editor.text == "half"
    world.enter("garden")
    assert world.frontend.editor.text == ""
    world.rooms.switch(world.pane("lab"))
    assert world.frontend.editor.text == "half"


def test_no_draft_becomes_a_command(world: Several) -> None:
    two(world)
    world.frontend.press(b"half\x1b2more")
    world.rooms.leave_all()
    assert world.frontend.taken()[-1] == "-- left lab, garden --"
    assert world.frontend.editor.text == "" and world.emptied == 1
    assert world.rooms.last_left == ["lab", "garden"]


# -- the table: what a room shows in front, in the background, muted -------------------------------

FRONT, BEHIND, MUTED = "front", "background", "muted"
NOW, LABELLED, KEPT, NOTHING = "as it is", "labelled", "kept", "nothing"
SHOWN = {
    "calm": (NOW, LABELLED, KEPT),
    "fast": (NOW, KEPT, KEPT),
    "mention": (NOW, LABELLED, LABELLED),
    "old": (NOW, KEPT, KEPT),
    "own": (NOW, LABELLED, KEPT),
    "presence": (NOW, NOTHING, NOTHING),
    "remark": (NOW, LABELLED, LABELLED),
    "sentence": (NOW, LABELLED, LABELLED),
    "answer": (NOW, LABELLED, LABELLED),
    "left": (NOW, NOW, NOW),
}


def happen(world: Several, what: str) -> str:
    """Let it happen in garden; the line that it is."""
    pane = world.pane("garden")
    if what in ("presence", "remark", "sentence", "answer", "left"):
        manner = {"sentence": "", "answer": "text"}.get(what, what)
        pane.note("-- it --", manner)
        return "-- it --"
    if what == "fast":
        for n in range(4):
            world.say("garden", f"before {n}")
        world.frontend.taken()
    text = "Mel: it" if what == "mention" else "it"
    parts = ("", "Bob", ": ", [text])
    pane.message(
        "", parts, old=what == "old", mention=what == "mention", bell=False, own=what == "own"
    )
    return f"Bob: {text}" + " (old)" * (what == "old")


@pytest.mark.parametrize("state", [FRONT, BEHIND, MUTED])
@pytest.mark.parametrize("what", SHOWN)
def test_what_is_shown_of_a_room(world: Several, what: str, state: str) -> None:
    two(world)
    garden = world.pane("garden")
    garden.backlog.muted = state == MUTED
    if state == FRONT:
        world.rooms.switch(garden)
        world.frontend.taken()
    line = happen(world, what)
    how = SHOWN[what][[FRONT, BEHIND, MUTED].index(state)]
    shown = {NOW: [line], LABELLED: [f"[2:garden] {line}"]}.get(how, [])
    assert world.frontend.taken() == shown
    if state != FRONT:
        world.rooms.switch(garden)
        assert world.frontend.taken()[-1] == (line if how == KEPT else "-- 2:garden --")


@pytest.mark.parametrize("state", [FRONT, BEHIND, MUTED])
def test_a_refused_line_goes_back_into_its_room(world: Several, state: str) -> None:
    two(world)
    garden = world.pane("garden")
    garden.backlog.muted = state == MUTED
    if state == FRONT:
        world.rooms.switch(garden)
    garden.put_back("refused")
    if state == FRONT:
        assert world.frontend.back == ["refused"]
        return
    assert world.frontend.back == [] and world.frontend.editor.text == ""
    world.rooms.switch(garden)
    assert world.frontend.editor.text == "refused"


# -- against a list --------------------------------------------------------------------------------


class Model:
    """What was said in each room, and what of it the screen has shown."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.world = Several()
        self.rooms: dict[str, int] = {}  # name: number
        self.front = ""
        self.before = ""
        self.waiting: dict[str, list[str]] = {}
        self.for_you: dict[str, int] = {}
        self.muted: set[str] = set()
        self.said = 0
        self.entered = 0

    def _comes(self, name: str) -> list[str]:
        """What must be written when `name` comes to the front."""
        waits, self.waiting[name] = self.waiting[name], []
        self.for_you[name] = 0
        self.front = name
        older = len(waits) - 20
        lines = [f"-- {self.rooms[name]}:{name} --"]
        if older > 0:
            words = "message: " if older == 1 else "messages: "
            shows = "it" if older == 1 else "them"
            lines.append(f"-- {older} older {words}/history {len(waits)} shows {shows} --")
        return lines + [f"Bob: {text}" for text in waits[-20:]]

    def join(self) -> None:
        if len(self.rooms) == 16:
            with pytest.raises(EvloopError):
                self.world.rooms.check_more()
            return
        self.entered += 1
        name = f"r{self.entered}"
        behind = bool(self.rooms) and self.rng.random() < 0.3
        self.world.enter(name, behind=behind)
        self.rooms[name] = min(set(range(1, 17)) - set(self.rooms.values()))
        self.waiting[name], self.for_you[name] = [], 0
        if not behind:
            self.before, self.front = self.front, name
        lines = self.taken()
        label = f"[{self.rooms[name]}:{name}] " * behind
        (first,) = [line for line in lines if line.startswith(f"{label}-- in {name}")]
        lines.remove(first)
        self.check_counts(lines)

    def leave(self) -> None:
        if not self.rooms:
            return
        name = self.rng.choice(sorted(self.rooms))
        self.world.pane(name).chat.leave()
        number = self.rooms.pop(name)
        expected = [f"-- left {name} --"]
        self.muted.discard(name)
        if self.before == name:
            self.before = ""
        if self.front == name:
            following = self.before or max(self.rooms, key=self.rooms.__getitem__, default="")
            self.before = ""
            self.front = following
            if following:
                expected += self._comes(following)
        assert self.taken() == expected, number

    def leave_all(self) -> None:
        if not self.rooms or self.rng.random() < 0.9:
            return
        names = sorted(self.rooms, key=self.rooms.__getitem__)
        self.world.rooms.leave_all()
        assert self.taken() == [f"-- left {', '.join(names)} --"]
        self.rooms.clear()
        self.muted.clear()
        self.front = self.before = ""

    def switch(self) -> None:
        if not self.rooms:
            return
        name = self.rng.choice(sorted(self.rooms))
        self.world.rooms.switch(self.world.rooms.find("switch", str(self.rooms[name])))
        if name == self.front:
            assert self.taken() == []
            return
        self.before = self.front
        assert self.taken() == self._comes(name)

    def loudest(self) -> None:
        others = [name for name in self.rooms if name != self.front]
        mentioned = [name for name in others if self.for_you[name]]
        if not mentioned:
            return
        name = min(mentioned, key=lambda it: (-self.for_you[it], self.rooms[it]))
        if [self.for_you[it] for it in mentioned].count(self.for_you[name]) > 1:
            return  # then the one that is unread for longer
        self.world.frontend.press(b"\x1ba")
        self.before = self.front
        assert self.taken() == self._comes(name)

    def mute(self) -> None:
        if self.front:
            self.muted ^= {self.front}
            self.world.pane(self.front).backlog.muted = self.front in self.muted

    def hear(self) -> None:
        if not self.rooms:
            return
        name = self.rng.choice(sorted(self.rooms))
        self.said += 1
        mention = self.rng.random() < 0.1
        text = f"{'Mel ' * mention}{self.said}"
        self.world.say(name, text)
        lines = self.taken()
        if name == self.front:
            assert lines == [f"Bob: {text}"]
            return
        self.for_you[name] += mention
        if lines:
            assert lines == [f"[{self.rooms[name]}:{name}] Bob: {text}"]
            assert mention or (not self.waiting[name] and name not in self.muted)
        else:
            assert not mention
            self.waiting[name].append(text)

    def wait(self) -> None:
        self.world.wait(self.rng.choice([0.5, 5.0, 70.0]))
        self.check_counts(self.taken())

    def check_counts(self, lines: list[str]) -> None:
        """Lines that count what waits in the background."""
        for line in lines:
            found = re.fullmatch(r"-- (\d+):(\w+): (\d+) more messages? \(.*\) --", line)
            assert found is not None, line
            number, name, unread = found.groups()
            assert name != self.front and name not in self.muted
            assert (self.rooms[name], len(self.waiting[name])) == (int(number), int(unread))

    def taken(self) -> list[str]:
        """What was written; the prompt must be true."""
        return self.world.frontend.taken()

    def check_prompt(self) -> None:
        if not self.rooms:
            assert self.world.rooms.front is None
            return
        others = [name for name in self.rooms if name != self.front]
        mark = " "
        if any(self.waiting[name] for name in others):
            mark = "*"
        if any(self.for_you[name] for name in others):
            mark = "!"
        number = self.rooms[self.front]
        prompt = f"{number}:{self.front}{mark}> " if others else f"{self.front}> "
        assert self.world.frontend.prompts[-1] == prompt


@pytest.mark.parametrize("seed", range(12))
def test_rooms_are_as_a_list_says(seed: int) -> None:
    """Each message is shown once, or counted once, in its order; the prompt is always true."""
    model = Model(Random(seed))
    steps = [
        (model.join, 4), (model.leave, 3), (model.leave_all, 1), (model.switch, 12),
        (model.loudest, 4), (model.mute, 2), (model.hear, 60), (model.wait, 6),
    ]  # fmt: skip
    try:
        for step in model.rng.choices([one for one, _ in steps], [w for _, w in steps], k=1_000):
            step()
            model.check_prompt()
            model.world.wait(0.25)  # nobody is too fast
            model.check_counts(model.taken())
        assert model.said > 300 and model.entered > 10
    finally:
        model.world.loop.close()


# -- drafts ----------------------------------------------------------------------------------------

KEYS = (
    b"a", b"b", b" ", b"word", b"\x7f", b"\x1b[D", b"\x1b[C", b"\x01", b"\x05", b"\x0b", b"\x17",
    b"\x19", b"\x1f", b"\x1b[A", b"\x1b[B",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_drafts_survive_a_thousand_switches(seed: int) -> None:
    """Each room against an editor of its own; what was cut is common to all."""
    rng = Random(seed)
    world = Several()
    lines = ["the first line", "one more", "the newest"]
    world.frontend.editor = Editor(80, 24, history=lines)
    names = ["a", "b", "c", "d"]
    for name in names:
        world.enter(name)
    alone = {name: Editor(80, 24, history=lines) for name in names}
    screen, front = world.frontend, "d"
    for step in range(1_000):
        killed = alone[front].line.killed
        front = rng.choice([name for name in names if name != front])
        world.rooms.switch(world.pane(front))
        mine = alone[front]
        mine.line.killed = killed
        mine.line.begin(killing=False, typing=False)
        for key in rng.choices(KEYS, k=rng.randrange(8)):
            screen.press(key)
            list(mine.feed(key, 0.0))
        assert (screen.editor.text, screen.editor.cursor) == (mine.text, mine.cursor), step
    world.loop.close()


def test_the_day_is_told_once_before_the_first_message_of_it(world: Several) -> None:
    """Whatever room it comes in, without a label; a kept message is of the day when it came."""
    world.style.stamps = stamps = Stamps("HH:MM", lambda: world.wall)
    two(world)
    world.wall += 86_400
    day, at = f"-- {stamps.day()} --", stamps.line()
    world.say("garden", "morning")
    world.say("lab", "morning")
    world.say("garden", "again")
    assert world.frontend.taken() == [
        day, f"{at}[2:garden] Bob: morning", f"{at}Bob: morning", f"{at}[2:garden] Bob: again",
    ]  # fmt: skip
    world.say("garden", "shown")
    world.say("garden", "kept")
    world.wall += 86_400
    later = f"-- {stamps.day()} --"
    world.say("lab", "next day")
    world.frontend.taken()
    world.rooms.switch(world.pane("garden"))
    assert world.frontend.taken() == ["-- 2:garden --", day, f"{at}Bob: kept"]
    world.say("garden", "now")
    assert world.frontend.taken() == [later, f"{stamps.line()}Bob: now"]


def test_the_place_in_the_history_belongs_to_the_room(world: Several) -> None:
    """A half-typed line that was set aside by Up follows into no other room; a search ends."""
    two(world)
    screen = world.frontend
    screen.press(b"one\rtwo\rhalf\x1b[A")
    assert screen.editor.text == "two"
    screen.press(b"\x1b2\x1b[B")
    assert screen.editor.text == ""
    screen.press(b"three\r\x12on\x1b1")  # Ctrl-R has found "one"
    assert screen.editor.search is None and screen.editor.text == "two"
    screen.press(b"\x1b[B\x1b[B")
    assert screen.editor.text == "half"
    screen.press(b"\x1b2")
    assert screen.editor.text == "one"
    world.rooms.leave_all()
    screen.press(b"\x1b[B")
    assert screen.editor.text == ""


def test_alt_arrows_go_round_and_alt_a_rings(world: Several) -> None:
    for name in "abc":
        world.enter(name)
    world.pane("b").chat.leave()
    right, left = b"\x1b[1;3C", b"\x1b[1;3D"
    steps = [(right, "a"), (right, "c"), (left, "a"), (left, "c")]
    for key, there in [*steps, (b"\x1b3", "c"), (b"\x1b2", "c"), (b"\x1b9", "c")]:
        world.frontend.press(key)
        assert world.rooms.front is world.pane(there)
    world.frontend.press(b"\x1ba")
    assert world.frontend.rung == 1
    for name in ("a", "d", "e"):
        if name != "a":
            world.enter(name)
    for name in ("d", "a"):  # each has one unread, the first for longer
        for n in range(4):
            world.say(name, f"n{n}")
        world.wait(1.0)
    world.frontend.press(b"\x1ba")
    assert world.rooms.front is world.pane("d")


def test_a_single_room_has_all_of_the_history_and_several_a_share(world: Several) -> None:
    for n in range(16):
        world.enter(f"r{n}")
        share = min(4_096, 16_384 // (n + 1))
        assert {room.session.share for room in world.lives.values()} == {share}
    for n in range(15):
        world.pane(f"r{n}").chat.leave()
    assert world.lives["r15"].session.share == 4_096
