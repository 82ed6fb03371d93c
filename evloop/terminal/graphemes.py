"""Text -> clusters, and how many columns a cluster takes.

A cluster is what a person calls a character: a base with its combining marks, an emoji with its
skin tone, a chain of emoji held together by U+200D, a flag (UAX #29, simplified: a character that
takes no column of its own belongs to the one before).

Nobody knows how wide a terminal draws a chain or a flag, and it is never asked. Such a cluster is
`uncertain`: it is given the columns of its parts, the widest that any terminal uses, and after it
the renderer moves to an absolute column. A terminal that draws it narrower then shows a gap, and
all that follows stands where it should.

`unicodedata` is loaded for the first character beyond ASCII; a box without it gets the large
blocks from a short table.
"""

from __future__ import annotations

from evloop.base.names import display, ignorable
from evloop.terminal.limits import CELLS_CACHED_MAX, CLUSTER_CHARACTERS_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # (what is written, columns, whether every terminal agrees on the columns)
    Cell = tuple[str, int, bool]
    Traits = tuple[int, bool]

ZWJ = "\u200d"
RETURN_SIGN = "\u23ce"
DOTTED_CIRCLE = "\u25cc"
REPLACEMENT = "\ufffd"
FIRST_TAG = "\U000e0020"  # tags spell the flags of regions
ZWJ_NARROW = "\u2640\u2642\u2695\u2696\u2708\u2764\u2620\u26a7\u2b1b"  # joined, not wide

# Inclusive ranges for boxes without unicodedata: marks that take no column, and wide blocks.
_MARKS = (
    (0x0300, 0x036F), (0x0483, 0x0489), (0x0591, 0x05BD), (0x064B, 0x065F), (0x0900, 0x0903),
    (0x093A, 0x094F), (0x0E31, 0x0E31), (0x0E34, 0x0E3A), (0x0E47, 0x0E4E), (0x1160, 0x11FF),
    (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x200B, 0x200F), (0x2060, 0x2064), (0x20D0, 0x20FF),
    (0x3099, 0x309A), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F), (0xFEFF, 0xFEFF), (0xE0000, 0xE01EF),
)  # fmt: skip
_WIDE = (
    (0x1100, 0x115F), (0x231A, 0x231B), (0x23E9, 0x23EC), (0x2614, 0x2615), (0x26A1, 0x26A1),
    (0x2E80, 0x303E), (0x3041, 0x4DBF), (0x4E00, 0xA4CF), (0xA960, 0xA97F), (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF), (0xFE30, 0xFE6F), (0xFF00, 0xFF60), (0xFFE0, 0xFFE6), (0x16FE0, 0x18DFF),
    (0x1B000, 0x1B2FF), (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F7E0, 0x1F7EB),
    (0x1F900, 0x1FAFF), (0x20000, 0x3FFFD),
)  # fmt: skip


def _within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(low <= code <= high for low, high in ranges)


def _traits_from_table(char: str) -> Traits:
    code = ord(char)
    mark = _within(code, _MARKS)
    return 0 if mark else 2 if _within(code, _WIDE) else 1, mark


def _load_traits() -> Callable[[str], Traits]:
    """A function char -> (0, 1 or 2 columns, whether it belongs to the character before)."""
    try:
        from unicodedata import category, east_asian_width
    except ImportError:
        return _traits_from_table

    def traits(char: str) -> Traits:
        kind = category(char)
        if kind in ("Mn", "Me", "Cf") or "\u1160" <= char <= "\u11ff":
            return 0, True
        if kind == "Cn":  # unassigned when this Python was made: newer emoji, most likely
            return _traits_from_table(char)
        wide = "WFA" if _ambiguous_is_wide else "WF"
        return 2 if east_asian_width(char) in wide else 1, kind == "Mc"

    return traits


char_traits: Callable[[str], Traits] | None = None
cells_cached: dict[tuple[str, str], Cell] = {}
_ambiguous_is_wide = False


def set_ambiguous(wide: bool) -> None:
    """Say how the terminal draws what Unicode calls ambiguous (East Asian Width A).

    Terminals that are set up for Chinese, Japanese or Korean give such characters (Greek and
    Cyrillic letters, arrows, circled numbers) two columns, others one; none can be asked.
    """
    global _ambiguous_is_wide  # noqa: PLW0603  of the terminal, and there is one
    if wide != _ambiguous_is_wide:
        _ambiguous_is_wide = wide
        cells_cached.clear()


