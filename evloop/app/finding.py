"""Which directory the client connects to when none was named, and the search for one that moved.

Loaded when the directory of this machine does not answer: a first prompt does without it. One
search runs at a time; whoever asks for the next ends the one before.
"""

from __future__ import annotations

from evloop.app.limits import JOIN_TRIES
from evloop.app.scan import Scan
from evloop.base.addresses import endpoint_of
from evloop.base.errors import EvloopError, SetupError
from evloop.base.names import fold
from evloop.directory.announcement import GUEST
from evloop.directory.browser import Browser, searched_links, target_of, text_of
from evloop.directory.client import IDLE, Searched, Unreachable
from evloop.directory.client import WAITING as AWAY
from evloop.directory.discovery import (
    DOUBTFUL,
    KNOWN,
    SEVERAL,
    TAKE,
    WAIT,
    bare_label,
    choose,
    in_order,
    shown_names,
    standing_of,
)
from evloop.directory.limits import (
    HOST_AGAIN_S,
    HOST_DRAW_S,
    HOST_PROBES_S,
    SEARCH_AGAIN_S,
    SEARCH_S,
)
from evloop.system.timers import NEVER, nothing
from evloop.terminal import directories, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping, Sequence

    from evloop.app.shell import Client
    from evloop.directory.discovery import Found
    from evloop.directory.target import Target
    from evloop.net.links import Link
    from evloop.terminal.directories import Row

    Done = Callable[[EvloopError | None], object]
    Known = Mapping[str, tuple[str, str]]


class SeveralFound(EvloopError):
    """More than one directory answers, and nobody is there to choose."""


class Listing:
    """What a search has found, as it is listed: what `connect N` means."""

    __slots__ = ("_known", "found", "names")

    def __init__(self, found: Sequence[Found], known: Known) -> None:
        self.found = in_order(found)
        self.names = shown_names(self.found)
        self._known = known

    def standing(self, at: int) -> str:
        return standing_of(self.found[at], self._known)

    def endpoint(self, at: int) -> str:
        return endpoint_of(text_of(*self.found[at].addresses[0]), self.found[at].port)

    def rows(self) -> list[Row]:
        return [self._row(at) for at in range(len(self.found))]

    def _row(self, at: int) -> Row:
        found, standing = self.found[at], self.standing(at)
        marks = directories.marks_of(
            bare_label(found.label),
            tls=found.tls,
            guest=found.kind == GUEST,
            doubtful=standing == DOUBTFUL,
            known=standing == KNOWN,
        )
        return self.names[at], self.endpoint(at), ",".join(found.links), marks

    def target(self, at: int) -> Target:
        """What to connect to. One that was met with TLS is spoken to by TLS, whatever it says."""
        found = self.found[at]
        target = target_of(found, self.names[at])
        target.tls = found.tls or bool(self._known.get(found.id, ("", ""))[0])
        if self.standing(at) != KNOWN:
            target.via += ", not seen before"
        return target

    def at(self, found: Found) -> int:
        return self.found.index(found)

    def json(self, at: int) -> str:
        """One directory as a line for scripts."""
        found = self.found[at]
        return report.json_line(
            "directory",
            name=self.names[at],
            id=found.id,
            address=text_of(*found.addresses[0]),
            port=found.port,
            kind=found.kind,
            tls=found.tls,
            interface=",".join(found.links),
            known=self.standing(at) == KNOWN,
        )


