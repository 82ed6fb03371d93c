"""What the directory is in etcd: its keys, the requests that change and read them, the answers.

etcd is spoken to through its gRPC gateway: POST with a body of JSON, keys and values in base64,
64-bit integers as strings, and what is 0 or empty left out. All keys lie below `evloop/NAME/`:

    n/FOLD         the room of that name: put when it is made, deleted with it, never changed
    p/PLACE        the name of the room at that address and port
    head           put once by EVERY change; says which it was. Its own `version`, which etcd counts
                   inside the transaction, is the number of changes: V = b + version - 1
    s/SERVER       one server that runs, for as long as its lease lives
    m/SERVER/FOLD  how many of its connections are in that room, under the same lease
    id             16 hex digits: which directory this is
    import         the server that imports a state file just now

FOLD is taken from a key or from `head`, and never computed from a record: the Unicode tables of two
Pythons may differ. Members of a record that are not known are ignored.
"""

from __future__ import annotations

from binascii import Error as NoBase64
from binascii import a2b_base64, b2a_base64

from evloop.base.errors import BadMessage, RemoteProtocolError
from evloop.base.limits import INTEGER_MAX
from evloop.base.strictjson import decode, encode
from evloop.directory.protocol import RoomEntry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NamedTuple

    class KeyValue(NamedTuple):
        key: bytes
        value: bytes
        mod: int  # the revision of its last put
        version: int  # how often it was put since it was created

    Json = dict[str, Any]
else:
    from collections import namedtuple

    KeyValue = namedtuple("KeyValue", "key value mod version")

FORMAT = 1  # `f` of head
OK, NOT_FOUND = 200, 404
RELEASE_MIN = (3, 4)
TXN, RANGE, WATCH = "/v3/kv/txn", "/v3/kv/range", "/v3/watch"
GRANT, KEEP_ALIVE, REVOKE = "/v3/lease/grant", "/v3/lease/keepalive", "/v3/lease/revoke"
AUTHENTICATE, VERSION = "/v3/auth/authenticate", "/version"
NO_SPACE = "database space exceeded"


_MEMBERS = ("name", "address", "port", "mode", "made", "maker")  # of a room, but for its token


class EngineError(RemoteProtocolError):
    """An answer of etcd, or what is stored in it, is not what it must be."""


class Keys:
    """The keys of one directory."""

    __slots__ = ("head", "id", "importing", "root")

    def __init__(self, name: str) -> None:
        self.root = f"evloop/{name}/".encode()
        self.head = self.root + b"head"
        self.id = self.root + b"id"
        self.importing = self.root + b"import"

    def name(self, fold: str) -> bytes:
        return self.root + b"n/" + fold.encode()

    def place(self, place: str) -> bytes:
        return self.root + b"p/" + place.encode()

    def server(self, server: str) -> bytes:
        return self.root + b"s/" + server.encode()

    def members(self, server: str, fold: str) -> bytes:
        return b"%bm/%b/%b" % (self.root, server.encode(), fold.encode())

    def all_of(self, kind: str) -> tuple[bytes, bytes]:
        """The range of all keys of a kind: "n", "p", "s" or "m"."""
        start = self.root + kind.encode() + b"/"
        return start, start[:-1] + b"0"

    def rest_of(self, key: bytes) -> str:
        """What follows the kind in a key: the fold, the server ..."""
        try:
            return key[len(self.root) + 2 :].decode()
        except UnicodeDecodeError:
            raise EngineError("a key in etcd is not UTF-8") from None


# -- requests --------------------------------------------------------------------------------------


def b64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def put(key: bytes, value: bytes, lease: str = "") -> Json:
    body = {"key": b64(key), "value": b64(value)}
    if lease:
        body["lease"] = lease
    return {"request_put": body}


def get(key: bytes) -> Json:
    return {"request_range": {"key": b64(key)}}


def delete(key: bytes, end: bytes = b"") -> Json:
    body = {"key": b64(key)}
    if end:
        body["range_end"] = b64(end)
    return {"request_delete_range": body}


def created_never(key: bytes, end: bytes = b"") -> Json:
    """Holds when there is no such key, or none from `key` up to `end`."""
    compare = {"target": "CREATE", "key": b64(key), "create_revision": "0", "result": "EQUAL"}
    if end:
        compare["range_end"] = b64(end)
    return compare


def modified_at(key: bytes, revision: int) -> Json:
    """Holds when the last put of `key` was at `revision`."""
    return {
        "target": "MOD",
        "key": b64(key),
        "mod_revision": str(revision),
        "result": "EQUAL",
    }


