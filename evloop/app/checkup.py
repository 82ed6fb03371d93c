"""The command `doctor`: what is looked at, how it is told, and `--watch`.

    state      first look done    30 s        10 s                 the time of --watch is up
    looking    told; -> over, or  -           -                    -
               -> watching
    watching   -                  look again  ask the members      -> over

While it watches it stays in the group all the time: a switch that forgets would else be reminded.
"""

from __future__ import annotations

import os
from random import Random

from evloop.app.advice import LEVELS, lines_of, status_of, summary
from evloop.app.commands import UsageError
from evloop.app.diagnosis import Evidence, Finding, diagnose
from evloop.app.doctor import Examination, Place, Setting
from evloop.app.limits import (
    DOCTOR_EVERY_S,
    DOCTOR_MEMBERS_EVERY_S,
    DOCTOR_POLL_S,
    DOCTOR_WATCH_S,
    DOCTOR_WATCH_S_MAX,
)
from evloop.base.errors import FAILED, EvloopError, Refused
from evloop.base.names import asked_room_name, display, fold, quoted, split_place
from evloop.directory.client import IDLE, READY, Unreachable
from evloop.directory.protocol import RELIABLE
from evloop.net.counters import read, tables_of
from evloop.net.interfaces import choose_interface
from evloop.net.multicast import open_receiver, receive
from evloop.system.timers import NEVER, nothing
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evloop.app.chat import Chat
    from evloop.app.shell import Client
    from evloop.directory.client import DirectoryClient
    from evloop.system.loop import Watch

    Tell = Callable[[str], object]

QUERY_BYTES = 36  # IP with the option "router alert", and IGMPv3 (RFC 3376, 4.1)
_WORST = {"ok": 0, "note": 1, "unknown": 2, "bad": 3}


def watch_seconds(options: dict[str, str]) -> float:
    """Of `--watch [S]`; 0.0 without it. UsageError."""
    text = options.get("--watch")
    if text is None:
        return 0.0
    if not text or text == "--watch":
        return DOCTOR_WATCH_S
    whole, _, part = text.partition(".")
    good = (whole + part).isascii() and (whole + part).isdigit() and len(text) <= 9
    if not good or not 0 < float(text) <= DOCTOR_WATCH_S_MAX:
        raise UsageError(f'doctor: --watch takes a number of seconds, not "{quoted(text)}"')
    return float(text)


def place_asked(word: str | None, connected: bool) -> Place:
    """What ROOM or ADDRESS:PORT of the command names; Refused."""
    if not word:
        return Place()
    try:
        place = split_place(word)
    except Refused:
        if not connected:
            raise
        place = None  # a room may be called 1.2.3.4:80
    if place is not None:
        return Place(word, *place)
    name = asked_room_name(word)
    return Place(name, listed=connected)


