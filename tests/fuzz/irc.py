"""The IRC door against a model of its clients: whatever is typed and happens, they see the truth.

    python3 -m tests.fuzz.irc --steps 500000 [--seed N]

One step is a line of a client (sensible, broken or hostile), something that happens in a room, an
answer of the directory, or time. Nothing may raise; every line to a client is UTF-8, has at most
512 bytes without its tags, and no control character but those of ACTION and CTCP. Each client
believes the JOIN, PART and NICK lines that it gets, as IRC clients do; whenever it asks NAMES, the
answer must be what it believes already. The seed replays a run.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random

from evloop.base.errors import Refused
from evloop.irc.commands import COMMANDS
from evloop.irc.limits import SENT_BYTES_MAX
from evloop.room.events import (
    ME,
    TEXT,
    Blocked,
    Conflict,
    Deaf,
    Fault,
    Foreign,
    Full,
    Lost,
    Trouble,
    Unheard,
)
from tests.irc.world import Away, PlayedRoom, User, World

NICKS = ["Ann", "ann", "Bob", "Änn", "ＡＮＮ", "Mel", "mel~", "a_b", "Straße", "STRASSE"]
NAMES = [
    *NICKS,
    "a,b",
    "a*b",
    "#ann",
    "",
    "x" * 40,
    "Ann~3f2a",
    "~x",
    "evil name",
    "a:b",
    "ﬁ",
    "\x07",
]
CHANNELS = ["#lab", "#LAB", "#日本", "#garden", "#a,#b", "lab", "#", "&lab", "0", "#lab,#garden"]
TEXTS = [
    "hello", "", " ", "\x01ACTION waves\x01", "\x01VERSION\x01", "\x01DCC SEND x\x01", "\x02bold",
    "\x0304,99colour", "\x04ff00ff,00", "日本" * 120, "x" * 505, "word " * 90, "🎉" * 100,
    "\x00\x07", "a\x01b", ":colon", "\u202eevil", "\ud7ff",
]  # fmt: skip
TOLD = [*TEXTS, "two\nlines", "\n\n\n", "long " * 700, "é" * 3_000, "\r\nQUIT :x", "x\ud800y"]
TIMES = ["timestamp=2026-09-21T14:13:20.000Z", "timestamp=now", "msgid=x", "*", "timestamp=1970-01"]
WORDS = ["LATEST", "BEFORE", "AFTER", "AROUND", "BETWEEN", "TARGETS", "what", "latest"]
CAPS = [
    "batch", "server-time", "message-tags", "echo-message", "extended-join", "draft/chathistory",
    "userhost-in-names", "-batch", "sasl",
]  # fmt: skip
SENDERS = [bytes([200 + number]) * 6 + b"\x3f" + bytes([number]) for number in range(12)]
ALLOWED = {1}  # of the controls, in ACTION and CTCP


class Believer(User):
    """A client that believes what it is told: who is in which channel."""

    def __init__(self, user: User) -> None:
        super().__init__(user.world, user.client)
        self.channels: dict[str, set[str]] = {}
        self.named: dict[str, set[str]] = {}
        self.fresh: set[str] = set()  # channels of which no names came yet
        self.nick = ""
        self.compared = 0

    def read(self) -> None:
        data, self.wire.data = self.wire.data, b""
        for line in data.split(b"\r\n")[:-1]:
            if line.startswith(b"@"):
                line = line.partition(b" ")[2]
            assert len(line) <= SENT_BYTES_MAX - 2, line
            text = line.decode()
            assert not {ord(char) for char in text if ord(char) < 32} - ALLOWED, text
            self.believe(text)

    def believe(self, line: str) -> None:
        source, _, rest = line.removeprefix(":").partition(" ")
        nick = source.partition("!")[0].lower()
        words = rest.partition(" :")[0].split()
        last = rest.partition(" :")[2]
        if not line.startswith(":"):
            assert line.startswith("ERROR "), line
        elif words[0] == "001":
            self.nick = words[1].lower()
        elif words[0] == "JOIN":
            channel = words[1]
            if nick == self.nick:
                assert channel not in self.channels, f"entered twice: {line}"
                self.channels[channel] = set()
                self.fresh.add(channel)
            assert nick not in self.channels[channel], f"joined twice: {line}"
            self.channels[channel].add(nick)
        elif words[0] == "PART":
            assert nick in self.channels[words[1]], f"was not there: {line}"
            self.channels[words[1]].remove(nick)
            if nick == self.nick:
                del self.channels[words[1]]
                self.fresh.discard(words[1])
        elif words[0] == "NICK":
            self.renamed(nick, last.lower(), line)
        elif words[0] == "353":
            names = {name.partition("!")[0].lower() for name in last.split()}
            self.named.setdefault(words[3], set()).update(names)
        elif words[0] == "366" and words[2] in self.named:
            names = self.named.pop(words[2])
            believed = self.channels[words[2]]
            if words[2] in self.fresh:  # these are the first names that it hears
                self.fresh.remove(words[2])
                self.channels[words[2]] = names
            else:
                assert names == believed, f"{words[2]}: {sorted(names)} {sorted(believed)}"
                self.compared += 1

    def renamed(self, old: str, new: str, line: str) -> None:
        if old == self.nick:
            self.nick = new
        for members in self.channels.values():
            if old in members:
                members.remove(old)
                assert new not in members, f"there already: {line}"
                members.add(new)


class Run:
    """One door, up to six clients, and everything that can happen to them."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(seed)
        self.world = World(password=rng.choice(["", "", "", "secret"]), shares=rng.random() < 0.8)
        self.world.makes = rng.random() < 0.9
        self.users: list[Believer] = []
        self.present: dict[int, dict[bytes, str]] = {}  # of each room live: sender -> name
        self.compared = 0

    def step(self) -> None:
        rng = self.rng
        rng.choice(
            [self.type, self.type, self.type, self.happen, self.happen, self.happen, self.outside]
        )()
        for user in self.users:
            user.read()
        if rng.random() < 0.05:
            self.compare()

    def compare(self) -> None:
        """Each client asks for the names of its channels."""
        for user in self.users:
            if not user.client.busy:
                user.say(*[f"NAMES {channel}" for channel in user.channels])
                user.read()

    # -- clients ---------------------------------------------------------------------------------

    def type(self) -> None:
        rng = self.rng
        if len(self.users) < 2 or (len(self.users) < 6 and rng.random() < 0.05):
            user = Believer(self.world.connect())
            self.users.append(user)
            self.enter(user)
            return
        user = rng.choice(self.users)
        if rng.random() < 0.01:
            self.world.door.gone(user.client)
        if user.client.closed:
            self.compared += user.compared
            self.users.remove(user)
            return
        line = self.line()
        data = line.encode(errors="replace")
        if rng.random() < 0.02:
            data = bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
        self.world.door.line(user.client, data.replace(b"\n", b" "))

    def enter(self, user: User) -> None:
        caps = self.rng.sample(CAPS[:-2], self.rng.randrange(6))
        if caps:
            user.say(f"CAP REQ :{' '.join(caps)}")
        if self.rng.random() < 0.9:
            user.say("PASS secret")
        user.say(f"NICK {self.rng.choice(NICKS[:4])}", "USER u 0 * :A user", "CAP END")
        if self.rng.random() < 0.8:
            user.say("JOIN #lab")

    def line(self) -> str:
        rng = self.rng
        channel, text = rng.choice(CHANNELS), rng.choice(TEXTS)
        nick = rng.choice([*NAMES, "Ann~3f2a", *(f"Mel~3f{number:02x}" for number in range(3))])
        makers = [
            lambda: f"JOIN {channel}",
            lambda: f"PART {channel} :{text[:100]}",
            lambda: f"PRIVMSG {channel} :{text}",
            lambda: f"NOTICE {rng.choice([channel, nick])} :{text}",
            lambda: f"PRIVMSG {nick} :{text}",
            lambda: f"NICK {nick}",
            lambda: f"NAMES {channel}",
            lambda: f"WHO {rng.choice([channel, nick])}",
            lambda: f"WHOIS {nick}",
            lambda: f"MODE {channel} {rng.choice(['', 'b', '+o x', '+b', 'I'])}",
            lambda: (
                f"CHATHISTORY {rng.choice(WORDS)} {channel} {rng.choice(TIMES)} "
                f"{rng.choice(TIMES)} {rng.choice(['10', '0', 'x', '500'])}"
            ),
            lambda: f"CAP REQ :{rng.choice(CAPS)}",
            lambda: f"AWAY :{text}",
            lambda: f"LIST {channel}",
            lambda: f"USERHOST {nick} {nick}",
            lambda: f"@tag=1;+x={text[:20]} PRIVMSG {channel} :{text}",
            lambda: f"{rng.choice(list(COMMANDS))} {rng.choice([channel, nick, text])}",
            lambda: f":{nick} {rng.choice(list(COMMANDS))} {channel} {nick} :{text}",
        ]
        return rng.choice(makers)()

    # -- rooms -----------------------------------------------------------------------------------

    def happen(self) -> None:
        rng = self.rng
        rooms = [room for room in self.world.live if not room.is_left and room.started]
        if not rooms:
            return
        room = rng.choice(rooms)
        present = self.present.setdefault(id(room), {})
        sender, name = rng.choice(SENDERS), rng.choice(NAMES)
        if rng.random() < 0.4:
            self.speak(room, present, sender, name)
        elif sender not in present:
            present[sender] = name
            room.joins(sender, name)
        elif rng.random() < 0.5:
            old, present[sender] = present[sender], name
            room.renames(sender, old, name)
        else:
            room.leaves(sender, present.pop(sender), rng.choice(["bye", "silent"]))

    def speak(self, room: PlayedRoom, present: dict[bytes, str], sender: bytes, name: str) -> None:
        rng = self.rng
        if rng.random() < 0.15:
            room.happen(
                rng.choice(
                    [
                        Lost("lost", sender, name, 3),
                        Conflict("conflict", sender, name, 1),
                        Unheard("unheard", sender, name),
                        Trouble("trouble", "network \x07 unreachable"),
                        Blocked("blocked", 3),
                        Deaf("deaf", 3),
                        Foreign("foreign", "plain"),
                        Full("full", "gaps"),
                        Fault("fault", "oops"),
                    ]
                )
            )
            return
        mark = rng.choice(["", "", "", "history", "late", "early", "plain"])
        room.session.whole = rng.random() < 0.5
        room.refuses = Refused(1, "too_fast", "slowly") if rng.random() < 0.1 else None
        wall = rng.choice([0, 1, int(self.world.wall()), 4_000_000_000])
        who = b"" if mark == "plain" else sender
        said_name = "" if mark == "plain" else present.get(sender, name)
        room.heard(who, said_name, rng.choice(TOLD), rng.choice([TEXT, ME]), mark=mark, wall=wall)

    # -- the rest of the world -------------------------------------------------------------------

    def outside(self) -> None:
        rng, world = self.rng, self.world
        chance = rng.random()
        if chance < 0.5:
            world.pass_time(rng.choice([0.1, 0.4, 1.5, 11.0]))
        elif chance < 0.7:
            waiting, world.delayed = world.delayed or [], None
            for answer in waiting:
                answer()
            if rng.random() < 0.5:
                world.delayed = []
        elif chance < 0.8:
            world.refuses = Away("away") if world.refuses is None and rng.random() < 0.3 else None
        elif chance < 0.9:
            world.door.room_deleted(rng.choice(["lab", "garden", "nowhere"]))
        else:
            world.door.notice_all("the directory is back")


def run(seed: int, steps: int) -> int:
    """`steps` steps in runs of at most 500; how often the names were compared."""
    compared = 0
    for start in range(0, steps, 500):
        this = Run(seed * 1_000_003 + start)
        for number in range(min(500, steps - start)):
            try:
                this.step()
            except Exception as error:
                raise AssertionError(f"seed {seed}, step {start + number}") from error
        compared += this.compared + sum(user.compared for user in this.users)
    return compared


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    began = time.process_time()
    done, seed, compared = 0, options.seed, 0
    while done < options.steps:
        steps = min(5_000, options.steps - done)
        compared += run(seed, steps)
        done += steps
        seed += 1
        print(f"\r{done} steps, next seed {seed}", end="", file=sys.stderr, flush=True)
    print(f"\n{done} steps, {compared} lists of names, {time.process_time() - began:.1f} s CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