def is_there(key: bytes, there: bool = True) -> Json:
    """Holds when `key` was put, or when it was not."""
    return {
        "target": "VERSION",
        "key": b64(key),
        "version": "0",
        "result": "GREATER" if there else "EQUAL",
    }


def txn(compare: Iterable[Json], success: Iterable[Json], failure: Iterable[Json] = ()) -> bytes:
    return encode({"compare": [*compare], "success": [*success], "failure": [*failure]})


def page(start: bytes, end: bytes, most: int, revision: int = 0) -> bytes:
    """Read up to `most` keys from `start` on, as they were at `revision` (0: now)."""
    body: Json = {"key": b64(start), "range_end": b64(end), "limit": str(most)}
    if revision:
        body["revision"] = str(revision)
    return encode(body)


def read_key(key: bytes, revision: int = 0) -> bytes:
    body: Json = {"key": b64(key)}
    if revision:
        body["revision"] = str(revision)
    return encode(body)


def watch(key: bytes, end: bytes, start: int) -> bytes:
    """Follow one key, or all from `key` up to `end`, from revision `start` on."""
    body: Json = {"key": b64(key), "start_revision": str(start)}
    if end:
        body["range_end"] = b64(end)
    return encode({"create_request": body})


def grant(seconds: float) -> bytes:
    return encode({"TTL": str(int(seconds))})


def of_lease(lease: str) -> bytes:
    return encode({"ID": lease})


def credentials(user: str, password: str) -> bytes:
    return encode({"name": user, "password": password})


# -- records ---------------------------------------------------------------------------------------


def record_of(room: RoomEntry) -> Json:
    """What n/FOLD holds."""
    return {
        "name": room.name,
        "address": room.address,
        "port": room.port,
        "mode": room.mode,
        "made": room.made,
        "maker": room.maker,
        "token": room.token.hex(),
    }


def head_value(base: int, change: str, op: str, fold: str = "", room: Json | None = None) -> bytes:
    head: Json = {"f": FORMAT, "b": base, "c": change, "op": op}
    if op != "found":
        head["fold"] = fold
    if room is not None:
        head["room"] = room
    return encode(head)


def place_text(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# -- answers ---------------------------------------------------------------------------------------


def read_json(data: bytes) -> Json:
    """An object of JSON, or EngineError."""
    try:
        value = decode(data)
    except BadMessage as error:
        raise EngineError(f"etcd's answer cannot be read: {error.sentence}") from None
    if type(value) is not dict:
        raise EngineError("etcd's answer is no object")
    return value


def number(body: Json, name: str) -> int:
    """An integer, which comes as a string, and is left out where it is 0."""
    text = body.get(name, "0")
    if type(text) is int:
        return text
    if type(text) is not str or not text.lstrip("-").isdigit() or len(text) > 20:
        raise EngineError(f'"{name}" of etcd\'s answer is no number')
    return int(text)


def _list(body: Json, name: str) -> list[Json]:
    found = body.get(name, [])
    if type(found) is not list or any(type(one) is not dict for one in found):
        raise EngineError(f'"{name}" of etcd\'s answer is no list')
    return found


def _object(body: Json, name: str) -> Json:
    found = body.get(name, {})
    if type(found) is not dict:
        raise EngineError(f'"{name}" of etcd\'s answer is no object')
    return found


def _bytes(body: Json, name: str) -> bytes:
    text = body.get(name, "")
    try:
        return a2b_base64(text)
    except (NoBase64, TypeError, ValueError):
        raise EngineError(f'"{name}" of etcd\'s answer is no base64') from None


def key_value(body: Json) -> KeyValue:
    mod, version = number(body, "mod_revision"), number(body, "version")
    return KeyValue(_bytes(body, "key"), _bytes(body, "value"), mod, version)


def revision_of(body: Json) -> int:
    """The revision of the store that an answer tells."""
    return number(_object(body, "header"), "revision")


def read_list(body: Json) -> tuple[list[Json], bool]:
    """The keys of a range, each for `key_value`, and whether there are more."""
    return _list(body, "kvs"), body.get("more") is True


def read_page(body: Json) -> tuple[list[KeyValue], bool]:
    """The keys of a range, and whether there are more."""
    found, more = read_list(body)
    return [key_value(one) for one in found], more


def read_txn(body: Json) -> tuple[bool, list[list[KeyValue]]]:
    """Whether a transaction held, and what each `get` of it found, in order."""
    found = [
        read_page(_object(one, "response_range"))[0]
        for one in _list(body, "responses")
        if "response_range" in one
    ]
    return body.get("succeeded") is True, found


def read_watch(line: bytes) -> tuple[bool, bool, list[tuple[bool, KeyValue]]]:
    """A line of a watch: (it has begun, it has ended, [(deleted, key and value)])."""
    body = read_json(line)
    if "error" in body:
        raise EngineError(sentence_of(body) or "etcd ended a watch")
    result = _object(body, "result")
    ended = result.get("canceled") is True or number(result, "compact_revision") > 0
    events = [
        (one.get("type") in ("DELETE", 1), key_value(_object(one, "kv")))
        for one in _list(result, "events")
    ]
    return result.get("created") is True, ended, events


def read_lease(body: Json) -> str:
    lease = body.get("ID")
    if type(lease) is not str or not lease.lstrip("-").isdigit() or len(lease) > 20:
        raise EngineError("etcd granted no lease")
    return lease


def lease_lives(body: Json) -> bool:
    """What keepalive says: without a TTL the lease is gone."""
    return number(_object(body, "result"), "TTL") > 0


def read_token(body: Json) -> str:
    token = body.get("token")
    if type(token) is not str or not token.isascii() or not token.isprintable() or not token:
        raise EngineError("etcd gave no token for the password")
    return token


def read_release(body: Json) -> tuple[int, int]:
    """Major and minor version of GET /version."""
    parts = str(body.get("etcdserver", "")).split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() for part in parts[:2]):
        raise EngineError("that is no etcd")
    return int(parts[0]), int(parts[1])


