"""The window law: how long to wait so that one of N acts and the others need not."""

from math import e, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from random import Random


def window_wait(rng: "Random", window: float, members: int) -> float:
    """Draw a wait in [0, window] seconds, `members` drawing likewise.

    The truncated exponential of NORM (RFC 5401, 4.2): the density grows as exp(l t / window) with
    l = ln(members) + 1, so nearly everybody waits long and the few early ones silence the rest.
    """
    # exp(l) is e times members.
    return window * log(1.0 + rng.random() * (e * members - 1.0)) / (log(members) + 1.0)