class Finder:
    """The searches of one client.

    `joins`: of several it takes the first, as all do who start `python3 -m evloop`.
    """

    __slots__ = (
        "_again",
        "_browser",
        "_client",
        "_done",
        "_link",
        "_listing",
        "_loop",
        "_missed",
        "_options",
        "_searched",
        "_seek",
        "_tries",
        "_trust",
        "joins",
    )

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = client.loop
        self._link = client.link
        self._trust = client.reach.trust()
        self._options: Namespace = client.options
        self._browser: Browser | None = None
        self._missed = False  # nobody has answered: an interface that comes is searched
        self._searched: set[str] = set()  # names of the interfaces that were asked last
        self._tries = 0  # directories that were found and have not answered
        self._done: Done | None = None  # who waits to be connected
        self._listing: Listing | None = None  # the newest that was shown
        self._again = client.loop.call_at(NEVER, self.follow)
        self._seek = client.loop.call_at(NEVER, self._look_again)
        self.joins = False

    def close(self) -> None:
        """End the search that runs."""
        browser, self._browser = self._browser, None
        if browser is not None:
            browser.close()

    def give_up(self) -> None:
        """End the search that somebody waits for, and tell him."""
        done, self._done = self._done, None
        if done is not None:
            self.close()
            done(Unreachable("the search for a directory was given up"))

    def links(self) -> tuple[Link, ...]:
        """Where there is somebody to be asked; SetupError when --interface names none."""
        return searched_links(self._options.interface)

    def _browse(
        self,
        links: Sequence[Link],
        look: Callable[[list[Found], bool, Known], float],
        patience: float = SEARCH_S,
    ) -> None:
        known = self._trust.known()
        self.close()
        self._searched = {link.name for link in links}
        self._browser = Browser(
            self._loop,
            links,
            lambda found, over: look(found, over, known),
            tls_only=self._trust.wants_tls,
            own=self._options.interface or "",
            patience=patience,
        )

    # -- to connect ------------------------------------------------------------------------------

    def connect(self, missing: EvloopError, done: Done, *, name: str = "", room: str = "") -> None:
        """Find a directory and connect to it: `done(error)` once, later.

        `missing`: why the one of this machine is not taken, which is the error where there is no
        network to search. `name`: only one that is called so. `room`: the one that a script is
        about, which may say which of several is meant.
        """
        try:
            links = self.links()
            if not links:
                self._missed, self._searched = True, set()
                done(missing)
                return
            patience = SEARCH_S
            if self.joins:  # else all who started at once would host at once
                patience = HOST_PROBES_S + HOST_DRAW_S * self._client.rng().random()
            self._browse(links, self._chooser(links, done, name, room), patience)
            self._done = done
        except SetupError as error:
            done(error)

    def _chooser(
        self, links: Sequence[Link], done: Done, name: str, room: str
    ) -> Callable[[list[Found], bool, Known], float]:
        def look(found: list[Found], over: bool, known: Known) -> float:
            if name:
                found = called(found, name)
            now = self._loop.now
            what, one, again = choose(
                found, lambda it: standing_of(it, known), now, over=over, joins=self.joins
            )
            if what == WAIT:
                return again
            self.close()
            self._done = None
            listing = Listing(found, known)
            if what == TAKE and one is not None:
                self._take(listing, listing.at(one), done)
            elif what == SEVERAL:
                self._several(listing, room, done)
            else:
                self._client.reach.alone = self._missed = not listing.found
                done(Searched(directories.nobody([link.name for link in links])))
            return again

        return look

    def _take(self, listing: Listing, at: int, done: Done) -> None:
        def connected(version: object, error: EvloopError | None) -> None:
            if self.joins and self._tries < JOIN_TRIES and isinstance(error, Unreachable):
                self._tries += 1  # it has given way to another one at this moment
                self.connect(error, done)
                return
            self._tries = 0
            if self.joins and error is None and len(listing.found) > 1:
                rest = [row for other, row in enumerate(listing.rows()) if other != at]
                self._client.frontend.note(directories.others_too(rest))
            done(error)

        self._link.connect_to([listing.target(at)], connected)

    def _several(self, listing: Listing, room: str, done: Done) -> None:
        self._listing = listing
        error = SeveralFound(directories.ambiguous(listing.rows()))
        if self._client.frontend.is_terminal and not self._options.command:
            note = self._client.frontend.note
            note(directories.answer_here(len(listing.found)))
            for line in directories.rows(listing.rows(), links=False):
                note(line, "text")
            done(Searched(""))
        elif room:
            fit = [at for at in range(len(listing.found)) if listing.standing(at) != DOUBTFUL]

            def scanned(at: int | None) -> None:
                if at is None:
                    done(error)
                else:
                    self._take(listing, fit[at], done)

            Scan(self._client, [listing.target(at) for at in fit], room, scanned)
        else:
            done(error)

    def connect_listed(self, number: int, done: Done) -> None:
        """Connect to a directory of the newest list; EvloopError when it has no such number."""
        listing = self._listing
        if listing is None or not 0 < number <= len(listing.found):
            raise EvloopError(f"no directory has the number {number}; directories lists them")
        self._link.connect_to([listing.target(number - 1)], lambda _, error: done(error))

    # -- to list ---------------------------------------------------------------------------------

    def list(self, done: Done) -> None:
        """The command `directories`: all that answer, when the search is over."""
        links = self.links()
        if not links:
            raise EvloopError("there is no network to search; --interface may name one")

        def look(found: Sequence[Found], over: bool, known: Known) -> float:
            if over:
                self.close()
                self._show(Listing(found, known), links, done)
            return NEVER

        self._browse(links, look)

    def _show(self, listing: Listing, links: Sequence[Link], done: Done) -> None:
        if not listing.found:
            done(Searched(directories.nobody([link.name for link in links])))
            return
        self._listing = listing
        show = self._client.frontend.show
        if self._options.json:
            for at in range(len(listing.found)):
                show(listing.json(at))
        else:
            for line in directories.rows(listing.rows(), links=True):
                show(line)
        done(None)

    # -- a directory that moved ------------------------------------------------------------------

    def seek(self) -> None:
        """Nobody was there: look again every SEARCH_AGAIN_S, as long as nothing is connected."""
        self._seek.move(self._loop.now + SEARCH_AGAIN_S)

    def _look_again(self) -> None:
        if not self._client.reach.alone or self._client.chat is None:
            return
        self.seek()
        if self._browser is not None:
            return

        def look(found: list[Found], over: bool, known: Known) -> float:
            now = self._loop.now
            what, one, again = choose(
                found, lambda it: standing_of(it, known), now, over=over, joins=True
            )
            if what == WAIT:
                return again
            self.close()
            if one is not None:
                listing = Listing(found, known)
                self._link.connect_to([listing.target(listing.at(one))], nothing)
            return again

        try:
            links = self.links()
            if links:
                self._browse(links, look)
        except SetupError:
            return  # the interface that was named is gone for now, or known_ids is damaged

    def settled(self) -> None:
        """The directory is there again."""
        self._again.move(NEVER)
        self._missed = False

    def network_changed(self) -> None:
        """Where an interface has come there may be a directory: it is searched once more."""
        try:
            names = {link.name for link in self.links()}
        except SetupError:  # the interface that was named is not there
            return
        came = names - self._searched
        self._searched &= names  # one that goes and comes is searched again
        if not came or self._browser is not None:
            return
        client = self._client
        if self._again.when < NEVER:
            self._again.move(NEVER)
            self.follow()
        elif client.reach.alone and client.chat is not None:
            self._look_again()
        elif self._missed and self._link.state == IDLE and not client.busy:
            self.connect(Unreachable(""), self._found_later)

    def _found_later(self, error: EvloopError | None) -> None:
        client = self._client

        def known(rooms: int, failed: EvloopError | None) -> None:
            if failed is None:
                client.frontend.note(client.reach.greeting(rooms))

        if error is None and client.frontend.is_terminal:
            client.prompt.await_rooms(known)

    def follow(self) -> None:
        """The directory is away: look for its id, now and every SEARCH_AGAIN_S while it is."""
        wanted, target = self._link.identity, self._link.target
        # Who hosted it for others may have left for good, or has given way to another one: then
        # any directory will do, as at the start, and this client hosts one if there is none.
        any_one = target is not None and target.guest
        if not wanted or self._link.state != AWAY or self._again.when < NEVER:
            return
        self._again.move(self._loop.now + SEARCH_AGAIN_S)
        if self._browser is not None:
            return

        def look(found: list[Found], over: bool, known: Known) -> float:
            what, one, again = choose(
                found,
                lambda it: standing_of(it, known),
                self._loop.now,
                over=over,
                joins=True,
                wanted="" if any_one else wanted,
            )
            if what == WAIT:
                return again
            self.close()
            if one is not None:
                listing = Listing(found, known)
                self._link.redirect(listing.target(listing.at(one)))
            else:
                if any_one and self.joins:
                    self._client.reach.host_again()
            return again

        try:
            links = self.links()
            if links:
                patience = SEARCH_S
                if any_one:  # many look at once, and one is to host first
                    patience = HOST_AGAIN_S + self._client.rng().random()
                self._browse(links, look, patience)
        except SetupError:
            return  # the interface that was named is gone for now, or known_ids is damaged


def called(found: Sequence[Found], name: str) -> list[Found]:
    """Those that are called `name`, with or without the digits that keep them apart."""
    wanted = fold(name)
    names = shown_names(found)
    return [one for one, shown in zip(found, names) if wanted in (fold(one.label), fold(shown))]
