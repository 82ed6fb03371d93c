"""Chat mode: one room on the frontend of the client, or on its pane where there are several.

    state      line                   /leave, eof on a terminal   end of a pipe   all confirmed
    opening    -> talking, and as it  -> over                     -> finishing    -
    talking    say or /command        -> over                     -> finishing    -
    finishing  -                      -                           -               -> over
    over       -                      -                           -               -

`opening` is the moment after entering in which the others are first heard, so that the first line
can name them; the first event ends it. `finishing` follows the end of a pipe: no more lines come,
and leaving waits until everybody has confirmed, at most CONFIRM_S after the last datagram was sent.
When the chat is over the room still says its goodbyes by itself.
"""

from __future__ import annotations

import os

from evloop.app.commands import (
    UsageError,
    help_lines,
    mistaken,
    parse_line,
)
from evloop.app.limits import (
    ALONE_S,
    CONFIRM_SETTLE_S,
    FINISH_STALL_S,
    OPENING_S,
    PIPE_QUEUE_MAX,
    SHOWN_LINES_DEFAULT,
)
from evloop.app.view import RoomView
from evloop.base.errors import EvloopError, Refused
from evloop.base.names import check_nickname, display, fold, place_of, quoted
from evloop.directory.protocol import PLAIN, SEALED
from evloop.room.events import ME, TEXT
from evloop.room.limits import HISTORY_MESSAGES_MAX
from evloop.system.files import write_new
from evloop.system.timers import NEVER, nothing
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evloop.app.kept import Kept
    from evloop.app.style import Style
    from evloop.directory.protocol import RoomEntry
    from evloop.room.events import Event, Said
    from evloop.room.live import LiveRoom
    from evloop.system.loop import Loop
    from evloop.terminal.frontend import RoomFrontend

OPENING, TALKING, FINISHING, OVER = range(4)


