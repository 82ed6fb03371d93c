"""The rules of the room directory, in memory.

A change is made in two steps, so that the disk can stand between them: `check_make` or
`check_delete` says whether a rule forbids it and changes nothing; then `add` or `remove`, which
cannot fail. Changes are provisional until `commit`:

    state        add, remove                  commit        rollback
    clean        version + 1 -> provisional   nothing       nothing
    provisional  version + 1                  -> clean      undone, newest first -> clean

`rollback` leaves the directory as it was after the last `commit`: rooms, version, and who was in
a deleted room. Entering and leaving are not changes: they are neither versioned nor undone.

A room may be deleted by anyone, or only with the token that its maker was given. A token is 128
random bits in hexadecimal, told once in the reply to `makeroom`. The server keeps only its SHA-256,
so neither its state file nor a listing contains the token. (A slow hash is for secrets that people
choose; these cannot be guessed, and a slow hash would let strangers keep the server busy.)
"""

from __future__ import annotations

from evloop.base.addresses import prefix_of
from evloop.base.errors import ADDRESS_IN_USE, FULL, NO_SUCH_ROOM, NOT_ALLOWED, ROOM_EXISTS, Refused
from evloop.base.limits import ROOM_NAME_BYTES_MAX
from evloop.base.names import fold, normalize, place_of, quoted
from evloop.base.strictjson import encode
from evloop.directory.limits import (
    AFTER_BYTES_MAX,
    NAME_AS_SENT_FACTOR,
    NETWORK_ROOMS_FACTOR,
    PAGE_BYTES_MAX,
    PAGES_CACHED_MAX,
    PLACE_DRAWS_MAX,
    ROOMS_ENTERED_MAX,
    ROOMS_MAX,
    ROOMS_PER_ADDRESS_MAX,
    TOKEN_BYTES,
)
from evloop.directory.pages import PagedIndex
from evloop.directory.places import drawn_place, places_of
from evloop.directory.protocol import (
    NULL,
    RoomEntry,
    change_body,
    page_body,
    room_body,
    room_json,
)
from evloop.system.timers import nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator
    from random import Random

    from evloop.directory.protocol import RoomEntry


