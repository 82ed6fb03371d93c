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
    `target`: by which interface the sockets are to be opened (REOPEN).
    """

    __slots__ = (
        "_broken",
        "_choose",
        "_epoch",
        "_fixed",
        "_left",
        "_links",
        "_since",
        "due",
        "interface",
        "target",
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
        self._left = NEVER  # when the groups were, if they were not joined again
        self.due = NEVER  # when to look again, though nothing has changed
        self.why = ""
        self._broken = False  # what was to be done could not be
        self.interface = self.target = interface
        link = link_of(links, interface.ifindex)
        self._epoch = link.epoch if link is not None else 0

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

    def opened(self) -> None:
        """The sockets were opened by `target`.

        On the same device its epoch stays what it was: while the old sockets were in the group the
        kernel reported nothing of the new ones, so they must be joined anew if it is another.
        """
        link = link_of(self._links, self.target.ifindex)
        if self.target.ifindex != self.interface.ifindex:
            self._epoch = link.epoch if link is not None else 0
        self.interface = self.target
        self._since, self._left, self.due, self.why = NEVER, NEVER, NEVER, ""
        self._broken = False

    def failed(self, why: str, now: float) -> None:
        """What was to be done could not be: then the sockets are to be opened anew."""
        self._broken = True
        self._since = min(self._since, now)
        self.why = self.why or why
        self.due = now + REOPEN_AGAIN_S

    def rejoin(self, now: float) -> str:
        """The groups are to be left and joined, whatever the table says; the action."""
        link = link_of(self._links, self.interface.ifindex)
        if self._left != NEVER or self.away or link is None or _is_loopback(link):
            return NOTHING  # no switch has forgotten anything
        self._left = now
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
        if self._broken:
            self.target, self.due = here, NEVER
            return REOPEN
        back, self._since, self.why = self.away, NEVER, ""
        if _is_loopback(link):
            self.due = NEVER
            better = not self._fixed and self._finds(self._links)
            return REOPEN if better else BACK if back else NOTHING
        if self._left != NEVER:
            self.due = self._left + REJOIN_GAP_S
            if now < self.due:
                return NOTHING
            self._left, self.due = NEVER, NEVER
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
        if self._finds(tuple(link for link in self._links if link.name == self.interface.name)):
            # The same one, with another address or made anew: nothing better comes. But what holds
            # on one link alone may be there before DHCP has answered.
            worse = is_on_link(self.target.address) and not is_on_link(self.interface.address)
            if now >= until or not worse:
                return REOPEN
        elif now >= until and self._finds(self._links):
            return REOPEN
        if now >= until:
            self.why = self.why or away
            self.due = NEVER
        else:
            self.due = until
        return NOTHING

    def _finds(self, links: tuple[Link, ...]) -> bool:
        """Whether by one of `links` it would work now, which is then the `target`; loopback never
        counts."""
        try:
            found = self._choose(links) if links else self.interface
        except SetupError:
            return False
        link = link_of(links, found.ifindex)
        if _is_loopback(link) or why_away(link, found.name, found.address):
            return False
        self.target = found
        return True


def _is_loopback(link: Link | None) -> bool:
    return link is not None and bool(link.flags & LOOPBACK)
