"""What Tab does with the candidates that it is handed: their common prefix, or a list."""

from evloop.base.limits import CANDIDATES_SHOWN_MAX
from evloop.base.names import display
from evloop.terminal.graphemes import width


def common_prefix(candidates: list[str]) -> str:
    """What all candidates begin with, in the first one's letters; case does not matter."""
    first = candidates[0]
    length = len(first)
    for other in candidates[1:]:
        length = min(length, len(other))
        for at in range(length):
            if first[at].casefold() != other[at].casefold():
                length = at
                break
    return first[:length]


def listed(candidates: list[str], columns: int) -> str:
    """The candidates side by side in rows that fit `columns`, at most CANDIDATES_SHOWN_MAX."""
    shown = [display(word.strip()) for word in candidates[:CANDIDATES_SHOWN_MAX]]
    widest = max(map(width, shown)) + 2
    across = max(1, (columns - 1) // widest)
    rows = []
    for start in range(0, len(shown), across):
        row = "".join(word + " " * (widest - width(word)) for word in shown[start : start + across])
        rows.append(row.rstrip())
    more = len(candidates) - len(shown)
    if more > 0:
        rows.append(f"and {more} more")
    return "\n".join(rows)