class Directory:
    """All rooms, by name and by place; who is in them; the listing in pages.

    `rooms` and `version` are what the store held. A cap of 0 is lifted. Members are anything
    hashable that stands for one connection.
    """

    __slots__ = (
        "_changes",
        "_entered",
        "_inside",
        "_namesakes",
        "_places",
        "_rooms",
        "listing",
        "made_by",
        "on_empty",
        "pages",
        "provisional",
        "rooms_max",
        "rooms_per_address",
        "version",
    )

    def __init__(
        self,
        rooms: Iterable[RoomEntry] = (),
        version: int = 0,
        *,
        rooms_max: int = ROOMS_MAX,
        rooms_per_address: int = ROOMS_PER_ADDRESS_MAX,
    ) -> None:
        self.version = version
        self.rooms_max = rooms_max
        self.rooms_per_address = rooms_per_address
        self._rooms: dict[str, RoomEntry] = {}
        self._namesakes: dict[str, RoomEntry] = {}  # by name, those whose fold another room has
        for room in rooms:
            if room.fold in self._rooms:
                # Of an older release, or of a Python with an older Unicode, to which the two names
                # were not the same. Both stay reachable: this one by its exact name only.
                room.fold = f"{room.fold}\0{room.name}"
                self._namesakes[room.name] = room
            self._rooms[room.fold] = room
        self._places = {(room.address, room.port): room for room in self._rooms.values()}
        self.made_by: dict[str, int] = {}  # number of rooms by maker and by /64, never 0
        for room in self._rooms.values():
            self._count(room.maker, 1)
        self.listing = PagedIndex([(key, room_json(room, 0)) for key, room in self._rooms.items()])
        self.pages: dict[tuple[str | None, int], bytes] = {}  # getdir's results of this version
        self._inside: dict[str, set[Hashable]] = {}  # by fold; a room with nobody is not in it
        self.on_empty: Callable[[str], object] = nothing  # the last one has left; by fold
        self._entered: dict[Hashable, set[str]] = {}  # by member; the same the other way
        # What to undo: (room, None) was added, (room, who was inside) was removed.
        self._changes: list[tuple[RoomEntry, set[Hashable] | None]] = []
        # Whether there are changes since the last `commit`: what is read now may be undone. For
        # reading; a plain attribute, because every reply asks (a property: 50 ns more).
        self.provisional = False

    def __len__(self) -> int:
        return len(self._rooms)

    def __iter__(self) -> Iterator[RoomEntry]:
        """All rooms of this moment, in no order; `rooms` sorts them."""
        return iter(list(self._rooms.values()))

    def __contains__(self, room: RoomEntry) -> bool:
        return self._rooms.get(room.fold) is room

    # -- looking -----------------------------------------------------------------------------------

    def find(self, name: str) -> RoomEntry:
        """Return the room of that name, however it is written, or raise Refused `no_such_room`."""
        room = self.look_up(name)
        if room is None:
            sentence = f"there is no room {quoted(name)}"
            raise Refused(NO_SUCH_ROOM, "no_such_room", sentence)
        return room

    def look_up(self, name: str) -> RoomEntry | None:
        """The room of that name, however it is written, if there is one."""
        return self._rooms.get(self._key(name)) if may_be_a_name(name) else None

    def at(self, address: str, port: int) -> RoomEntry | None:
        """The room of a canonical place, if there is one."""
        return self._places.get((address, port))

    def _key(self, name: str) -> str:
        """The key of the room called `name`, if there is one."""
        namesake = self._namesakes.get(normalize("NFC", name)) if self._namesakes else None
        return fold(name) if namesake is None else namesake.fold

    def rooms(self) -> list[RoomEntry]:
        """Return all rooms, sorted by fold."""
        return [self._rooms[key] for key in sorted(self._rooms)]

    def members(self, room: RoomEntry) -> int:
        """How many connections are in `room`."""
        return len(self._inside.get(room.fold, ()))

    def occupied(self) -> list[RoomEntry]:
        """The rooms in which somebody is."""
        return [self._rooms[key] for key in self._inside]

    def is_inside(self, room: RoomEntry, member: Hashable) -> bool:
        """Whether `member` is in `room`."""
        return member in self._inside.get(room.fold, ())

    def page(self, after: str | None, limit: int) -> bytes:
        """Return the result of getdir: as many rooms after `after` as `limit` and a frame allow.

        The same bytes are given until the next change.
        """
        if after is not None:
            # No room's name is as long, so the bytes beyond the cap make no difference.
            cut = after[:AFTER_BYTES_MAX].encode("utf-8", "replace")[:AFTER_BYTES_MAX]
            after = self._key(cut.decode("utf-8", "ignore"))
        key = after, limit
        body = self.pages.get(key)
        if body is None:
            rooms, last = self.listing.page(key[0], limit, PAGE_BYTES_MAX)
            following = NULL if last is None else encode(self._rooms[last].name)
            body = page_body(self.version, rooms, following)
            if len(self.pages) >= PAGES_CACHED_MAX:
                del self.pages[next(iter(self.pages))]
            self.pages[key] = body
        return body

    # -- changing ----------------------------------------------------------------------------------

    def free_place(self, name: str, rng: Random, ipv6: bool = False) -> tuple[str, int]:
        """Return an (address, port) that no room has: one that follows from `name` (places.py),
        where all of these are taken one drawn by `rng`."""
        for place in places_of(fold(name), ipv6):
            if place not in self._places:
                return place
        return self.fresh_place(rng, ipv6)

    def fresh_place(self, rng: Random, ipv6: bool = False) -> tuple[str, int]:
        """Return an (address, port) that no room has, drawn by `rng`."""
        for _ in range(PLACE_DRAWS_MAX):
            place = drawn_place(rng, ipv6)
            if place not in self._places:
                return place
        sentence = "no free address was found; give an address and a port"
        raise Refused(FULL, "directory_full", sentence)

    def check_make(self, room: RoomEntry) -> None:
        """Raise Refused when `room`, canonical in all its parts, cannot be added."""
        other = self._rooms.get(room.fold)
        if other is not None:
            sentence = f"room {other.name} exists already ({place_of(other.address, other.port)})"
            raise Refused(ROOM_EXISTS, "room_exists", sentence)
        other = self._places.get((room.address, room.port))
        if other is not None:
            sentence = f"{place_of(room.address, room.port)} is in use by room {other.name}"
            raise Refused(ADDRESS_IN_USE, "address_in_use", sentence, {"room": other.name})
        most = self.rooms_per_address
        network = prefix_of(room.maker)
        for who, cap in ((room.maker, most), (network, NETWORK_ROOMS_FACTOR * most)):
            made = self.made_by.get(who, 0)
            if most and made >= cap:
                sentence = f"there are {made} rooms from {who} already; delete one first"
                raise Refused(FULL, "too_many_rooms", sentence)
        if self.rooms_max and len(self._rooms) >= self.rooms_max:
            sentence = f"the directory is full ({len(self._rooms)} rooms)"
            raise Refused(FULL, "directory_full", sentence)

    def check_delete(self, name: str) -> RoomEntry:
        """Return the room that `remove` may remove, or raise Refused."""
        return self.find(name)

    def add(self, room: RoomEntry) -> bytes:
        """Add what `check_make` allowed; return the body of the change, for reply and watchers."""
        encoded = self._put(room)
        self._note(room, None)
        return change_body(self.version, encoded)

    def remove(self, room: RoomEntry) -> bytes:
        """Remove a room of the directory and everybody from it; return the body of the change."""
        encoded = room_json(room, self.members(room))
        self._note(room, self._take(room))
        return change_body(self.version, encoded)

    def _note(self, room: RoomEntry, inside: set[Hashable] | None) -> None:
        self._changes.append((room, inside))
        self.provisional = True
        self.version += 1

    def commit(self) -> None:
        """Say that the changes are on disk."""
        self._changes.clear()
        self.provisional = False

    def rollback(self) -> None:
        """Undo all changes since the last `commit`, newest first."""
        self.version -= len(self._changes)
        while self._changes:
            room, inside = self._changes.pop()
            if inside is None:
                self._take(room)
                continue
            for member in inside:
                self._join(room.fold, member)
            self._put(room)
        self.provisional = False

    def _put(self, room: RoomEntry) -> bytes:
        assert room.fold not in self._rooms, "check_make was asked"
        assert (room.address, room.port) not in self._places, "check_make was asked"
        self._rooms[room.fold] = room
        if "\0" in room.fold:
            self._namesakes[room.name] = room
        self._places[room.address, room.port] = room
        self._count(room.maker, 1)
        encoded = room_json(room, self.members(room))
        self.listing.insert(room.fold, encoded)
        self.pages.clear()
        return encoded

    def _take(self, room: RoomEntry) -> set[Hashable]:
        assert self._rooms.get(room.fold) is room, "the room is of this directory"
        del self._rooms[room.fold], self._places[room.address, room.port]
        if "\0" in room.fold:
            del self._namesakes[room.name]
        self._count(room.maker, -1)
        self.listing.remove(room.fold)
        self.pages.clear()
        inside = self._inside.get(room.fold, set()).copy()
        for member in inside:
            self._part(room.fold, member)
        return inside

    def _count(self, maker: str, more: int) -> None:
        """Count a room for its maker, and for the /64 of the maker's address."""
        for who in {maker, prefix_of(maker)}:
            count = self.made_by.get(who, 0) + more
            if count:
                self.made_by[who] = count
            else:
                del self.made_by[who]

    # -- being in rooms ----------------------------------------------------------------------------

    def enter(self, name: str, member: Hashable) -> bytes:
        """Note that `member` is in the room, and return the body `{"room": ROOM}`.

        Raises Refused when there is no such room or the member is in too many. Entering again
        does no harm.
        """
        room = self.find(name)
        entered = self._entered.get(member, ())
        if room.fold not in entered:
            if len(entered) >= ROOMS_ENTERED_MAX:
                sentence = f"you are in {len(entered)} rooms already; leave one first"
                raise Refused(FULL, "too_many_rooms", sentence)
            self._join(room.fold, member)
            self._recount(room)
        return room_body(room_json(room, self.members(room)))

    def leave(self, name: str, member: Hashable) -> None:
        """Note that `member` is not in the room, if there is one. Leaving again does no harm."""
        try:
            room = self.find(name)
        except Refused:
            return
        if room.fold in self._entered.get(member, ()):
            self._part(room.fold, member)
            self._recount(room)

    def leave_all(self, member: Hashable) -> int:
        """Note that `member` is gone from everywhere, also from rooms that a rollback restores.

        Returns how many rooms it was in.
        """
        keys = tuple(self._entered.get(member, ()))
        for key in keys:
            self._part(key, member)
            self._recount(self._rooms[key])
        for _, inside in self._changes:
            if inside is not None:
                inside.discard(member)
        return len(keys)

    def _join(self, key: str, member: Hashable) -> None:
        self._inside.setdefault(key, set()).add(member)
        self._entered.setdefault(member, set()).add(key)

    def _part(self, key: str, member: Hashable) -> None:
        inside = self._inside[key]
        inside.remove(member)
        if not inside:
            del self._inside[key]
            self.on_empty(key)
        entered = self._entered[member]
        entered.remove(key)
        if not entered:
            del self._entered[member]

    def _recount(self, room: RoomEntry) -> None:
        self.listing.replace(room.fold, room_json(room, self.members(room)))
        self.pages.clear()


