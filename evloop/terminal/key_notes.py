"""The sentences about sealed rooms and their keys."""

from __future__ import annotations

from evloop.base.names import display, quoted
from evloop.terminal.report import note

# Told to who has made a sealed room, below its key.
HAND_ON = (
    "whoever has this key reads and speaks in {}: hand it on in person or by an encrypted road,"
    " not in an open room"
)
HAND_ON_PASSPHRASE = (
    "whoever has this passphrase reads and speaks in {}: hand it on in person or by an encrypted"
    " road, not in an open room"
)


def hand_on(room: str, code: str) -> str:
    """`code` "": it was made of a passphrase."""
    return note((HAND_ON if code else HAND_ON_PASSPHRASE).format(display(room)))


def invitation(code: str) -> str:
    """The key of a room, as it may be pasted whole where a key is asked for."""
    return f"key {code}"


def other_key(room: str, theirs: int, yours: int, proven: bool) -> str:
    """Datagrams of another key come here; 0 is none. `proven`: somebody here has ours."""
    if not yours:
        return note(f"others here are sealed (key {theirs:04x}): you do not hear each other")
    if not theirs:
        return note("somebody sends here without a key; it is not shown")
    again = f"key {quoted(room)} --set at the main prompt takes another"
    doubt = "" if proven else f"; is yours right? {again}"
    return note(
        f"somebody here has another key ({theirs:04x}; yours is {yours:04x}): you do not hear each"
        f" other{doubt}"
    )


def repeated(count: int) -> str:
    """Recorded messages are played again."""
    return note(f"old messages of this room are being repeated ({count}); they are not shown")