class Checkup:
    """One run of the command. `show(line)` prints a finding, `note(line)` what is said beside;
    `done(status, error)` is called once, unless it is stopped."""

    __slots__ = (
        "_as_json",
        "_done",
        "_ends",
        "_examination",
        "_held",
        "_joined",
        "_known",
        "_mcast",
        "_next_look",
        "_note",
        "_place",
        "_poll",
        "_setting",
        "_show",
        "_since",
        "_timer",
        "_watch_s",
        "_worst",
        "time_of_day",
    )

    def __init__(
        self,
        setting: Setting,
        place: Place,
        *,
        watch_s: float,
        as_json: bool,
        show: Tell,
        note: Tell,
        time_of_day: Callable[[], str],
        done: Callable[[int, EvloopError | None], object],
    ) -> None:
        self._setting = setting
        self._place = place
        self._watch_s = watch_s
        self._as_json = as_json
        self._show = show
        self._note = note
        self._done = done
        self.time_of_day = time_of_day
        self._examination: Examination | None = None
        self._known: dict[str, list[Finding]] = {}  # by topic, as they were told
        self._worst: list[Finding] = []
        self._held: Watch | None = None  # the group that is not left
        self._joined = self._since = setting.loop.now
        self._ends = self._next_look = NEVER
        self._timer = setting.loop.call_at(NEVER, self._on_timer)
        self._poll = setting.loop.call_at(NEVER, self._look_for_a_query)
        self._mcast: tuple[int, int] | None = None  # packets and bytes to groups, so far

    def begin(self, error: EvloopError | None) -> None:
        """Look; `error`: why there is no directory."""
        self._look(error)

    def give_up(self) -> None:
        """Who waits is told that it ended without a finding."""
        self.stop()
        self._done(FAILED, Refused(1, "given_up", "given up"))

    def stop(self) -> None:
        """End at once; nobody is told."""
        if self._examination is not None:
            self._examination.stop()
        if self._held is not None:
            self._held.close()
        self._timer.cancel()
        self._poll.cancel()

    def _end(self, error: EvloopError | None) -> None:
        self.stop()
        if error is not None:
            self._done(error.exit_status, error)
            return
        findings = self._worst or [one for told in self._known.values() for one in told]
        if self._as_json:
            bad, unknown = (sum(one.level == it for one in findings) for it in ("bad", "unknown"))
            assert self._examination is not None
            interface = self._examination.evidence.interface
            room = self._place.name
            self._show(report.json_line("doctor", room=room, interface=interface, bad=bad,
                                        unknown=unknown))  # fmt: skip
        else:
            self._note(f"evloop: doctor: {summary(findings)}")
        self._done(status_of(findings), None)

    # -- looking ---------------------------------------------------------------------------------

    def _look(self, error: EvloopError | None = None) -> None:
        self._examination = Examination(self._setting, self._place, self._say, self._looked)
        self._examination.begin(error)

    def _say(self, text: str) -> None:
        if not self._as_json:
            self._note(report.note(display(text)))

    def _looked(self, evidence: Evidence, error: EvloopError | None) -> None:
        if error is not None:
            self._end(error)
            return
        findings = diagnose(evidence)
        if not self._known:
            for finding in findings:
                self._tell(finding, lines_of(finding))
            self._remember(findings)
            if not self._watch_s:
                self._end(None)
                return
            self._begin_watch(evidence)
        else:
            self._tell_changes(findings)
        self._worst = max(self._worst, findings, key=_badness)
        self._schedule()

    def _remember(self, findings: Sequence[Finding]) -> None:
        topics = dict.fromkeys(one.topic for one in findings)
        for topic in topics:
            self._known[topic] = [one for one in findings if one.topic == topic]

    def _tell(self, finding: Finding, lines: Sequence[str]) -> None:
        if self._as_json:
            self._show(
                report.json_line(
                    "finding",
                    id=finding.id,
                    level=finding.level,
                    what=finding.what,
                    do=finding.do,
                    evidence=finding.evidence,
                )
            )
            return
        for line in lines:
            self._show(line)

    # -- watching --------------------------------------------------------------------------------

    def _begin_watch(self, evidence: Evidence) -> None:
        loop = self._setting.loop
        self._joined = loop.now
        self._ends = loop.now + self._watch_s
        if evidence.querier == 3:
            self._poll.move(loop.now)
        assert self._examination is not None
        group, port = self._examination.group
        if not group:
            return
        link = self._setting.link
        interface = choose_interface(group, self._setting.wanted, link.address)
        sock = open_receiver(group, port, interface)
        self._held = loop.watch(sock, lambda: receive(sock), release=sock.close)

    def _look_for_a_query(self) -> None:
        """A general query of IGMPv3 has 36 bytes and comes alone: nothing else tells of it."""
        found = tables_of(read("/proc/net/netstat"))
        seen = found.get("IpExt.InMcastPkts", 0), found.get("IpExt.InMcastOctets", 0)
        packets, octets = (now - before for now, before in zip(seen, self._mcast or seen))
        self._mcast = seen
        loop = self._setting.loop
        if (packets, octets) == (1, QUERY_BYTES) and "querier" in self._known:
            what = f"an IGMP v3 querier spoke, {loop.now - self._joined:.0f} s after joining"
            self._tell_changes([Finding("querier", "querier_v3", "note", what, "", {"version": 3})])
            return
        self._poll.move(loop.now + DOCTOR_POLL_S)

    def _schedule(self) -> None:
        now = self._setting.loop.now
        if self._next_look == NEVER or self._next_look <= now:
            self._next_look = now + DOCTOR_EVERY_S
        due = min(now + DOCTOR_MEMBERS_EVERY_S, self._next_look, self._ends)
        self._timer.move(due)

    def _on_timer(self) -> None:
        now = self._setting.loop.now
        if now >= self._ends:
            self._end(None)
        elif now >= self._next_look or not self._place.name:
            self._look()
        else:
            self._examination = Examination(self._setting, self._place, self._say, self._asked)
            self._examination.begin_asking(*self._group())

    def _group(self) -> tuple[str, int]:
        assert self._examination is not None
        return self._examination.group

    def _asked(self, evidence: Evidence, error: EvloopError | None) -> None:
        """The members were asked alone: nothing else is known anew."""
        if error is None:
            self._tell_changes([one for one in diagnose(evidence) if one.topic == "members"])
        self._schedule()

    def _tell_changes(self, findings: Sequence[Finding]) -> None:
        for topic in dict.fromkeys(one.topic for one in findings):
            told = [one for one in findings if one.topic == topic]
            before = self._known.get(topic, [])
            if [(one.id, one.level) for one in told] == [(one.id, one.level) for one in before]:
                continue
            for finding in told:
                if finding not in before:
                    self._tell(finding, self._change(finding, before))
        self._remember(findings)

    def _change(self, finding: Finding, before: Sequence[Finding]) -> list[str]:
        what = finding.what
        heard = any(one.level in ("ok", "note") for one in before)
        if finding.topic == "receiving" and finding.level == "bad" and heard:
            after = self._setting.loop.now - self._joined
            what = f"the directory is not heard any more, {after:.0f} s after joining; {what}"
        line = (
            f"{self.time_of_day()} {LEVELS[finding.level]} {finding.topic}: {quoted(what, 2_000)}"
        )
        return [line, *lines_of(finding)[1:]]


