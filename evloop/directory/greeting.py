"""Whether the directory that greets us is behind what we know of it.

Several servers may serve one directory. A client that comes from one to another tells in its
`hello` which version it has seen: a server that is behind answers when it has caught up, or after
2 s as it is. Then the next server is tried, once; what that one says is taken.

    hello with `version` is answered     what follows
    a version as high, or another id     ready
    a lower one, for the first time      the next server is tried
    a lower one, once more               ready: the list is read anew
    `unknown_member` (evloop 0.1)        hello without it
"""

from __future__ import annotations

from evloop.base.errors import EvloopError, Refused
from evloop.base.names import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHANGES = ("room_made", "room_deleted")
STALE = "the directory is cut off from its store; what it lists may be old"


class Greeting:
    """What one client says in `hello`, and what it makes of the answer.

    `version` is the newest that it has seen of the directory `identity`.
    """

    __slots__ = ("_asked", "_moved_on", "_no_version", "identity", "stale", "version")

    def __init__(self) -> None:
        self.identity = ""
        self.version = 0
        self.stale = False  # the server said so when it greeted last
        self._asked = False  # the last hello told a version
        self._moved_on = False  # one server was left because it was behind
        self._no_version = False  # the server knows no such param

    def params(self, client: str, name: str) -> dict[str, Any]:
        """Those of `hello`."""
        known: dict[str, Any] = {"client": client, "name": name}
        self._asked = bool(self.identity and self.version) and not self._no_version
        self._no_version = False
        if self._asked:
            known["version"] = self.version
        return known

    def again_without(self, error: EvloopError | None) -> bool:
        """Whether `hello` was refused for its version alone: it is to be said once more."""
        refused = isinstance(error, Refused) and error.reason == "unknown_member"
        self._no_version = self._asked and refused
        return self._no_version

    def is_behind(self, fields: dict[str, Any], identity: str, others: bool) -> bool:
        """Whether one of `others` may know more than this server; otherwise it is taken."""
        version = fields["version"]
        behind = identity == self.identity != "" and version < self.version
        if behind and others and not self._moved_on:
            self._moved_on = True
            return True
        self._moved_on = False
        self.identity, self.version = identity, version
        self.stale = type(fields.get("stale")) is int
        return False

    def heard(self, kind: str, params: dict[str, Any]) -> None:
        """News of the directory."""
        version = params.get("version")
        if kind in CHANGES and type(version) is int:
            self.version = version


def other_protocol(endpoint: str, spoken: object, ours: int) -> str:
    """What is said of a server that speaks another version of the protocol."""
    return (
        f"{endpoint} speaks version {quoted(str(spoken))} of the protocol,"
        f" this client version {ours}; use releases that fit each other"
    )
