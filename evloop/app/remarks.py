"""What others make the program say in a room, on one budget; the clock is an argument.

Anybody on the network can cause a remark: by joining, leaving, taking another name, by messages
that are gone, two texts under one number, plain text, lines that come too fast. All of them share
one bucket: REMARKS_BURST at once, then REMARKS_PER_S. What is more becomes one line of counts:

    state     a remark                    a token is there, and NEWS_FOLD_S has passed
    telling   a token: told at once       joins and parts of NEWS_FOLD_S are told as one line
              none: counted -> folding
    folding   counted                     the counts are told as one line -> telling

Joins and parts wait NEWS_FOLD_S in any case: coming and going within it is one piece of news. A
member that comes and says something at once is announced only when it is still there after
PASSING_S: a `say` comes and goes, and its message is enough. `counts` counts every remark, shown or
not; `/stats` shows it.
"""

from __future__ import annotations

from evloop.app.limits import (
    NEWS_FOLD_S,
    NEWS_NAMES_MAX,
    PASSING_S,
    REMARKS_BURST,
    REMARKS_PER_S,
)
from evloop.base.ratelimit import TokenBucket
from evloop.system.timers import NEVER
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


PRESENCE = ("joined", "left", "renamed")  # kinds of remarks about who came, went, and is called how


class Remarks:
    """`tell(text)` shows one remark, `tell_presence(text)` one of those who came and went;
    `counts` holds how often each kind came, shown or not."""

    __slots__ = (
        "_bucket",
        "_due",
        "_floods",
        "_folded",
        "_stays",
        "_tell",
        "_tell_presence",
        "counts",
        "news",
        "passing",
    )  # fmt: skip

    def __init__(
        self,
        now: float,
        tell: Callable[[str], object],
        tell_presence: Callable[[str], object] | None = None,
    ) -> None:
        self._tell = tell
        self._tell_presence = tell_presence or tell
        self._bucket = TokenBucket(REMARKS_PER_S, REMARKS_BURST, now)
        self.news: dict[bytes, tuple[str, str]] = {}  # sender: what became of whom
        self.passing: dict[bytes, tuple[str, float]] = {}  # who came and spoke: label, until when
        self._stays = NEVER  # when the first of these counts as one who stays
        self._floods: dict[str, int] = {}  # label: lines that were not shown
        self._folded: dict[str, int] = {}  # kind: remarks that were not told
        self._due = NEVER
        self.counts: dict[str, int] = {}

    def next_deadline(self) -> float:
        """When `handle_timer` has something to tell; inf while nothing waits."""
        return min(self._due, self._stays)

    def remark(self, kind: str, text: str, now: float) -> None:
        """Tell `text`, which is of `kind` (a word of `report.FOLDED`), or count it."""
        if self.allow(kind, now):
            self._say(kind, text)

    def _say(self, kind: str, text: str) -> None:
        tell = self._tell_presence if kind in PRESENCE else self._tell
        tell(text)

    def _say_folded(self) -> None:
        only_presence = all(kind in PRESENCE for kind in self._folded)
        self._say("joined" if only_presence else "", report.folded(self._folded.items()))
        self._folded = {}

    def allow(self, kind: str, now: float) -> bool:
        """Whether one line of `kind` may be shown now; else it is counted, and told as a count."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if not self._folded and self._bucket.take(now):
            return True
        self._fold(kind, 1)
        self._wake(now)
        return False

    def _fold(self, kind: str, count: int) -> None:
        self._folded[kind] = self._folded.get(kind, 0) + count
        self.counts["not_shown"] = self.counts.get("not_shown", 0) + count

    def _wake(self, now: float) -> None:
        if self._due == NEVER:
            self._due = now + NEWS_FOLD_S

    def presence(self, sender: bytes, what: str, label: str, now: float) -> None:
        """`sender` came or went; `what` is a key of `report.PRESENCE`."""
        kind = "joined" if what in ("joined", "here") else "left"
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.passing.pop(sender, None) is not None and kind == "left":
            return
        news = self.news
        before = news.pop(sender, ("", ""))[0]
        if not before:
            if len(news) < NEWS_NAMES_MAX:
                news[sender] = (what, label)
            else:
                self._fold(kind, 1)
        elif before in ("joined", "here"):
            news[sender] = ("visited", label)
        elif before == "visited":
            news[sender] = (what, label)
        # Else it was away for a moment and is back: that is no news.
        self._wake(now)

    def taken_names(self, what: str) -> list[str]:
        """Those of whom the news is `what`, as labels: they are news no longer."""
        found = [sender for sender, (word, _) in self.news.items() if word == what]
        return [self.news.pop(sender)[1] for sender in found]

    def too_fast(self, label: str, now: float) -> None:
        """A line of `label` was not shown, because it sends too fast."""
        self.counts["not_shown"] = self.counts.get("not_shown", 0) + 1
        if label not in self._floods and len(self._floods) >= NEWS_NAMES_MAX:
            self._folded["line"] = self._folded.get("line", 0) + 1
        else:
            self._floods[label] = self._floods.get(label, 0) + 1
        self._wake(now)

    def precede(self, sender: bytes, now: float) -> None:
        """A line of `sender` is about to be shown: announce its joining first, unless it came just
        now: then it may leave at once."""
        what, label = self.news.get(sender, ("", ""))
        if what == "joined":
            del self.news[sender]
            if len(self.passing) >= NEWS_NAMES_MAX:
                self._stay(next(iter(self.passing)), now)
            self.passing[sender] = label, now + PASSING_S
            self._stays = min(self._stays, now + PASSING_S)
        elif what:
            self.flush(now)

    def before_rename(self, sender: bytes, now: float) -> None:
        """`sender` takes another name: its joining, if it waits, is told first, by the old one."""
        if sender in self.passing:
            self._stay(sender, now)
        if sender in self.news:
            self.flush(now)

    def _stay(self, sender: bytes, now: float) -> None:
        self.news[sender] = ("joined", self.passing.pop(sender)[0])
        self._wake(now)

    def flush(self, now: float) -> None:
        """Tell what waits, or count it where there is no token."""
        news, self.news = self.news, {}
        floods, self._floods = self._floods, {}
        if news:
            self._line(report.came_and_went(news.values()), "joined", len(news), now)
        if floods:
            self._line(report.too_fast(floods.items()), "line", sum(floods.values()), now)

    def _line(self, text: str, kind: str, count: int, now: float) -> None:
        if not self._folded and self._bucket.take(now):
            self._say(kind, text)
        else:
            self._fold(kind, count)
            self._wake(now)

    def handle_timer(self, now: float) -> None:
        """Tell what has waited long enough."""
        if now >= self._stays:
            for sender in [who for who, (_, until) in self.passing.items() if until <= now]:
                self._stay(sender, now)
            self._stays = min([until for _, until in self.passing.values()], default=NEVER)
        if now < self._due:
            return
        self._due = NEVER
        self.flush(now)
        if not self._folded:
            return
        if self._bucket.take(now):
            self._say_folded()
        else:
            self._due = self._bucket.when()

    def last_words(self) -> None:
        """The room is left: tell what waits, whatever the budget."""
        if self.news:
            self._tell_presence(report.came_and_went(self.news.values()))
        if self._floods:
            self._tell(report.too_fast(self._floods.items()))
        if self._folded:
            self._say_folded()
        self.news, self._floods = {}, {}
        self._due = NEVER
