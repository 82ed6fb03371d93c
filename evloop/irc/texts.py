"""What was said, as lines for an IRC client.

One line for each line of a message, cut at blanks so that each has at most 512 bytes. Every text
goes through `names.display`, so that nothing that a peer sent acts on a client.
"""

from __future__ import annotations

from evloop.base.names import display
from evloop.irc.codec import pack, pieces
from evloop.irc.limits import SENT_BYTES_MAX
from evloop.room.events import ME
from evloop.terminal.report import MARKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from evloop.room.events import Said

_ACTION, _END = "\x01ACTION ", "\x01"
_PIECE_BYTES_MIN = 64  # whatever nick and channel there are: they have at most 97 bytes


def texts_of(event: Said, source: str, verb: str, channel: str, stamp: str = "") -> list[str]:
    """The last parameters of the lines that say `event`. `stamp`: the time of day, in front."""
    begin, end = f"[{stamp}] " if stamp else "", ""
    if event.kind == ME:
        if verb == "PRIVMSG":
            begin, end = _ACTION + begin, _END
        else:
            begin += "* "
    head = len(f":{source} {verb} {channel} :{begin}{end}".encode())
    most = max(_PIECE_BYTES_MIN, SENT_BYTES_MAX - 2 - head)
    lines = [display(line) for line in event.text.split("\n")]
    mark = MARKS.get(event.mark)
    if mark:
        lines[-1] += f" [{mark}]"
    return [begin + (piece or " ") + end for line in lines for piece in pieces(line, most)]


def render(
    source: str, verb: str, channel: str, texts: list[str], tags: Mapping[str, str]
) -> bytes:
    """The lines of one message; its `msgid` is on the first alone, so that it is one message."""
    lines = []
    rest = {key: value for key, value in tags.items() if key != "msgid"}
    for at, text in enumerate(texts):
        lines.append(pack(rest if at else tags, source, (verb, channel), text))
    return b"".join(lines)
