"""The directories that this user was connected to before: the file `known_ids`.

    ID FP NAME      0102030405060708 5f2e...c4 kitchen-pi

ID is what the directory calls itself, FP its certificate's SHA-256 ("-" of one without TLS), NAME
what people are shown. Who was met once is taken again without a question. The file is a `KeyFile`:
lines are appended, and of KNOWN_IDS_MAX lines the newest stay.
"""

from __future__ import annotations

from evloop.base.names import display
from evloop.directory.key_file import KeyFile, is_hex
from evloop.directory.limits import KNOWN_IDS_MAX, KNOWN_NAME_CHARS_MAX

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
        """Of each id its certificate ("": none) and its name, the newest last. SetupError."""
        found = {}
        for key, value in self.all().items():
            fp, _, name = value.partition(" ")
            found[key] = ("" if fp == NO_TLS else fp), name
        return found

    def keep(self, number: str, fp: str, name: str, endpoint: str) -> None:
        """Remember who was just connected to at `endpoint`; SetupError.

        `fp` is "" of one without TLS: a certificate that is kept stays, for who speaks plain TCP
        under that id is somebody else. `name` is "" where it was not announced.
        """
        known = self.entries()
        kept, called = known.get(number, ("", ""))
        fp = fp or kept
        name = display(name)[:KNOWN_NAME_CHARS_MAX].strip() or called or endpoint
        if list(known)[-1:] != [number] or (kept, called) != (fp, name):
            self.put(number, f"{fp or NO_TLS} {name[:KNOWN_NAME_CHARS_MAX]}")
