"""Chats side by side: who speaks, who reads, whose CPU counts. Shared by fanout and growth.

All chats of a measurement are up at the same time and say the same text in turns, five lines a
second each, so that all of them see the same machine.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from bench.harness import build, machine
from bench.harness.common import Context, Row
from bench.harness.processes import (
    ROOT,
    Failed,
    end,
    environment,
    pinned,
)
from bench.load.chatroom import (
    EvloopMember,
    Listeners,
    sockets_at,
)
from bench.load.irc import SERVERS, Channel

HERE = Path(__file__).resolve().parents[1]
PERIOD_S = 0.2  # the room's own limit is five messages a second
TEXT = "Good morning, everybody. Coffee is ready"


class Chat:
    """One chat under measurement: how to speak, whose CPU counts, who else's is shown."""

    def __init__(
        self, say: Callable[[str], None], drain: Callable[[bytes], int], sender: int
    ) -> None:
        self.say, self.drain, self.sender = say, drain, sender
        self.receivers: list[int] = []


def speak(
    context: Context,
    members: int,
    messages: int,
    port: int,
    size: int = len(TEXT),
    *,
    bare: bool = False,
) -> Row:
    """Figures of `bench/load/speaker.py`: a session's lines, one right after the other."""
    command = [context.python, "-S", HERE / "load" / "speaker.py", members, messages, port, size]
    command += ["bare"] if bare else []
    done = subprocess.run(
        [str(part) for part in command],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=pinned(machine.cores()[0]),
        check=False,
    )
    if done.returncode:
        raise Failed(f"speaker: {done.stderr.strip()[-300:]}")
    figures: Row = json.loads(done.stdout)
    return figures


def relay(chat: Chat, members: int, text: str, messages: int) -> float:
    """CPU us of a relaying server per line, each sent when all members have had the last."""
    needle = text[:12].encode()
    begin = machine.cpu_ns(chat.sender)
    for _ in range(messages):
        chat.say(text)
        arrived = 0
        deadline = time.monotonic() + 5
        while arrived < members:
            arrived += chat.drain(needle)
            if time.monotonic() > deadline:
                raise Failed(f"a line came to {arrived} of {members} members")
    return (machine.cpu_ns(chat.sender) - begin) / 1000 / messages


def open_irc(
    context: Context, stack: ExitStack, members: int, names: Iterable[str] = SERVERS
) -> dict[str, Chat]:
    """The IRC servers that can be had, or those of them in `names`, each with its members."""
    chats = {}
    for name in names:
        try:
            server = stack.enter_context(SERVERS[name](context))
            channel = stack.enter_context(Channel(server, members))
        except (build.Missing, Failed, OSError) as reason:
            context.missing[name] = str(reason)
            continue
        chats[name] = Chat(channel.say, channel.drain, server.pid)
    return chats


def open_sender(context: Context, stack: ExitStack, listeners: int) -> Chat:
    """A real evloop client that speaks to `listeners` sockets."""
    room = stack.enter_context(Listeners(max(listeners, 1)))
    core = machine.cores()[0]
    port = room.port if listeners else None
    sender = stack.enter_context(EvloopMember(context, "speaker", port=port, core=core))
    return Chat(sender.say, room.drain, sender.pid)


def open_members(context: Context, stack: ExitStack, count: int) -> Chat:
    """The same with real clients as members (and one socket that counts what arrives)."""
    chat_room = stack.enter_context(Listeners(1))
    port = chat_room.port
    members = []
    for number in range(count):
        member = EvloopMember(context, f"m{number}", port=port, wait=False)
        members.append(stack.enter_context(member))
    for number, member in enumerate(members):
        member.wait_joined(number + 2, at_most_s=30)
    core = machine.cores()[0]
    sender = stack.enter_context(EvloopMember(context, "speaker", port=port, core=core))
    chat = Chat(sender.say, chat_room.drain, sender.pid)
    chat.receivers = [member.pid for member in members]
    return chat


def open_floor(context: Context, stack: ExitStack, count: int) -> Chat:
    """A program that only sends what it is told, to `count` that only receive."""
    room = stack.enter_context(Listeners(1))

    def start(
        module: str, stdin: int, prepare: Callable[[], None] | None = None
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [context.python, "-S", "-m", f"bench.peers.{module}", str(room.port)],
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
            env=environment(),
            preexec_fn=prepare,  # noqa: PLW1509
        )
        stack.callback(end, process)
        return process

    for _ in range(count):
        start("reader", subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while len(sockets_at(room.port)) < count + 1:
        if time.monotonic() > deadline:
            raise Failed(f"{count} readers did not start")
        time.sleep(0.05)
    sender = start("sender", subprocess.PIPE, pinned(machine.cores()[0]))

    def say(text: str) -> None:
        assert sender.stdin is not None
        sender.stdin.write(text.encode() + b"\n")
        sender.stdin.flush()

    return Chat(say, room.drain, sender.pid)


def measure(chats: dict[str, Chat], text: str, windows: int, messages: int) -> dict[str, list[Row]]:
    """Say `text` in turns; for each chat and window: CPU us per message, and what arrived."""
    needle = text[:12].encode()
    found: dict[str, list[Row]] = {name: [] for name in chats}
    for window in range(windows + 1):  # the first warms up and is not kept
        count = messages if window else 3
        before = {name: _clocks(chat) for name, chat in chats.items()}
        softirq = machine.ksoftirqd_ns()
        arrived = dict.fromkeys(chats, 0)
        for _ in range(count):
            turn = time.monotonic()
            for chat in chats.values():
                chat.say(text)
                _drain_until(chats, needle, arrived, turn, PERIOD_S * 0.8 / len(chats))
                turn = time.monotonic()
            _drain_until(chats, needle, arrived, turn, PERIOD_S * 0.2)
        _drain_until(chats, needle, arrived, time.monotonic(), 0.3)
        softirq = machine.ksoftirqd_ns() - softirq
        for name, chat in chats.items():
            sender, receivers = (
                (now - then) / 1000 / count for now, then in zip(_clocks(chat), before[name])
            )
            row = {"us": sender, "receivers_us": receivers, "arrived": arrived[name] / count}
            row["ksoftirqd_us"] = softirq / 1000 / count / len(chats)
            if window:
                found[name].append(row)
    return found


def _clocks(chat: Chat) -> tuple[int, int]:
    return machine.cpu_ns(chat.sender), sum(machine.cpu_ns(pid) for pid in chat.receivers)


def _drain_until(
    chats: dict[str, Chat], needle: bytes, arrived: dict[str, int], begin: float, wait_s: float
) -> None:
    while True:
        for name, chat in chats.items():
            arrived[name] += chat.drain(needle)
        left = begin + wait_s - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(0.01, left))