def sentence_of(body: Json) -> str:
    """etcd's own words about an error."""
    error = body.get("error", "")
    if type(error) is dict:
        error = error.get("message", "")
    return str(error)[:200]


def read_error(data: bytes) -> Json:
    """The body of an answer that is no 200, which may be anything; {} where it is not JSON."""
    try:
        return read_json(data)
    except EngineError:
        return {}


def check(status: int, answer: Json) -> None:
    """EngineError unless an answer is one."""
    if status != OK:
        raise EngineError(sentence_of(answer) or f"etcd answers {status}")


def nothing(status: int, answer: Json, now: float) -> None:
    """What becomes of an answer that nobody needs."""


def read_room(record: Any, fold: str) -> RoomEntry:
    """The room of a record, under the fold that its key tells; EngineError."""
    if type(record) is not dict:
        raise EngineError("a room in etcd is no object")
    values: list[Any] = [record.get(member) for member in _MEMBERS]
    name, address, port, mode, made, maker = values
    texts, numbers = (name, address, mode, maker), (port, made)
    if any(type(one) is not str for one in texts) or any(type(one) is not int for one in numbers):
        raise EngineError(f"room {fold!r} in etcd lacks something, or is of another form")
    token = record.get("token", "")
    try:
        owner = bytes.fromhex(token)
    except (TypeError, ValueError):
        raise EngineError(f"the owner of room {fold!r} in etcd cannot be read") from None
    if not (0 < port < 65536 and 0 <= made <= INTEGER_MAX and name and len(owner) in (0, 32)):
        raise EngineError(f"room {fold!r} in etcd has a value out of its range")
    return RoomEntry(name, address, port, mode, made, maker, owner, fold)


class Head:
    """One value of `head`: which change it was. `version` is V."""

    __slots__ = ("base", "change", "fold", "form", "mod", "op", "room", "version")

    def __init__(self, found: KeyValue) -> None:
        body = read_json(found.value)
        self.form = body.get("f")
        if self.form != FORMAT:
            raise NewerFormat("the directory in etcd is of a newer evloop")
        base, change, op, fold = (body.get(name) for name in ("b", "c", "op", "fold"))
        if type(base) is not int or base < 0 or type(change) is not str or type(op) is not str:
            raise EngineError("the key head in etcd cannot be read")
        self.base = base
        self.version = base + found.version - 1
        self.mod = found.mod
        self.change = change
        self.op = op
        self.fold: str = fold if type(fold) is str else ""
        self.room: RoomEntry | None = None
        if op == "make":
            self.room = read_room(body.get("room"), self.fold)
        elif op not in ("delete", "found"):
            raise EngineError(f"the key head in etcd tells of an unknown change, {op[:32]!r}")


class NewerFormat(EngineError):
    """What is in etcd was written by a release that stores it in another way."""
