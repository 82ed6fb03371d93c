"""What this server is, as it tells IRC clients: capabilities, limits, the message of the day."""

from __future__ import annotations

from evloop.irc.codec import SERVER
from evloop.irc.limits import AWAY_BYTES_MAX, CHATHISTORY_MAX

CAPS = (
    "batch", "cap-notify", "draft/chathistory", "echo-message", "extended-join", "message-tags",
    "multi-prefix", "server-time", "standard-replies", "userhost-in-names",
)  # fmt: skip
ISUPPORT = (
    "CASEMAPPING=ascii", "CHANTYPES=#", "CHANMODES=,,,n", "PREFIX=(ov)@+", "MODES=1",
    "NETWORK=evloop", "UTF8ONLY", "NICKLEN=32", "CHANNELLEN=65", "CLIENTTAGDENY=*",
    f"CHATHISTORY={CHATHISTORY_MAX}", "MSGREFTYPES=msgid,timestamp", f"AWAYLEN={AWAY_BYTES_MAX}",
    "TARGMAX=PRIVMSG:1,NOTICE:1,NAMES:1,WHOIS:1,JOIN:,PART:",
)  # fmt: skip


def motd(version: str) -> list[tuple[int, str]]:
    """The message of the day of evloop `version`, as numerics."""
    return [
        (375, f"- {SERVER} Message of the day - "),
        (372, f"- evloop {version}: each channel is a room of this network, and each message goes"),
        (372, "- straight to who is in it. There are no operators, topics and private messages."),
        (376, "End of /MOTD command."),
    ]
