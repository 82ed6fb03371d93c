"""The directories that this user was connected to before: the file `known_ids`.

    ID FP NAME      0102030405060708 5f2e...c4 kitchen-pi

ID is what the directory calls itself, FP its certificate's SHA-256 ("-" of one without TLS), NAME
what people are shown. Who was met once is taken again without a question. The file is a `KeyFile`:
lines are appended, and of KNOWN_IDS_MAX lines the newest stay.
"""

from __future__ import annotations

from evloop.base.names import display, fold
from evloop.directory.discovery import DOUBTFUL, KNOWN, STRANGER, bare_label
from evloop.directory.key_file import KeyFile, is_hex
from evloop.directory.limits import KNOWN_IDS_MAX, KNOWN_NAME_CHARS_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from evloop.directory.discovery import Found

KNOWN_IDS = "known_ids"
NO_TLS = "-"
ID_DIGITS, FP_DIGITS = 16, 64


def is_id(text: object) -> bool:
    """Whether `text` can be the id of a directory."""
    return type(text) is str and len(text) == ID_DIGITS and is_hex(text)


class KnownIds(KeyFile):
    """The file in `directory`; key: the id, value: "FP NAME"."""

    __slots__ = ()

    lines_max = KNOWN_IDS_MAX

    def __init__(self, directory: str) -> None:
        super().__init__(directory, KNOWN_IDS)

    def good(self, key: str, value: str) -> bool:
        fp, _, name = value.partition(" ")
        whole = fp == NO_TLS or (len(fp) == FP_DIGITS and is_hex(fp))
        return is_id(key) and whole and 0 < len(name) <= KNOWN_NAME_CHARS_MAX

    def split(self, line: str) -> tuple[str, str]:
        key, _, value = line.partition(" ")
        return key, value

    def entries(self) -> dict[str, tuple[str, str]]:
        """Of each id its certificate ("-": none) and its name, the newest last. SetupError."""
        found = {}
        for key, value in self.all().items():
            fp, _, name = value.partition(" ")
            found[key] = fp, name
        return found

    def keep(self, number: str, fp: str, name: str) -> None:
        """Remember who was just connected to; `fp` is "" of one without TLS. SetupError.

        A certificate that is kept stays: who speaks plain TCP under that id is somebody else.
        """
        known = self.entries()
        kept, called = known.get(number, (NO_TLS, ""))
        fp = fp or kept
        name = display(name)[:KNOWN_NAME_CHARS_MAX].strip() or called or number
        if list(known)[-1:] != [number] or (kept, called) != (fp, name):
            self.put(number, f"{fp} {name}")


def standing_of(found: Found, known: Mapping[str, tuple[str, str]]) -> str:
    """KNOWN, STRANGER, or DOUBTFUL: it claims to be one that it is not, as far as can be seen.

    A TLS directory that now says that it speaks none, or announces another certificate, or whose
    name comes with another id.
    """
    if found.id in known:
        fp = known[found.id][0]
        changed = not found.tls or not fp.startswith(found.fp)
        return DOUBTFUL if fp != NO_TLS and changed else KNOWN
    name = fold(display(bare_label(found.label)))
    tls = (fold(called) for fp, called in known.values() if fp != NO_TLS)
    return DOUBTFUL if name in tls else STRANGER
