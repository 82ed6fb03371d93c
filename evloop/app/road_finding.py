"""What `doctor` says of the road that a room takes, and why. Pure text."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# The road of the room that one is in -> what that means.
_TAKEN = {
    "off": "this room goes by multicast, which works",
    "probing": "this room goes by the directory while it is found out whether multicast works",
    "up": "what you say in this room goes by the directory, which does not hear you by multicast",
    "full": "this room goes by the directory: multicast does not bring everybody",
    "alone": "this room goes by the directory alone",
}
_WHY = {
    "receiving": "multicast does not reach this machine",
    "sending": "multicast of this machine does not get out",
    "interface": "multicast does not work on this machine",
}


def road_words(evidence: Any, findings: Iterable[Any]) -> tuple[str, str]:
    """(sentence, what to do) by the other `findings`; ("", "") where no directory is connected."""
    if not evidence.relay:
        return "", ""
    if evidence.relay == "none":
        return "rooms go by multicast: this directory carries none", ""
    if evidence.relay == "never":
        what = "rooms go by multicast: the directory would carry them, and --relay is never"
        bad = any(one.level == "bad" for one in findings)
        return what, "--relay auto" if bad else ""
    if evidence.relay == "always":
        return "rooms go by the directory: --relay always", ""
    if evidence.road:
        return _TAKEN[evidence.road], ""
    for one in findings:
        if one.level == "bad" and one.topic in _WHY:
            return f"rooms go by the directory: {_WHY[one.topic]}", ""
    return "rooms go by multicast; by the directory as soon as that does not reach everybody", ""