def may_be_a_name(name: str) -> bool:
    """Whether a room can have that name. Its bytes are checked before it is folded, because folding
    can make 18 characters of one (U+FDFA): that costs a peer nothing and this server much."""
    most = ROOM_NAME_BYTES_MAX
    if len(name) > NAME_AS_SENT_FACTOR * most or len(name.encode()) > NAME_AS_SENT_FACTOR * most:
        return False
    return len(normalize("NFC", name).encode()) <= most


def token_hash(token: str) -> bytes:
    """The SHA-256 of a token, which is all that is kept of it."""
    from hashlib import sha256

    return sha256(token.encode("utf-8", "replace")).digest()


def new_token(random_bytes: bytes) -> str:
    """The token made of TOKEN_BYTES random bytes."""
    assert len(random_bytes) == TOKEN_BYTES
    return random_bytes.hex()


def check_owner(room: RoomEntry, token: str | None) -> None:
    """Raise Refused `not_allowed` unless `token` is that of `room`."""
    if not room.token:
        raise _not_allowed(f"room {room.name} has no owner; only the operator can delete it")
    if token is None:
        raise _not_allowed(f"room {room.name} can be deleted only by who made it")
    # hashlib is loaded with the first token; compare_digest tells nothing by its time.
    from hmac import compare_digest

    if not compare_digest(token_hash(token), room.token):
        raise _not_allowed(f"that is not the token of room {room.name}")


def _not_allowed(sentence: str) -> Refused:
    return Refused(NOT_ALLOWED, "not_allowed", sentence)
