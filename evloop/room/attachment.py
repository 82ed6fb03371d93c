"""How a room follows the network: on which interface it is, and what is done when that fails. Pure.

A room stays where it is while that works, and does not follow a better interface: else the rooms
of a machine would wander at each change. The table of interfaces and the time come in, an action
comes out; who acts tells what came of it (`opened`, `failed`).

    state       its interface works   it fails           time is up     and another one is fit
    here        (epoch) -> left       -> failing, 2 s *  -              -
    left        stays                 -> failing         JOIN -> here   -
    failing     -> here, or left **   stays              -> away        REOPEN -> here
    away        -> here, or left **   stays              -              REOPEN -> here
    loopback    another one is fit: REOPEN -> here

    *  1.5 s when its address alone has gone; none at all when the same interface has another
       address, or was made anew
    ** by whether its epoch is another: then switches have forgotten what was joined

`left` lasts for REJOIN_GAP_S: the kernel reports that a group is joined only when nobody on this
machine was in it, and others who follow the same change must have left, too.
"""

from __future__ import annotations

from evloop.base.errors import SetupError
from evloop.net.links import LOOPBACK, RUNNING, UP, is_on_link, link_of, why_away
from evloop.room.limits import ADDRESS_GONE_S, NETWORK_GONE_S, REJOIN_GAP_S, REOPEN_AGAIN_S
from evloop.system.timers import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from evloop.net.links import Interface, Link

# What is to be done: nothing; leave the groups; join them; open the sockets anew; tell the others
# that we are back, though nothing was lost here.
NOTHING, LEAVE, JOIN, REOPEN, BACK = "", "leave", "join", "reopen", "back"

NO_NETWORK = "only this machine: no network"


class Attachment:
    """Where a room is: `interface`, of the table `links`. `choose(links)` is by which one it would
    be opened now (SetupError: none); `fixed`: the user has named it.

    `why`: why nothing can be sent, once that has lasted; "" else. `away`: it lasts, told or not.
    """

    __slots__ = (
        "_choose",
        "_epoch",
        "_fixed",
        "_left",
        "_links",
        "_since",
        "due",
        "interface",
        "why",
    )

    def __init__(
        self,
        interface: Interface,
        links: tuple[Link, ...],
        choose: Callable[[tuple[Link, ...]], Interface],
        fixed: bool,
    ) -> None:
        self._choose = choose
        self._fixed = fixed
        self._links = links
        self._since = NEVER  # when it began to fail
        self._left = False  # the groups, and they were not joined again
        self.due = NEVER  # when to look again, though nothing has changed
        self.why = ""
        self.opened(interface)

    @property
    def away(self) -> bool:
        return self._since != NEVER

    @property
    def where(self) -> str:
        """For people: by which interface, and from which address."""
        on_loopback = _is_loopback(link_of(self._links, self.interface.ifindex))
        if on_loopback and not self._fixed:
            return NO_NETWORK
        return f"{self.interface.name}, {self.interface.address}".rstrip(", ")

    def opened(self, interface: Interface) -> None:
        """The sockets were opened, on `interface`."""
        self.interface = interface
        link = link_of(self._links, interface.ifindex)
        self._epoch = link.epoch if link is not None else 0
        self._since, self._left, self.due, self.why = NEVER, False, NEVER, ""

    def failed(self, why: str, now: float) -> None:
        """What was to be done could not be: it is tried again."""
        self._since = min(self._since, now)
        self.why = self.why or why
        self.due = now + REOPEN_AGAIN_S

    def rejoin(self, now: float) -> str:
        """The groups are to be left and joined, whatever the table says; the action."""
        if self._left or self.away:
            return NOTHING
        self._left = True
        self.due = now + REJOIN_GAP_S
        return LEAVE

    def changed(self, links: tuple[Link, ...], now: float) -> str:
        """The table is another one; the action."""
        self._links = links
        return self.look(now)

    def look(self, now: float) -> str:
        """The time is `due`, or something has changed; the action."""
        if not self._links:  # this system tells nothing
            self.due = NEVER
            return NOTHING
        here = self.interface
        link = link_of(self._links, here.ifindex)
        away = why_away(link, here.name, here.address)
        if link is None or away:
            return self._failing(link, away, now)
        back, self._since, self.why = self.away, NEVER, ""
        if _is_loopback(link):
            self.due = NEVER
            better = None if self._fixed else self._candidate()
            return REOPEN if better is not None else BACK if back else NOTHING
        if self._left:
            if now < self.due:
                return NOTHING
            self._left, self.due = False, NEVER
            self._epoch = link.epoch
            return JOIN
        self.due = NEVER
        if link.epoch != self._epoch:
            self._epoch = link.epoch
            return self.rejoin(now)
        return BACK if back else NOTHING

    def _failing(self, link: Link | None, away: str, now: float) -> str:
        if self._since == NEVER:
            self._since = now
        lacks_address = link is not None and link.flags & (UP | RUNNING) == UP | RUNNING
        until = self._since + (ADDRESS_GONE_S if lacks_address else NETWORK_GONE_S)
        candidate = self._candidate()
        if candidate is not None and (now >= until or self._replaces(candidate)):
            return REOPEN
        if now >= until:
            self.why = self.why or away
            self.due = NEVER
        else:
            self.due = until
        return NOTHING

    def _candidate(self) -> Interface | None:
        """By which interface it would work now; loopback is none."""
        try:
            found = self._choose(self._links)
        except SetupError:
            return None
        link = link_of(self._links, found.ifindex)
        if _is_loopback(link) or why_away(link, found.name, found.address):
            return None
        return found

    def _replaces(self, found: Interface) -> bool:
        """Whether it is the same one, with another address or made anew: nothing better comes."""
        here = self.interface
        worse = is_on_link(found.address) and not is_on_link(here.address)
        return found.name == here.name and not worse


def _is_loopback(link: Link | None) -> bool:
    return link is not None and bool(link.flags & LOOPBACK)
