"""The keys of sealed rooms at the door: what JOIN brings, else --key-file, else what is remembered.

A key of JOIN is a code, or a passphrase, which a child makes a key of while the loop goes on. It is
remembered, as one that was typed at a terminal, once somebody in the room has proved to have it.
"""

from __future__ import annotations

import os

from evloop.app.room_keys import KeyMissing, RoomKeys
from evloop.base.errors import REFUSED, EvloopError, SetupError
from evloop.base.names import place_of, quoted
from evloop.directory import roomkeys
from evloop.directory.protocol import SEALED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from evloop.app.shell import Client
    from evloop.directory.protocol import RoomEntry


class _Nobody:
    """A frontend at which nobody can be asked: a door has no terminal of its own."""

    __slots__ = ()

    is_terminal = False
    asking = False


class Locks:
    """The keys that the door has. `safe`: nobody overhears what a client sends."""

    __slots__ = ("_keys", "_loop", "_safe")

    def __init__(self, client: Client, safe: bool) -> None:
        nobody: Any = _Nobody()
        self._loop = client.loop
        self._safe = safe
        self._keys = RoomKeys(
            client.loop, nobody, client.link, client.options, os.environ, client.rng
        )

    def unlock(
        self,
        entry: RoomEntry,
        key: str,
        go: Callable[[bytes | None], object],
        failed: Callable[[EvloopError], object],
    ) -> None:
        """`go(secret)` when the room may be entered, None for one that is not sealed; else
        `failed(error)`, or EvloopError at once. `key`: what JOIN gave, "" for nothing."""
        if entry.mode != SEALED or not key:
            try:
                self._keys.enter(entry, go, failed)
            except KeyMissing:
                if not self._safe:
                    raise  # JOIN is no way to give it
                name = f"room {quoted(entry.name)} is sealed"
                raise SetupError(f"{name}: /join #{entry.name} KEY", REFUSED) from None
            return
        if not self._safe:
            why = f"a key of {quoted(entry.name)} would be overheard here: the door needs TLS"
            raise SetupError(why, REFUSED)
        place = place_of(entry.address, entry.port)
        given = roomkeys.read_key(key)
        if isinstance(given, bytes):
            self._keys.typed(entry, given)
            go(given)
            return
        passphrase = roomkeys.check_passphrase(given)

        def derived(secret: bytes, why: str) -> None:
            if why:
                failed(SetupError(why, REFUSED))
                return
            self._keys.typed(entry, secret)
            try:
                go(secret)
            except EvloopError as error:
                failed(error)

        roomkeys.Derivation(self._loop, passphrase, place, derived)

    def proven(self, place: str) -> str:
        """Somebody there has the same key: remember it; "" or why that fails."""
        return self._keys.proven(place)
