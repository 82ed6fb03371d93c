"""Chat mode: one room on the frontend of the client.

    state      line                   /leave, eof on a terminal   end of a pipe   all confirmed
    opening    -> talking, and as it  -> over                     -> finishing    -
    talking    say or /command        -> over                     -> finishing    -
    finishing  -                      -                           -               -> over
    over       -                      -                           -               -

`opening` is the moment after entering in which the others make themselves known, so that the first
line can name them; whatever happens first ends it. `finishing` is what follows the end of a pipe:
nothing is sent any more, and the goodbye waits until everybody has confirmed, at most CONFIRM_S
after the last datagram went out. When the chat is over the room still says its goodbyes by itself.
"""

from __future__ import annotations

from collections import deque

from evloop.app.commands import (
    UsageError,
    help_lines,
    parse_line,
)
from evloop.app.limits import (
    ALONE_S,
    BELL_S,
    CATCH_UP_S,
    CONFIRM_S,
    CONFIRM_SETTLE_S,
    FOLD_BURST,
    FOLD_PER_S,
    FOLD_SENDERS_MAX,
    NEWS_FOLD_S,
    OPENING_S,
    PIPE_QUEUE_MAX,
    SHOWN_LINES_DEFAULT,
)
from evloop.base.errors import EvloopError, Refused
from evloop.base.names import check_nickname, display, fold_text
from evloop.base.ratelimit import TokenBucket
from evloop.room.events import ME, TEXT, Left
from evloop.room.limits import HISTORY_MESSAGES_MAX
from evloop.system.timers import nothing
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from evloop.app.style import Style
    from evloop.room.events import (
        Conflict,
        Event,
        Fault,
        Full,
        Joined,
        Lost,
        Renamed,
        Said,
        Trouble,
    )
    from evloop.room.live import LiveRoom
    from evloop.system.loop import Loop
    from evloop.terminal.frontend import Frontend

OPENING, TALKING, FINISHING, OVER = range(4)


def names_me(text: str, nickname: str) -> bool:
    """Whether `nickname` stands in `text` at word boundaries, whatever its case."""
    text, nickname = fold_text(text), fold_text(nickname)
    start = text.find(nickname)
    while start >= 0:
        end = start + len(nickname)
        before, after = text[start - 1 : start], text[end : end + 1]
        if not (before.isalnum() or after.isalnum()):
            return True
        start = text.find(nickname, start + 1)
    return False