def _traits_of(char: str) -> Traits:
    global char_traits  # noqa: PLW0603  loaded once, late
    if char_traits is None:
        char_traits = _load_traits()
    return char_traits(char)


def _is_flag_letter(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _is_skin_tone(char: str) -> bool:
    return "\U0001f3fb" <= char <= "\U0001f3ff"


def joins(cluster: str, char: str) -> bool:
    """Whether `char` belongs to the cluster before it."""
    if char < "\u0300" and char != "\u00ad":
        return False
    if len(cluster) >= CLUSTER_CHARACTERS_MAX or cluster in ("", "\n"):
        return False
    if _is_flag_letter(char):
        return len(cluster) == 1 and _is_flag_letter(cluster)
    columns, mark = _traits_of(char)
    if mark:
        return True
    if cluster[-1] == ZWJ:
        return columns == 2 or char in ZWJ_NARROW
    return _is_skin_tone(char) and _traits_of(cluster[-1])[0] != 1


def split(text: str) -> list[str]:
    """Cut `text` into clusters; joined they are `text` again."""
    if text.isascii():
        return list(text)
    clusters: list[str] = []
    for char in text:
        if clusters and joins(clusters[-1], char):
            clusters[-1] += char
        else:
            clusters.append(char)
    return clusters


def cell(cluster: str, charset: str = "utf-8") -> Cell:
    """How one cluster is drawn: what is written, its columns, and whether they are certain.

    `charset` is what the terminal understands ("utf-8", "latin-1", "ascii"); what it cannot show
    becomes a question mark.
    """
    if len(cluster) == 1 and " " <= cluster <= "~":
        return cluster, 1, True
    key = (cluster, charset)
    found = cells_cached.get(key)
    if found is None:
        if len(cells_cached) >= CELLS_CACHED_MAX:
            cells_cached.clear()
        found = cells_cached[key] = _measure(cluster, charset)
    return found


def _is_drawn(char: str) -> bool:
    """Whether `char` is written to the terminal when it is typed.

    More than isprintable(), which is false for all white space but U+0020, for private use and for
    all that this Python's Unicode does not know: people type ideographic and no-break spaces, icons
    and newer emoji.
    """
    if char.isprintable() or char == ZWJ or char >= FIRST_TAG:
        return True
    return display(char) == char and not ignorable(char)


def _measure(cluster: str, charset: str) -> Cell:
    if cluster == "\n":
        return (RETURN_SIGN if charset == "utf-8" else "^J"), (1 if charset == "utf-8" else 2), True
    if charset != "utf-8":
        base = cluster[0]
        try:
            base.encode(charset)
        except UnicodeEncodeError:
            return "?", 1, True
        return (base if _is_drawn(base) else "?"), 1, True
    # Invisible characters are kept in the text and left out of the drawing; only what holds a
    # cluster together is written.
    shown = "".join(char for char in cluster if _is_drawn(char)).strip(ZWJ)
    if not shown:
        return REPLACEMENT, 1, True
    if len(shown) == 1 and _is_flag_letter(shown):
        # Half a flag is drawn as a letter, so that it cannot join with the text beside it.
        return chr(ord(shown) - 0x1F1E6 + ord("A")), 1, True
    if _traits_of(shown[0])[1]:
        shown = DOTTED_CIRCLE + shown  # a mark without a base would land on the prompt
    columns = sum(_traits_of(char)[0] for char in shown)
    if "\ufe0f" in shown:
        columns = max(columns, 2)  # drawn as an emoji
    # Terminals differ about characters for private use, and about those of a newer Unicode.
    known = shown[0].isprintable() or shown[0].isspace()
    certain = known and all(
        "\u0300" <= char <= "\u036f" or "\u3099" <= char <= "\u309a" for char in shown[1:]
    )
    return shown, columns, certain


def padded(text: str, columns: int) -> str:
    """`text`, filled up with blanks to `columns` columns."""
    return text + " " * (columns - width(text))


def width(text: str) -> int:
    """Columns that `text` (no control characters) takes, as far as one can know."""
    if text.isascii():
        return len(text)
    return sum(cell(cluster)[1] for cluster in split(text))