def _badness(findings: Sequence[Finding]) -> int:
    return max((_WORST[one.level] for one in findings), default=-1)


# -- for the client --------------------------------------------------------------------------------


def begin(
    client: Client,
    arguments: list[str],
    options: dict[str, str],
    done: Callable[[EvloopError | None], object],
) -> None:
    """The command at the prompt, or alone. Raises EvloopError when it cannot even begin."""
    link, error = client.link, client.link.failure
    watch_s = watch_seconds(options)
    place = place_asked(arguments[0] if arguments else None, link.state == READY)
    error = error or _away(link)
    known = client.prompt.rooms.get(fold(place.name)) if link.state != READY else None
    if known is not None:
        place = Place(place.name, known.address, known.port, reliable=known.mode == RELIABLE)

    def over(status: int, failure: EvloopError | None) -> None:
        if failure is None and (client.options.command or not client.frontend.is_terminal):
            client.status = client.status or status
        done(failure)

    frontend = client.frontend
    _start(client, place, watch_s, frontend.show, frontend.note, over, error)


def begin_in_room(client: Client, chat: Chat) -> None:
    """`/doctor`: the room goes on meanwhile. Refused: it is at work already."""
    if client.checkup is not None:
        raise Refused(1, "busy", "doctor: it is still looking; its findings come by themselves")

    def note(text: str) -> None:
        if not chat.over:  # else it was left meanwhile
            chat.view.note(text, "answer")

    def over(status: int, failure: EvloopError | None) -> None:
        if failure is not None:
            note(f"evloop: doctor: {failure}")

    def counted(members: int) -> None:
        if not chat.over and client.checkup is None:
            others = max(0, members - 1)
            # Members of a sealed room answer nobody who has no key, as this probe has none.
            asked = chat.mode == RELIABLE
            place = Place(chat.name, *chat.place, counted=others, reliable=asked)
            _start(client, place, 0.0, note, note, over, _away(client.link))

    chat.count(counted)


def _away(link: DirectoryClient) -> EvloopError | None:
    """Why the directory cannot be asked although there is one."""
    if link.state in (READY, IDLE):
        return None
    return Unreachable(f"{link.endpoint}: it is away, and is tried again by itself")


def _start(
    client: Client,
    place: Place,
    watch_s: float,
    show: Tell,
    note: Tell,
    over: Callable[[int, EvloopError | None], object],
    error: EvloopError | None,
) -> None:
    """Begin a checkup, of which `client` knows until it is over."""
    options, link, stamps = client.options, client.link, client.style.stamps
    encrypted = link.wire is not None and link.wire.encrypted

    def done(status: int, failure: EvloopError | None) -> None:
        client.checkup = None
        link.on_give_up = nothing
        over(status, failure)

    setting = Setting(
        client.loop,
        link,
        wanted=options.interface,
        ttl=options.ttl,
        rng=Random(os.urandom(16)),
        wall=client.wall,
        own=frozenset(room.session.sender_id for room in client.live),
        known=encrypted and link.endpoint not in client.trust().new,
        relay=options.relay,
        road=client.chat.room.road if client.chat is not None else "",
    )
    client.checkup = checkup = Checkup(
        setting,
        place,
        watch_s=watch_s,
        as_json=options.json,
        show=show,
        note=note,
        time_of_day=lambda: stamps.full(client.wall())[11:19],
        done=done,
    )
    link.on_give_up = checkup.give_up
    checkup.begin(error)