class Chat:
    """What the user sees and does in `room`, and all that the client knows of it.

    `name` is what the room is called; `plain`: it has no presence; `listed`: it is one of the
    directory's, which counts us in it; `verbatim`: lines are messages even when they begin with /.

    `on_over(chat)` is called once when the room is left, `on_renamed(name)` keeps a new name,
    `on_alone(chat)` is asked what to make of ALONE_S of silence. `outcome` is in the end how many
    members have confirmed what was said, and how many were asked.
    """

    def __init__(
        self,
        loop: Loop,
        frontend: Frontend,
        room: LiveRoom,
        name: str,
        style: Style,
        *,
        plain: bool,
        listed: bool,
        on_over: Callable[[Chat], object],
        on_quit: Callable[[], object],
        on_renamed: Callable[[str], object],
        on_alone: Callable[[Chat], object],
    ) -> None:
        self.name = name
        self.room = room
        self.plain = plain
        self.listed = listed
        self.verbatim = False
        self.state = OPENING
        self._loop = loop
        self._frontend = frontend
        self._style = style
        self._json = style.as_json
        self._on_over = on_over
        self._on_quit = on_quit
        self._on_renamed = on_renamed
        self._on_alone = on_alone
        self._live = frontend.is_terminal and not style.as_json
        self._presence_news: dict[bytes, tuple[str, str]] = {}  # sender: what to tell of whom
        self._heard = False
        self._held = False
        self._day = style.stamps.day()
        self._bell_at = float("-inf")
        self._floods: dict[bytes, tuple[TokenBucket, list[str]]] = {}
        self._earlier: deque[Said] | None = None  # history that waits until all of it is here
        if style.history is not None:
            self._earlier = deque(maxlen=style.history)
        self.outcome = (0, 0)
        self.speakers: dict[str, None] = {}  # names, the latest speaker last; for completion
        self._opening = loop.call_at(float("inf"), self._opened)
        self._news = loop.call_at(float("inf"), self._tell_news)
        self._alone = loop.call_at(float("inf"), self._look_alone)
        self._finish = loop.call_at(float("inf"), self._leave_now)
        self._settle = loop.call_at(float("inf"), self._check_finished)
        self._catch_up = loop.call_at(float("inf"), self._show_earlier)

    def start(self) -> None:
        """Begin to send and to receive in the room."""
        self.room.on_events, self.room.on_pump = self.events, self._pumped
        self._alone.move(self._loop.now + ALONE_S)
        self._catch_up.move(self._loop.now + CATCH_UP_S)
        if self.plain:
            self._opened()  # nobody can make himself known in a plain room
        else:
            self._opening.move(self._loop.now + OPENING_S)
        self.room.start()

    # -- what the user does ------------------------------------------------------------------

    def line(self, text: str) -> None:
        """A typed line: a message or a /command."""
        if self.verbatim:
            self.say(text)
            return
        if self.state >= FINISHING or not text.strip():
            return
        self._opened()
        if text.startswith("/") and not text.startswith("//"):
            self._command(text[1:])
            return
        self.say(text[1:] if text.startswith("//") else text, typed=text)

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
        command, arguments, _ = parsed
        COMMANDS[command.word](self, arguments)

    def _do_leave(self, arguments: list[str]) -> None:
        self.finish()

    def _do_quit(self, arguments: list[str]) -> None:
        self._on_quit()
        self.finish()

    def _do_me(self, arguments: list[str]) -> None:
        self.say(arguments[0], ME, f"/me {arguments[0]}")

    def _do_name(self, arguments: list[str]) -> None:
        name = check_nickname(arguments[0])
        old = self.room.session.nickname
        self.room.rename(name)
        self._on_renamed(name)
        self._note(report.renamed(old, name))

    def _do_who(self, arguments: list[str]) -> None:
        session = self.room.session
        members = session.members(self._loop.now)
        rows = [(session.label(sender, name), age) for sender, name, age in members]
        for line in report.who_lines(rows):
            self._note(line)

    def _do_history(self, arguments: list[str]) -> None:
        count = SHOWN_LINES_DEFAULT
        if arguments:
            text = arguments[0]
            if not (text.isascii() and text.isdigit() and len(text) <= 6):
                raise UsageError(f'history: "{text}" is no number of lines; usage: /history [N]')
            count = int(text)
        events = self.room.session.history(min(count, HISTORY_MESSAGES_MAX))
        self._note(report.note(f"the last {report.plural(len(events), 'message')}"))
        for event in events:
            label = self.room.session.label(event.sender, event.name)
            # A plain room does not tell when it was said.
            stamp = self._style.stamps.line(event.wall) if event.wall else ""
            line = report.message_line(label, event.kind == ME, event.text, event.mark)
            self._note(stamp + line.replace("\n", "\n" + " " * len(stamp)))
        self._note(report.note("end of history"))

    def _do_stats(self, arguments: list[str]) -> None:
        for line in report.stats_lines(self.room.stats()):
            self._note(line)

    def _do_help(self, arguments: list[str]) -> None:
        for line in help_lines("chat", *arguments):
            self._note(line)

    def _note(self, text: str) -> None:
        if self._style.muted:
            return
        for line in text.split("\n"):
            self._frontend.note(line)

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
        self._check_finished()

    def _check_finished(self) -> None:
        """In `finishing`: whether everything is sent, and confirmed by everybody present."""
        if self.state != FINISHING:
            return
        session, now = self.room.session, self._loop.now
        sent = session.stats()["sent"]
        if session.queued():
            self._finish.move(float("inf"))
            return
        if self._finish.when == float("inf"):
            if not sent:
                self._leave_now()
                return
            # The last datagram has gone out: now they may confirm it.
            self._finish.move(now + CONFIRM_S)
            self._settle.move(now + CONFIRM_SETTLE_S)
            self.room.session.confirm(now)
            self._loop.defer(self.room.pump)
            return
        settled = self._settle.when == float("inf") and not session.unconfirmed()
        if settled and (session.confirmers()[0] or not self._style.answered):
            self._leave_now()

    def _leave_now(self) -> None:
        if self.state == OVER:
            return
        self._opened()
        self._tell_news()
        self._show_earlier()
        self.outcome = self.room.session.confirmers()
        self.state = OVER
        for timer in (
            self._opening,
            self._news,
            self._alone,
            self._finish,
            self._settle,
            self._catch_up,
        ):
            timer.cancel()
        self._note(report.note(f"left {display(self.name)}"))
        self.room.on_pump = nothing
        self.room.leave()
        self._on_over(self)

    def _pumped(self) -> None:
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
        if self.state == OVER:
            return
        for event in events:
            self._loop.guard(self, EVENTS[event.what], self, event)

    def _show_earlier(self) -> None:
        """The history that was asked for is as complete as it gets: show the last of it."""
        earlier, self._earlier = self._earlier, None
        for event in earlier or ():
            self._loop.guard(self, self._message, event)
        self._earlier = deque(maxlen=0) if earlier is not None else None

    def _message(self, event: Said) -> None:
        if self._earlier is not None:
            if event.mark == "history":
                self._earlier.append(event)
                return
            if self._earlier:
                self._show_earlier()
        self._opened()
        _, sender, _, name, kind, text, wall, mark, _ = event
        action = kind == ME
        session = self.room.session
        mine = sender == session.sender_id
        if not mine:
            self._heard = True
        if self._style.muted:
            return
        if sender in self._presence_news:
            self._tell_news()  # nobody talks before he has come
        if self._json:
            at = self._style.stamps.utc()
            self._frontend.show(report.json_message(self.name, event, action, at))
            return
        label = session.label(sender, name)
        if name and not mine:
            self.speakers.pop(name, None)
            self.speakers[name] = None
            if len(self.speakers) > FOLD_SENDERS_MAX:
                del self.speakers[next(iter(self.speakers))]
        if self._live and not mine and mark == "" and sender and self._flooding(sender, label):
            return
        mention = self._live and not mine and mark == "" and names_me(text, session.nickname)
        bell = mention and self._loop.now >= self._bell_at + BELL_S
        if bell:
            self._bell_at = self._loop.now
        self._tell_day()
        parts = report.message_parts(label, action, text, mark)
        self._frontend.message(
            # When it was said, by its sender's clock: when it came here would say nothing.
            self._style.stamps.line(wall if mark == "history" else 0.0),
            parts,
            old=mark == "history",
            mention=mention,
            bell=bell,
        )

    def _tell_day(self) -> None:
        day = self._style.stamps.day()
        if day != self._day:
            self._day = day
            self._note(report.note(day))

    def _flooding(self, sender: bytes, label: str) -> bool:
        """Whether this line of `sender` is one too many for a live screen; then it is counted."""
        floods = self._floods
        if sender not in floods:
            if len(floods) >= FOLD_SENDERS_MAX:
                del floods[next(iter(floods))]
            floods[sender] = (TokenBucket(FOLD_PER_S, FOLD_BURST, self._loop.now), [])
        bucket, folded = floods[sender]
        if bucket.take(self._loop.now):
            return False
        folded.append(label)
        if len(folded) == 1 and self._news.when == float("inf"):
            self._news.move(self._loop.now + NEWS_FOLD_S)
        return True

    def _tell_floods(self) -> None:
        for _, folded in self._floods.values():
            if folded:
                lines = report.plural(len(folded), "more line")
                self._note(report.note(f"{lines} from {folded[-1]} (too fast; /history has them)"))
                folded.clear()

    def _presence(self, event: Joined | Left) -> None:
        self._heard = True
        if self._json:
            self._frontend.show(report.json_presence(self.name, event))
            return
        sender = event.sender
        label = self.room.session.label(sender, event.name)
        change = (event.why if isinstance(event, Left) else "joined", label)
        news = self._presence_news
        before = news.pop(sender, None)
        if before is None:
            news[sender] = change
        elif before[0] == "joined":
            news[sender] = ("visited", label)
        elif before[0] == "visited":
            news[sender] = ("joined", label)
        # Else: away for a moment and back again; that is no news.
        if self.state != OPENING and self._news.when == float("inf"):
            self._news.move(self._loop.now + NEWS_FOLD_S)

    def _tell_news(self) -> None:
        if self._presence_news:
            self._note(report.came_and_went(self._presence_news.values()))
            self._presence_news = {}
        self._tell_floods()

    def _renamed(self, event: Renamed) -> None:
        if self._json:
            self._frontend.show(report.json_presence(self.name, event))
        else:
            label, sender = self.room.session.label, event.sender
            self._note(report.renamed(label(sender, event.old), label(sender, event.name)))

    def _lost(self, event: Lost) -> None:
        if self._json:
            self._frontend.show(report.json_presence(self.name, event))
        else:
            label = self.room.session.label(event.sender, event.name)
            self._note(report.lost(label, event.count))

    def _conflict(self, event: Conflict) -> None:
        if self._json:
            self._frontend.show(report.json_presence(self.name, event))
        else:
            mine = event.sender == self.room.session.sender_id
            label = self.room.session.label(event.sender, event.name)
            self._note(report.conflict(label, event.seq, mine))

    def _trouble(self, event: Trouble) -> None:
        self._note(report.trouble(event.why))

    def _fault(self, event: Fault) -> None:
        self._note(report.fault(event.error))

    def _full(self, event: Full) -> None:
        self._note(report.full(event.table))

    # -- time passes -------------------------------------------------------------------------

    def _opened(self) -> None:
        """The first line: where we are, and with whom."""
        if self.state != OPENING:
            return
        self.state = TALKING
        self._opening.move(float("inf"))
        news, self._presence_news = self._presence_news, {}
        names = [name for what, name in news.values() if what == "joined"]
        self._note(report.entered(self.name, names, self._style.escape))

    def _look_alone(self) -> None:
        if not self._heard and self.state <= TALKING:
            self._on_alone(self)


EVENTS: dict[str, Callable[[Chat, Any], None]] = {
    "message": Chat._message,
    "joined": Chat._presence,
    "left": Chat._presence,
    "renamed": Chat._renamed,
    "lost": Chat._lost,
    "conflict": Chat._conflict,
    "trouble": Chat._trouble,
    "fault": Chat._fault,
    "full": Chat._full,
}

COMMANDS: dict[str, Callable[[Chat, list[str]], None]] = {
    "leave": Chat._do_leave,
    "who": Chat._do_who,
    "name": Chat._do_name,
    "me": Chat._do_me,
    "history": Chat._do_history,
    "stats": Chat._do_stats,
    "help": Chat._do_help,
    "quit": Chat._do_quit,
}
