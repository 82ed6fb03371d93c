"""The nicks in one room, as one member of this door sees them.

The first with a name keeps the bare nick; a later one whose nick is the same under `fold`, or is
the member's own, has the end of its sender id behind it (`Mel~3f2a`), as many digits as it takes.
"""

from __future__ import annotations

from evloop.base.names import TAG_DIGITS_MIN, fold
from evloop.irc.codec import nick_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.irc.person import Person

_NOBODY = b"\0"


class Nicks:
    """`present`: the nicks of the others who are here, by sender id (do not change); `names`: what
    they call themselves."""

    __slots__ = ("_person", "_taken", "names", "present")

    def __init__(self, person: Person) -> None:
        self._person = person
        self.present: dict[bytes, str] = {}
        self.names: dict[bytes, str] = {}
        self._taken: dict[str, bytes] = {}  # folded nick: whose it is

    def of(self, sender: bytes, name: str) -> str:
        """The nick of `sender`, who is here, or was."""
        return self.present.get(sender) or self._free(sender, name)

    def find(self, nick: str) -> bytes | None:
        """The sender id of who has `nick`."""
        return self._taken.get(fold(nick))

    def come(self, sender: bytes, name: str) -> str:
        """`sender` is here, or has another name; its nick."""
        nick = self._free(sender, name)
        self.names[sender] = name
        self.present[sender] = nick
        self._taken[fold(nick)] = sender
        return nick

    def go(self, sender: bytes) -> str:
        """`sender` has gone; the nick that it had, "" if it was not here."""
        nick = self.present.pop(sender, "")
        self.names.pop(sender, None)
        if nick:
            del self._taken[fold(nick)]
        return nick

    def make_way(self, key: str) -> tuple[bytes, str, str] | None:
        """The person takes the nick `key` (folded): (who had it, that nick, its new one)."""
        sender = self._taken.get(key)
        if sender is None:
            return None
        name = self.names[sender]
        old = self.go(sender)
        self._taken[key] = _NOBODY  # so that it is not free
        new = self.come(sender, name)
        del self._taken[key]
        return sender, old, new

    def _free(self, sender: bytes, name: str) -> str:
        nick = bare = nick_of(name, sender)
        digits = sender.hex() or "plain"  # in a plain room nobody has an id
        count = TAG_DIGITS_MIN if sender else len(digits)
        while not self._is_free(nick, sender) and count < len(digits) + 2:
            nick = f"{bare}~{digits[-count:]}"
            count += 2
        return nick

    def _is_free(self, nick: str, sender: bytes) -> bool:
        key = fold(nick)
        return key != self._person.key and self._taken.get(key, sender) == sender