class Chat:
    """What the user sees and does in `room`, and all that the client knows of it.

    `entry` is its entry in the directory, and `listed` whether it has one, so that the directory
    counts us in it; `by_name` says where it is when no directory was found: it is listed as soon as
    one comes; `plain`: it has no presence; `verbatim`: lines are messages even when they
    begin with /. `view` shows what happens.

    `on_over(chat)` is called once when the room is left, `on_renamed(name)` keeps a new name,
    `count(chat, then)` asks the directory how many are here: `then(number)`, 0 where it does not
    tell; `invitation(chat)` is what others type to come here, and whether only this machine can.
    Commands that are not about this room alone go to `on_command(word, arguments, options)`.
    `secret`: of a sealed room; `on_proven(chat)`: a member of it has its key, as we do.
    `outcome` is in the end how many members have confirmed what was said, and how many were asked.
    """

    def __init__(
        self,
        loop: Loop,
        frontend: RoomFrontend,
        room: LiveRoom,
        entry: RoomEntry,
        style: Style,
        *,
        listed: bool,
        by_name: str = "",
        on_over: Callable[[Chat], object],
        on_quit: Callable[[], object],
        on_renamed: Callable[[str], object],
        count: Callable[[Chat, Callable[[int], object]], object],
        on_doctor: Callable[[], object] = nothing,
        on_command: Callable[[str, list[str], dict[str, str]], object] = nothing,
        on_proven: Callable[[Chat], object] = nothing,
        secret: bytes | None = None,
        invitation: Callable[[Chat], tuple[list[str], bool]],
        kept: Kept,
    ) -> None:
        self.name = entry.name
        self.place = entry.address, entry.port
        self.room = room
        self.mode = entry.mode
        self.secret = secret
        self.plain = plain = entry.mode == PLAIN
        self.listed = listed
        self.by_name = by_name
        self.verbatim = False
        self.state = OPENING
        self.outcome = (0, 0)
        self.sent = 0  # datagrams with something said, counted when the room is left
        self.kept_alone = False  # nobody but the keeper of the directory has confirmed
        self.kept = kept
        self.other_key = False  # somebody was heard who has another key; known then too
        self._asked: set[str] = set()  # lines that were asked about
        self.view = RoomView(
            loop,
            frontend,
            room.session,
            entry.name,
            style,
            place=place_of(entry.address, entry.port),
            plain=plain,
            on_line=self._opened,
        )
        self.view.by_name = by_name
        self.view.kept, kept.tell = kept, self.view.remark
        self._loop = loop
        self._frontend = frontend
        self._style = style
        self._on_over = on_over
        self._on_quit = on_quit
        self._on_renamed = on_renamed
        self._count = count
        self._on_doctor = on_doctor
        self._on_command = on_command
        self._on_proven = on_proven
        self._invitation = invitation
        self._live = frontend.is_terminal and not style.as_json
        self._held = False
        self._queued = 0  # so many own messages wait for being sent, in `finishing`
        self._opening = loop.call_at(NEVER, self._opened)
        self._alone = loop.call_at(NEVER, self._look_alone)
        self._finish = loop.call_at(NEVER, self._leave_now)
        self._settle = loop.call_at(NEVER, self._check_finished)

    @property
    def over(self) -> bool:
        """Whether the room is left."""
        return self.state == OVER

    def move(self, address: str, port: int) -> None:
        """The room's sockets are at another place now: the talk goes on there."""
        self.place = address, port
        self.view.place = place_of(address, port)
        self.room.move(self.view.place)

    def start(self) -> None:
        """Begin to send and to receive in the room."""
        self.room.on_events, self.room.on_pump = self.events, self._pumped
        self._alone.move(self._loop.now + ALONE_S)
        if self.plain:
            self._opened()  # a plain room has no presence
        else:
            self._opening.move(self._loop.now + OPENING_S)
        self.room.start()

    # -- what the user does ------------------------------------------------------------------

    def line(self, text: str) -> None:
        """A typed line: a message or a /command."""
        if self.verbatim:
            if text.strip():
                self.say(text)
            return
        if self.state >= FINISHING or not text.strip():
            return
        self._opened()
        if self._live and self._asks_about(text):
            return
        if text.startswith("/") and not text.startswith("//"):
            self._command(text[1:])
            return
        self.say(text[1:] if text.startswith("//") else text, typed=text)

    def _asks_about(self, text: str) -> bool:
        """Whether a line that reads like a command of the main prompt waits to be typed again."""
        advice = mistaken(text)
        if advice is None or text in self._asked:
            return False
        self._asked.add(text)
        self._note(report.note(f"{quoted(text)}: said to everybody? {advice}; the same line once"
                               " more says it"))  # fmt: skip
        return True

    def say(self, text: str, kind: int = TEXT, typed: str = "") -> None:
        """Send `text`; when it is refused, `typed` is put back into the line."""
        try:
            self.room.say(text, kind)
        except Refused as refused:
            self._frontend.put_back(typed)
            raise EvloopError(f"not sent: {refused.sentence}") from None

    def _command(self, line: str) -> None:
        parsed = parse_line("chat", line)
        if parsed is None:
            raise UsageError("a lone / is no command; // sends it")
        command, arguments, options = parsed
        if command.word in COMMANDS:
            COMMANDS[command.word](self, arguments)
        else:
            self._on_command(command.word, arguments, options)

    def _do_leave(self, arguments: list[str]) -> None:
        if arguments:
            self._on_command("leave", arguments, {})
        else:
            self.finish()

    def _do_quit(self, arguments: list[str]) -> None:
        self._on_quit()
        self.finish()

    def _do_me(self, arguments: list[str]) -> None:
        self.say(arguments[0], ME, f"/me {arguments[0]}")

    def _do_name(self, arguments: list[str]) -> None:
        name = check_nickname(arguments[0])
        session = self.room.session
        old = session.nickname
        self.room.rename(name)
        self._on_renamed(name)
        self._note(report.renamed(old, name))
        others = session.members(self._loop.now)[1:]
        if any(fold(other) == fold(name) for _, other, _ in others):
            shown = session.label(session.sender_id, name)
            self._note(report.note(f"{name} is here already: you are shown as {shown}"))

    def count(self, then: Callable[[int], object]) -> None:
        """Ask the directory how many are here."""
        self._count(self, then)

    def _do_who(self, arguments: list[str]) -> None:
        self.count(self._tell_who)

    def _tell_who(self, counted: int) -> None:
        if self.state == OVER:
            return
        session = self.room.session
        members = session.members(self._loop.now)
        rows = [(session.label(sender, name), age) for sender, name, age in members]
        unheard = session.unheard_by()
        deaf = [at for at, (sender, _, _) in enumerate(members) if sender in unheard]
        for line in report.who_lines(self.name, rows, counted, deaf):
            self._row(line)

    def _do_history(self, arguments: list[str]) -> None:
        count = _number("history", arguments, SHOWN_LINES_DEFAULT)
        events = self.view.history(min(count, HISTORY_MESSAGES_MAX))

        def fetched(datagrams: list[bytes], error: EvloopError | None) -> None:
            if self.state == OVER:
                return
            if error is not None:
                self._note(report.older_missing(str(error)))
            self._show_history(self.view.older(datagrams, count))

        if len(events) >= count or not self.kept.fetch(count, fetched):
            self._show_history(events)

    def _show_history(self, events: Sequence[Said]) -> None:
        self._note(report.note(f"the last {report.plural(len(events), 'message')}"))
        stamps = self._style.stamps
        today = day = stamps.day()
        for event in events:
            # A plain room does not tell when it was said.
            that_day = stamps.day(event.wall) if event.wall else day
            if that_day != day:
                day = that_day
                self._note(report.note(day))
            self._row(self._line_of(event, stamps.line(event.wall) if event.wall else ""))
        self._note(report.note(f"end of history, {today}" if day != today else "end of history"))

    def _line_of(self, event: Said, stamp: str) -> str:
        label = self.view.label(event)
        line = report.message_line(label, event.kind == ME, event.text, event.mark)
        return stamp + line.replace("\n", "\n" + " " * len(stamp))

    def _do_show(self, arguments: list[str]) -> None:
        which = _number("show", arguments, 1)
        events = self.view.history(HISTORY_MESSAGES_MAX)
        if not 1 <= which <= len(events):
            there = report.plural(len(events), "message")
            raise EvloopError(f"show: there is no such message; {there} to look back on")
        for line in events[-which].text.split("\n"):
            self._frontend.show(display(line.expandtabs()))

    def _do_save(self, arguments: list[str]) -> None:
        path = os.path.expanduser(arguments[0])
        events = self.view.history(HISTORY_MESSAGES_MAX)
        full = self._style.stamps.full
        lines = [self._line_of(one, full(one.wall) if one.wall else "") + "\n" for one in events]
        try:
            write_new(path, "".join(lines))
        except FileExistsError:
            raise EvloopError(f"save: {quoted(path)} is there already; take a new name") from None
        except (OSError, ValueError) as error:  # ValueError: a null byte in the name
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise EvloopError(f"save: {quoted(path)}: {why}") from None
        saved = report.plural(len(events), "message")
        self._note(report.note(f"saved {saved} in {quoted(path, 4_096)}"))

    def _do_ignore(self, arguments: list[str]) -> None:
        if not arguments:
            names = ", ".join(map(display, self.view.ignored())) or "nobody"
            self._note(report.note(f"ignored here: {names}"))
            return
        name = arguments[0].removeprefix("-")
        if name != arguments[0]:
            if not self.view.heed(name):
                raise EvloopError(f"ignore: {quoted(name)} is not ignored; /ignore lists who is")
            self._note(report.note(f"{quoted(name)} is shown again"))
            return
        found = self.view.ignore(name)
        here = "" if found else "; nobody of that name is here now"
        self._note(report.note(f"{quoted(name)} is not shown any more on this screen{here}"))

    def _do_stats(self, arguments: list[str]) -> None:
        group, port = self.place
        where = {**self.room.way(), "group": group, "port": str(port), "mode": self.mode}
        for line in report.stats_lines({**self.room.stats(), **self.view.counts()}, where):
            self._row(line)

    def _do_doctor(self, arguments: list[str]) -> None:
        self._on_doctor()

    def _do_invite(self, arguments: list[str]) -> None:
        lines, only_here = self._invitation(self)
        self._note(report.note(report.INVITED_HERE if only_here else report.INVITED))
        for line in lines:
            self._row(f"  {display(line)}")

    def _do_help(self, arguments: list[str]) -> None:
        for line in help_lines("chat", *arguments):
            self._row(line)

    def _note(self, text: str) -> None:
        """Answer with a sentence."""
        self.view.note(text, "answer")

    def _row(self, text: str) -> None:
        """Answer with a row that is broken nowhere: to be read as a table, or copied."""
        self.view.note(text)

    # -- leaving -----------------------------------------------------------------------------

    def leave(self) -> None:
        """Leave now, whatever waits."""
        self._leave_now()

    def finish(self) -> None:
        """Leave as soon as what was said is confirmed; a person at a terminal does not wait."""
        if self.state >= FINISHING:
            return
        if self._live:
            self._leave_now()
            return
        self._opened()
        self.state = FINISHING
        self._frontend.hold(True)
        self.room.session.confirm(self._loop.now, later=True)
        self._check_finished()

    def _check_finished(self) -> None:
        """In `finishing`: whether everything is sent, and confirmed by everybody present."""
        if self.state != FINISHING:
            return
        session, now = self.room.session, self._loop.now
        sent = session.stats()["sent"]
        queued = session.queued()
        if queued:
            if queued != self._queued:
                self._finish.move(now + max(self._style.patience, FINISH_STALL_S))
            self._queued = queued
            return
        if self._queued or self._finish.when == NEVER:
            self._queued = 0
            if not sent or self.plain:  # nothing to be confirmed, or nobody who could
                self._leave_now()
                return
            # The last datagram has gone out: now they may confirm it.
            self._finish.move(now + self._style.patience)
            self._settle.move(now + CONFIRM_SETTLE_S)
            self.room.session.confirm(now)
            self._loop.defer(self.room.pump)
            return
        settled = self._settle.when == NEVER and not session.unconfirmed()
        if settled and (session.confirmers()[0] or not self._style.answered):
            self._leave_now()

    def _leave_now(self) -> None:
        if self.state == OVER:
            return
        self.view.leave()
        self._opened()
        self.outcome = self.room.session.confirmers()
        here = [sender for sender, *_ in self.room.session.members(self._loop.now)[1:]]
        self.kept_alone = self.outcome == (1, 1) and self.kept.only(here)
        stats = self.room.session.stats()
        self.sent, self.other_key = stats["sent"], stats.get("dropped_key", 0) > 0
        self.state = OVER
        for timer in (self._opening, self._alone, self._finish, self._settle):
            timer.cancel()
        self.view.note(report.note(f"left {display(self.name)}"), "left")
        self.room.on_pump = nothing
        self.room.leave()
        self._on_over(self)

    def _pumped(self) -> None:
        self.view.pumped()
        if self.state == FINISHING:
            self._check_finished()
        elif not self._frontend.is_terminal:
            # A pipe writes faster than a room may be talked to: let it wait.
            self._hold(self.room.session.queued() > PIPE_QUEUE_MAX)

    def _hold(self, held: bool) -> None:
        if held != self._held:
            self._held = held
            self._frontend.hold(held)

    # -- what happens in the room ------------------------------------------------------------

    def events(self, events: Sequence[Event]) -> None:
        """What the session reports."""
        for event in events:
            if self.state != OVER:
                self._loop.guard(self, self.view.show, event)
                if event.what == "joined" and self.mode == SEALED:
                    self._on_proven(self)
                if event.what == "deaf":
                    self._count(self, self._counted_while_deaf)

    def _opened(self) -> None:
        """Something is about to be shown: say first where we are."""
        if self.state != OPENING:
            return
        self.state = TALKING
        self._opening.move(NEVER)
        where = self.room.where
        self.view.enter(f"sealed, {where}" if self.mode == SEALED else where)

    def _counted_while_deaf(self, members: int) -> None:
        """Nobody is heard. Is anybody there, by the directory?"""
        if members == 1:
            self.room.give_up()

    def _look_alone(self) -> None:
        """Nothing was heard for ALONE_S: give a hint if the directory counts others here."""
        if self.view.heard or self.state > TALKING:
            return

        def counted(members: int) -> None:
            if members > 1 and self.state != OVER:
                by = self.room.transport.describe()
                # Who has another key is heard: the network carries, and what is wrong is told.
                if not self.room.session.stats().get("dropped_key"):
                    self.view.note(report.alone(members, by, self._style.alone_hint), "")
                if not self.plain:  # where silence is no sign
                    self.room.rejoin()

        self._count(self, counted)


def _number(word: str, arguments: list[str], default: int) -> int:
    """The number that a command was given, or `default`; UsageError."""
    if not arguments:
        return default
    text = arguments[0]
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise UsageError(f'{word}: "{quoted(text)}" is no number; usage: /{word} [N]')
    return int(text)


COMMANDS: dict[str, Callable[[Chat, list[str]], None]] = {
    "leave": Chat._do_leave,
    "who": Chat._do_who,
    "name": Chat._do_name,
    "me": Chat._do_me,
    "history": Chat._do_history,
    "show": Chat._do_show,
    "save": Chat._do_save,
    "ignore": Chat._do_ignore,
    "doctor": Chat._do_doctor,
    "invite": Chat._do_invite,
    "stats": Chat._do_stats,
    "help": Chat._do_help,
    "quit": Chat._do_quit,
}
