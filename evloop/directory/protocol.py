"""JSON-RPC 2.0, one message a frame: what comes in as values, what goes out as bytes.

A request travels as a tuple `(id, method, params)`: `id` is the JSON text to give back as bytes,
None for a notification. It is a tuple and not an object, and replies are formatted around bytes
that were encoded before, because both are on the path of every request (measured: formatting a
reply 0.08 us, `json.dumps` of it 2.1 us).
"""

from __future__ import annotations

from evloop.base.errors import INVALID_REQUEST, METHOD_NOT_FOUND, BadMessage, Refused
from evloop.base.limits import PORT_MAX, ROOM_NAME_BYTES_MAX
from evloop.base.names import check_address, check_port, fold, quoted
from evloop.base.strictjson import decode, encode
from evloop.directory.limits import (
    ADDRESS_BYTES_MAX,
    BATCH_MEMBERS_MAX,
    COUNT_READ_MAX,
    DIRECTORY_ID_DIGITS,
    FOREIGN_READ_MAX,
    ID_CHARS_MAX,
    ID_DIGITS,
    MODE_BYTES_MAX,
    TAIL_BYTES_MAX,
    TAILS_MAX,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeVar

    T = TypeVar("T")
    Request = tuple[bytes | None, str, dict[str, Any]]
    Id = int | str | None


RELIABLE = "reliable"
PLAIN = "plain"
SEALED = "sealed"  # reliable, among those who share a key; the directory never sees it
MODES = (RELIABLE, PLAIN, SEALED)
_SHARED_MODES = {mode: mode for mode in MODES}

NULL = b"null"
EMPTY = b"{}"  # the result of ping, leave and unwatch

# What `probed` counts, and the steps of its ladder.
REPORTED = ("sent", "refused", "heard", "heard_long", "own", "unicast")
LADDER_STEPS = ("wire", "ip", "mcast", "rp_filter", "rcvbuf")

RESULT = "result"
ERROR = "error"
NOTIFICATION = "notification"

# Their replies are large or come with others: an array of them would not fit a frame.
NOT_IN_BATCH = ("getdir", "watch", "stats", "probed", "history")


class ProbePlace:
    """The result of `probe`: where it is made, the directory's `address` there, mine as it sees it
    (`seen_as`), the bits of its network (0: not told), its clock in unix seconds."""

    __slots__ = ("address", "group", "port", "prefix", "seen_as", "wall")

    def __init__(
        self, group: str, port: int, address: str, seen_as: str, prefix: int, wall: int
    ) -> None:
        self.group = group
        self.port = port
        self.address = address
        self.seen_as = seen_as
        self.prefix = prefix
        self.wall = wall


class RoomEntry:
    """One entry of the directory.

    `name` is NFC, `address` canonical, `mode` one of MODES, `made` unix seconds, `maker` the
    address that made it (for the cap), `token` the SHA-256 of the owner's token or empty; `fold`
    is the key under which the name is unique and sorted (in what a client reads, the name itself).
    `marked`: its maker wants what is said in it kept; `keep`: it is kept.
    Rooms are never changed, so the same one may stand in the directory, in an undo list and in a
    queue. But for `handle`: the number that a server gives a room when it is first entered, 0 until
    then; frames of the relay name the room by it.
    """

    __slots__ = (
        "address", "fold", "handle", "keep", "made", "maker", "marked", "mode", "name", "port",
        "token",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        address: str,
        port: int,
        mode: str = RELIABLE,
        made: int = 0,
        maker: str = "",
        token: bytes = b"",
        folded: str | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self.port = port
        self.mode = _SHARED_MODES.get(mode, mode)
        self.made = made
        self.maker = maker
        self.token = token
        self.handle = 0
        self.marked = self.keep = False
        if folded is None:
            folded = fold(name)
        # Equal texts are kept once: of 10,000 rooms that saves a megabyte.
        self.fold = name if folded == name else folded


# -- the server's side: requests in ----------------------------------------------------------------


def _no_request(why: str) -> BadMessage:
    return BadMessage(INVALID_REQUEST, f"this is no request: {why}")


def _read_id(value: object) -> bytes:
    if type(value) is int:
        return b"%d" % value
    if type(value) is str and len(value) <= ID_CHARS_MAX:
        return encode(value)
    raise _no_request(f"its id is neither an integer nor a string of up to {ID_CHARS_MAX}")


def _read_request(value: Any) -> Request:
    if type(value) is not dict:
        raise _no_request("it is not an object")
    known = 2
    request_id = None
    if "id" in value:
        known += 1
        request_id = _read_id(value["id"])
    params = {}
    if "params" in value:
        known += 1
        params = value["params"]
        if type(params) is not dict:
            raise _no_request("its params are not an object")
    if value.get("jsonrpc") != "2.0":
        raise _no_request('its member "jsonrpc" is not "2.0"')
    method = value.get("method")
    if type(method) is not str:
        raise _no_request("its method is not a string")
    if len(value) != known:
        raise _no_request("it has members that are not of JSON-RPC")
    return request_id, method, params


# A client sends the same request again and again, and only the ids differ. So the bytes after the
# id of a good request, from the comma on, are kept (a tail) with the values read from them. Whether
# a later payload with the same tail is good depends on its id alone, which is checked digit by
# digit. (Measured: a parse takes 0.25x of the time.) Tails of changes are not kept: the same change
# is hardly ever asked for again.
_HEAD = b'{"jsonrpc":"2.0","id":'
_ID_AT = len(_HEAD)
_ID_END = _ID_AT + ID_DIGITS + 1
_ZERO = ord("0")  # JSON numbers do not begin with it
_ASKING = ("ping", "getdir", "stats")
known_tails: dict[bytes, tuple[str, dict[str, Any]]] = {}


def parse(payload: bytes) -> Request | list[Request | BadMessage]:
    """Return the request of `payload`, or for a batch the list of its members.

    Raises BadMessage when the whole payload is to be answered with one error (and id null); a
    member of a batch that is no request stands as a BadMessage in its place in the list. The
    params may be shared with other requests: read them only.
    """
    comma = 0  # where the tail begins; 0: the payload is not of the common form
    if payload[:_ID_AT] == _HEAD:
        comma = payload.find(b",", _ID_AT, _ID_END)
        digits = payload[_ID_AT:comma]
        if comma > 0 and digits.isdigit() and (digits[0] != _ZERO or len(digits) == 1):
            known = known_tails.get(payload[comma:])
            if known is not None:
                method, params = known
                return digits, method, params
        else:
            comma = 0
    value = decode(payload)
    if type(value) is not list:
        request_id, method, params = _read_request(value)
        if comma and method in _ASKING and len(payload) - comma <= TAIL_BYTES_MAX:
            if len(known_tails) >= TAILS_MAX:
                known_tails.clear()
            known_tails[payload[comma:]] = method, params
        return request_id, method, params
    if not 1 <= len(value) <= BATCH_MEMBERS_MAX:
        raise _no_request(f"a batch has 1 to {BATCH_MEMBERS_MAX} members, not {len(value)}")
    return [_read_member(member) for member in value]


def _read_member(value: object) -> Request | BadMessage:
    try:
        return _read_request(value)
    except BadMessage as error:
        return error


def check_in_batch(method: str) -> None:
    """Raise Refused `not_in_batch` for a method that cannot be a member of a batch."""
    if method in NOT_IN_BATCH:
        raise Refused(
            INVALID_REQUEST,
            "not_in_batch",
            f"{method} cannot be part of a batch; send it as a request of its own",
        )


# -- the server's side: replies and notifications out ----------------------------------------------


# What stands around the id and the body of a result, and its length.
RESULT_HEAD, RESULT_MIDDLE, RESULT_END = _HEAD, b',"result":', b"}"
RESULT_AROUND_BYTES = len(RESULT_HEAD + RESULT_MIDDLE + RESULT_END)


def result(request_id: bytes, body: bytes) -> bytes:
    """Return the reply to `request_id` (JSON, as `parse` gave it) with `body` (JSON) as result."""
    return b"".join((RESULT_HEAD, request_id, RESULT_MIDDLE, body, RESULT_END))


def error(request_id: bytes, code: int, sentence: str, data: dict[str, Any] | None = None) -> bytes:
    """Return an error reply; `data` has a `reason` when the table of the protocol has one."""
    body: dict[str, Any] = {"code": code, "message": sentence}
    if data:
        body["data"] = data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (request_id, encode(body))


def refusal(request_id: bytes, refused: Refused) -> bytes:
    """Return the error reply for a refusal."""
    data = {"reason": refused.reason, **(refused.data or {})}
    return error(request_id, refused.code, refused.sentence, data)


def bad_message(bad: BadMessage, request_id: bytes = NULL) -> bytes:
    """Return the error reply to a message that is not understood; its id is mostly unknown."""
    return error(request_id, bad.code, bad.sentence)


def unknown_method(method: str) -> BadMessage:
    """Return what is wrong with a request whose method nobody handles."""
    return BadMessage(METHOD_NOT_FOUND, f'there is no method "{quoted(method)}"')


def batch(replies: Iterable[bytes]) -> bytes:
    """Return the reply to a batch; send nothing when there are no replies."""
    return b"[%b]" % b",".join(replies)


def notification(method: bytes, params: bytes) -> bytes:
    """Return a notification; `params` is JSON."""
    return b'{"jsonrpc":"2.0","method":"%b","params":%b}' % (method, params)


def closing(reason: str, final: bool = False) -> bytes:
    """Return the notification that the server sends before it ends a connection.

    `final`: the client is asked not to come back by itself.
    """
    more = {"final": True} if final else {}
    return notification(b"closing", encode({"reason": reason, **more}))


def room_json(room: RoomEntry, members: int) -> bytes:
    """Return `room` as the ROOM of the protocol, with `members` connections in it."""
    # Address and mode are canonical text of our own: nothing in them needs escaping.
    pattern = b'{"name":%b,"address":"%b","port":%d,"mode":"%b","members":%d,"made":%d,"keep":%b}'
    return pattern % (
        encode(room.name),
        room.address.encode(),
        room.port,
        room.mode.encode(),
        members,
        room.made,
        b"true" if room.keep else b"false",
    )


def version_body(version: int) -> bytes:
    """`{"version": V}`: the result of `watch`."""
    return b'{"version":%d}' % version


def change_body(version: int, room: bytes) -> bytes:
    """What makeroom and deleteroom give, and what a watcher is told; `room` from `room_json`."""
    return b'{"version":%d,"room":%b}' % (version, room)


def room_body(room: bytes) -> bytes:
    """`{"room": ROOM}`: the result of `enter`."""
    return b'{"room":%b}' % room


def page_body(version: int, rooms: bytes, following: bytes) -> bytes:
    """The result of getdir: `rooms` joined by commas, `following` the JSON of `next`."""
    return b'{"version":%d,"rooms":[%b],"next":%b}' % (version, rooms, following)


def hello_body(server: str, version: int, identity: str, relays: bool = False) -> bytes:
    """The result of hello; `server` is name and release, as `evloop/0.1`; `identity` 16 hex
    digits that tell this directory from all others; `relays`: whether it carries rooms."""
    body = b'{"server":%b,"protocol":1,"version":%d,"id":"%b"%b}'
    more = b',"relay":true' if relays else b""
    return body % (encode(server), version, identity.encode(), more)


def read_identity(greeting: dict[str, Any]) -> str:
    """The identity in a result of hello; empty where there is none (evloop 0.1.0 tells none)."""
    identity = greeting.get("id")
    if type(identity) is not str or len(identity) != DIRECTORY_ID_DIGITS:
        return ""
    return identity if all(digit in "0123456789abcdef" for digit in identity) else ""


# -- the client's side -----------------------------------------------------------------------------


def request(request_id: Id, method: str, params: dict[str, Any] | None = None) -> bytes:
    """Return a request, or with None for an id a notification."""
    message: dict[str, Any] = {"jsonrpc": "2.0"}
    if request_id is not None:
        message["id"] = request_id  # here, a server knows what follows from the time before
    message["method"] = method
    if params:
        message["params"] = params
    return encode(message)


def parse_from_server(payload: bytes) -> tuple[str, Any, Any]:
    """Return what a server sent, members that we do not know left aside:

        (RESULT, id, result)
        (ERROR, id or None, Refused)
        (NOTIFICATION, method, params)

    Raises BadMessage when it is none of these.
    """
    message = decode(payload)
    if type(message) is not dict or message.get("jsonrpc") != "2.0":
        raise _no_answer("it is no JSON-RPC object")
    if "method" in message:
        method, params = message["method"], message.get("params", {})
        if type(method) is not str or type(params) is not dict or "id" in message:
            raise _no_answer("it is no notification either")
        return NOTIFICATION, method, params
    answered = message.get("id")
    if answered is not None and type(answered) not in (int, str):
        raise _no_answer("its id is none of ours")
    if "error" in message:
        return ERROR, answered, _read_error(message["error"])
    if "result" not in message or answered is None:
        raise _no_answer("it has neither result nor error")
    return RESULT, answered, message["result"]


def _no_answer(why: str) -> BadMessage:
    return BadMessage(INVALID_REQUEST, f"the server's message cannot be understood: {why}")


def _member(value: Any, name: str, kind: type[T]) -> T:
    member = value.get(name) if type(value) is dict else None
    if type(member) is not kind:
        raise _no_answer(f'its member "{name}" is missing or of another type')
    return member


def _read_error(value: object) -> Refused:
    data = _member(value, "data", dict) if type(value) is dict and "data" in value else {}
    reason = data.pop("reason", "")
    if type(reason) is not str:
        raise _no_answer("the reason of its error is not a string")
    return Refused(_member(value, "code", int), reason, _member(value, "message", str), data)


def read_probe(value: object) -> ProbePlace:
    """What `probe` was answered; BadMessage."""
    group, port = _member(value, "group", str), _member(value, "port", int)
    try:
        check_port(port)
        group = check_address(group)
    except Refused as refused:
        raise _no_answer(refused.sentence) from None
    address, seen_as = (
        _member(value, name, str)[:ADDRESS_BYTES_MAX] for name in ("address", "seen_as")
    )
    prefix = _member(value, "prefix", int)
    wall = min(max(_member(value, "wall", int), 0), 2**40)
    return ProbePlace(group, port, address, seen_as, prefix if 0 <= prefix <= 32 else 0, wall)


def read_report(value: object) -> dict[str, Any]:
    """What `probed` was answered: the members of the protocol, no others; BadMessage."""
    report: dict[str, Any] = {name: _count_of(value, name) for name in REPORTED}
    foreign = _member(value, "foreign", dict)
    known = [(host, count) for host, count in foreign.items() if type(count) is int]
    report["foreign"] = dict(known[:FOREIGN_READ_MAX])
    for which in ("ladder", "noise"):
        told = _member(value, which, dict)
        counts = {step: told.get(step) for step in LADDER_STEPS}
        report[which] = {
            step: count if type(count) is int and abs(count) < 2**53 else None
            for step, count in counts.items()
        }
    return report


def _count_of(value: object, name: str) -> int:
    count = _member(value, name, int)
    if not 0 <= count <= COUNT_READ_MAX:
        raise _no_answer(f'its member "{name}" is no such count')
    return count


def read_room(value: Any) -> tuple[RoomEntry, int]:
    """Return the room of a ROOM object and how many are in it.

    Sizes and ranges are checked here, before a name is folded or anything is kept; BadMessage.
    Whether the room may be entered or shown is checked by the caller (`names`): a directory may
    know a mode or a letter that this client does not.
    """
    name = _member(value, "name", str)
    address, mode = _member(value, "address", str), _member(value, "mode", str)
    if not _has_bytes(name, ROOM_NAME_BYTES_MAX):
        raise _no_answer("the name of a room is empty or too long")
    if not _has_bytes(address, ADDRESS_BYTES_MAX) or not _has_bytes(mode, MODE_BYTES_MAX):
        raise _no_answer("the address or mode of a room is empty or too long")
    port, made = _member(value, "port", int), _member(value, "made", int)
    members = _member(value, "members", int)
    if not 0 < port <= PORT_MAX or made < 0 or members < 0:
        raise _no_answer("a number of a room is out of its range")
    # Not folded: a client looks nothing up by it, and a hostile name's fold is 15 times as long.
    room = RoomEntry(name, address, port, mode, made, folded=name)
    room.keep = value.get("keep") is True  # an older directory tells none
    return room, members


def _has_bytes(text: str, most: int) -> bool:
    """Whether `text` has 1 to `most` bytes in UTF-8."""
    return 0 < len(text) <= most and len(text.encode()) <= most


def read_change(value: object) -> tuple[int, RoomEntry, int]:
    """Return version, room and members of a change: a reply's result or a notification's params."""
    return _member(value, "version", int), *read_room(_member(value, "room", dict))


def read_page(value: object) -> tuple[int, list[tuple[RoomEntry, int]], str | None]:
    """Return version, rooms with their members, and the name to ask on `after`, None at the end."""
    version = _member(value, "version", int)
    rooms = [read_room(room) for room in _member(value, "rooms", list)]
    following = value.get("next") if type(value) is dict else None
    return version, rooms, None if following is None else _member(value, "next", str)
