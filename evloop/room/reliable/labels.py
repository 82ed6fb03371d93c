"""How a name is shown, so that nobody passes for somebody who is present.

A label is the bare name only where no *other* present member has a name that is the same under
`fold`. Else the end of the sender's id is added: `Mel~3f2a`, two bytes of it, or as many as it
takes to differ from every present member of that name. A sender that is not present (its SESSIONs
were not heard, or it has left) is marked in the same way: else a datagram with a new id and the
name of a member would look like that member's. A name that breaks the rules is not shown at all:
its sender's id stands in its place, as 16 hexadecimal digits. Names that look like such a mark or
an id break the rules (`check_member_name`), so nobody can choose what is written here.
"""

from __future__ import annotations

from bisect import bisect_left

from evloop.base.errors import Refused
from evloop.base.names import TAG_DIGITS_MIN, check_member_name, fold
from evloop.room.reliable.limits import LABELS_KEPT_MAX

TAG_BYTES_MIN = TAG_DIGITS_MIN // 2


class Labels:
    """The names of those present, myself included.

    Joining, leaving and labelling cost the same in a room of 16,384 members as in a small one,
    whatever the names: the ids of each name are kept sorted by their ends, so that the two beside
    an id tell how many bytes of it are needed.
    """

    __slots__ = ("judged", "present")

    def __init__(self) -> None:
        self.judged: dict[str, tuple[str, str]] = {}  # name: (as shown, its fold); ("", "") if bad
        self.present: dict[str, list[bytes]] = {}  # fold: ids read from their ends, sorted

    def _judge(self, name: str) -> tuple[str, str]:
        found = self.judged.get(name)
        if found is None:
            if len(self.judged) >= LABELS_KEPT_MAX:
                self.judged.clear()
            try:
                shown = check_member_name(name)
                found = shown, fold(shown)
            except Refused:
                found = "", ""
            self.judged[name] = found
        return found

    def put(self, sender: bytes, name: str) -> None:
        """`sender` is present under `name`."""
        shown, folded = self._judge(name)
        if shown:
            ends = self.present.setdefault(folded, [])
            end = sender[::-1]
            at = bisect_left(ends, end)
            if ends[at : at + 1] != [end]:
                ends.insert(at, end)

    def drop(self, sender: bytes, name: str) -> None:
        """`sender` is no longer present under `name`."""
        shown, folded = self._judge(name)
        ends = self.present.get(folded)
        if not shown or ends is None:
            return
        end = sender[::-1]
        at = bisect_left(ends, end)
        if ends[at : at + 1] == [end]:
            del ends[at]
            if not ends:
                del self.present[folded]

    def label(self, sender: bytes, name: str) -> str:
        """How to show `name` of `sender`."""
        shown, folded = self._judge(name)
        if not shown:
            return sender.hex()
        ends = self.present.get(folded)
        if ends is None:
            return shown
        end = sender[::-1]
        at = bisect_left(ends, end)
        after = at + (ends[at : at + 1] == [end])
        beside = ends[max(0, at - 1) : at] + ends[after : after + 1]
        if not beside:
            return shown
        needed = max(TAG_BYTES_MIN, *[_in_common(end, other) + 1 for other in beside])
        return f"{shown}~{sender[-needed:].hex()}"


def _in_common(one: bytes, other: bytes) -> int:
    """How many bytes at their beginnings are equal."""
    count = 0
    for a, b in zip(one, other):
        if a != b:
            break
        count += 1
    return count
