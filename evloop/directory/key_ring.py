"""The keys of sealed rooms that this user's machine remembers.

The file `room_keys` of the state directory, 0600, a `KeyFile`; a line is

    DIRECTORY/NAME/ADDRESS:PORT HEX      9f0c55d01a2b3c4d/lab/239.255.7.1:5751 000102...0f

HEX is the secret: 32 digits of one that was generated, 64 of one that a passphrase became. NAME is
folded; DIRECTORY is the directory's id, or HOST:PORT where it tells none; both are `-` for a room
that was entered without a directory. A key is looked up by its place, for the same secret at
another place is another key. That a name was sealed is remembered too: else whoever makes an open
room of that name would be talked to in the open.
"""

from __future__ import annotations

from evloop.base.names import fold
from evloop.directory.key_file import KeyFile, is_hex

NONE = "-"  # instead of a directory or a name
SECRET_DIGITS = (32, 64)


class KeyRing(KeyFile):
    """The file in the state directory `directory`. Every method raises SetupError."""

    __slots__ = ()

    def __init__(self, directory: str) -> None:
        super().__init__(directory, "room_keys")

    def good(self, key: str, value: str) -> bool:
        """A line that was not written by this module is damage, and told."""
        return key.count("/") >= 2 and len(value) in SECRET_DIGITS and is_hex(value)

    def at(self, place: str) -> bytes | None:
        """The newest secret that is kept for `place`."""
        found = [value for key, value in self.all().items() if _place_of(key) == place]
        return bytes.fromhex(found[-1]) if found else None

    def named(self, directory: str, name: str) -> dict[str, bytes]:
        """Places at which the room `name` of `directory` was sealed, the newest last."""
        wanted = f"{directory}/{fold(name)}"
        return {
            _place_of(key): bytes.fromhex(value)
            for key, value in self.all().items()
            if key.rpartition("/")[0] == wanted
        }

    def anywhere(self, name: str) -> dict[str, bytes]:
        """The same of all directories."""
        wanted = fold(name)
        return {
            _place_of(key): bytes.fromhex(value)
            for key, value in self.all().items()
            if key.rpartition("/")[0].partition("/")[2] == wanted
        }

    def keep(self, directory: str, name: str, place: str, secret: bytes) -> None:
        """Remember `secret` for the room at `place`; NONE for a directory or a name."""
        self.put(f"{directory}/{fold(name)}/{place}", secret.hex())

    def forget(self, directory: str, name: str, place: str = "") -> int:
        """Forget the room `name` of `directory`, every place that it had, and `place`.

        `name` may be NONE: then `place` alone. Returns how many keys were forgotten.
        """
        gone = f"{directory}/{fold(name)}"
        places = {_place_of(key) for key in self.all() if key.rpartition("/")[0] == gone} | {place}
        return self.remove(lambda key: _place_of(key) in places)


def _place_of(key: str) -> str:
    return key.rpartition("/")[2]
