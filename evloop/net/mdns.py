"""Messages of multicast DNS (RFC 1035, 6762, 6763): bytes to tuples and back.

     0  2  id             8  2  authority records (in a probe: what is claimed)
     2  2  flags         10  2  additional records
     4  2  questions     12  .  questions: name, type, class (top bit: a unicast answer will do)
     6  2  answers        .  .  records: name, type, class (top bit: flush), TTL, length, value

A name is kept as it would stand on the wire without compression (RFC 1035, 3.1), as one `bytes`:
`name_of("_evloop", "_tcp", "local")`. A label may be any bytes, a dot too. Names are compared
without regard to ASCII case: `name.lower()` does it, for a length is below 64 and so no letter.

A value is, by the type of its record:

    PTR        the name that it points to
    SRV        (priority, weight, port, name of the host)
    A, AAAA    the 4 or 16 bytes of the address
    TXT        bytes: see `attributes` and `pack_strings`
    others     the bytes as they came; a name in them may be compressed, and cannot be read

`parse` raises `Bad` alone, whatever the bytes are. What a message declares allocates nothing: each
length is checked against the bytes at hand. The work is bounded by the caps of `limits`, since
compression lets 9,000 bytes stand for megabytes of names.
"""

from __future__ import annotations

from collections import namedtuple
from struct import Struct, error

from evloop.base.errors import LocalProtocolError, RemoteProtocolError
from evloop.net.limits import (
    MDNS_ATTRIBUTES_MAX,
    MDNS_DATAGRAM_BYTES_MAX,
    MDNS_LABELS_MAX,
    MDNS_NAME_BYTES_MAX,
    MDNS_POINTERS_MAX,
    MDNS_RECORDS_MAX,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, NamedTuple, Union

    Value = Union[bytes, tuple[int, int, int, bytes]]

    class Question(NamedTuple):
        name: bytes
        type: int
        unicast: bool

    class Record(NamedTuple):
        name: bytes
        type: int
        flush: bool
        ttl: int
        value: Value

    class Message(NamedTuple):
        id: int
        flags: int
        questions: Sequence[Question] = ()
        answers: Sequence[Record] = ()
        authority: Sequence[Record] = ()
        additional: Sequence[Record] = ()

else:
    Question = namedtuple("Question", "name type unicast")
    Record = namedtuple("Record", "name type flush ttl value")
    Message = namedtuple(
        "Message", "id flags questions answers authority additional", defaults=[()] * 4
    )

PORT = 5353
GROUP_IPV4 = "224.0.0.251"
GROUP_IPV6 = "ff02::fb"

A, PTR, TXT, AAAA, SRV, ANY = 1, 12, 16, 28, 33, 255
QUERY, ANSWER = 0x0000, 0x8400  # flags of what we send; an answer is authoritative (18.4)
RESPONSE, TRUNCATED = 0x8000, 0x0200  # bits of them

REASONS = ("long", "short", "opcode", "records", "label", "labels", "name", "pointer", "value")

_INTERNET, _ANY_CLASS = 1, 255
_TOP_BIT = 0x8000
_HEADER = Struct(">HHHHHH")
_QUESTION = Struct(">HH")
_RECORD = Struct(">HHIH")
_SRV = Struct(">HHH")
_NOT_OURS = 0x780F  # opcode and response code: with either a message is ignored (18.3, 18.11)
_POINTER = 0xC0
_ADDRESS_BYTES = {A: 4, AAAA: 16}


class Bad(RemoteProtocolError):
    """These bytes are no message that we read; `reason` is one of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def name_of(*labels: str | bytes) -> bytes:
    """The name of these labels; LocalProtocolError when one or the whole is too long, or empty."""
    name = b""
    for label in labels:
        raw = label.encode() if isinstance(label, str) else label
        if not 0 < len(raw) < 64:
            raise LocalProtocolError(f"a label of {len(raw)} bytes")
        name += b"%c%b" % (len(raw), raw)
    if len(name) >= MDNS_NAME_BYTES_MAX:
        raise LocalProtocolError(f"a name of {len(name) + 1} bytes")
    return name + b"\0"


def labels_of(name: bytes) -> list[bytes]:
    """The labels of a name, the first one first."""
    labels = []
    at = 0
    while name[at]:
        end = at + 1 + name[at]
        labels.append(name[at + 1 : end])
        at = end
    return labels


# What evloop's directories are announced as (RFC 6763, 4.1), and where types are listed (9).
SERVICE = name_of("_evloop", "_tcp", "local")
SERVICE_TYPES = name_of("_services", "_dns-sd", "_udp", "local")


# -- reading ---------------------------------------------------------------------------------------


def parse(data: bytes) -> Message:
    """A datagram as a Message, without questions and records of other classes than the Internet's.

    What follows the last record is ignored (RFC 6762, 18). Raises Bad.
    """
    if len(data) > MDNS_DATAGRAM_BYTES_MAX:
        raise Bad("long")
    try:
        return _parse(data)
    except (IndexError, error):
        raise Bad("short") from None


def _parse(data: bytes) -> Message:
    number, flags, *counts = _HEADER.unpack_from(data)
    if flags & _NOT_OURS:
        raise Bad("opcode")
    if sum(counts) > MDNS_RECORDS_MAX:
        raise Bad("records")
    reader = _Reader(data)
    questions = reader.questions(counts[0])
    return Message(number, flags, questions, *[reader.records(count) for count in counts[1:]])


class _Reader:
    """Goes once through the bytes of one message."""

    __slots__ = ("_at", "_data", "_labels")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = _HEADER.size
        self._labels = MDNS_LABELS_MAX  # so many more may be read

    def questions(self, count: int) -> list[Question]:
        found = []
        for _ in range(count):
            name = self._name()
            kind, group = _QUESTION.unpack_from(self._data, self._at)
            self._at += _QUESTION.size
            if group & ~_TOP_BIT in (_INTERNET, _ANY_CLASS):
                found.append(Question(name, kind, group >= _TOP_BIT))
        return found

    def records(self, count: int) -> list[Record]:
        found = []
        for _ in range(count):
            name = self._name()
            kind, group, ttl, size = _RECORD.unpack_from(self._data, self._at)
            self._at += _RECORD.size
            end = self._at + size
            if end > len(self._data):
                raise Bad("short")
            value = self._value(kind, end)
            self._at = end
            if group & ~_TOP_BIT == _INTERNET:
                found.append(Record(name, kind, group >= _TOP_BIT, ttl, value))
        return found

    def _value(self, kind: int, end: int) -> Value:
        at = self._at
        value: Value
        if kind == PTR:
            value = self._name()
        elif kind == SRV:
            priority, weight, port = _SRV.unpack_from(self._data, at)
            self._at = at + _SRV.size
            value = (priority, weight, port, self._name())
        else:
            if end - at != _ADDRESS_BYTES.get(kind, end - at):
                raise Bad("value")
            return self._data[at:end]
        if self._at != end:
            raise Bad("value")
        return value

    def _name(self) -> bytes:
        """The name here; afterwards the reader is behind it.

        Each pointer leads before the name, or the piece of it, that it ends: so there are no loops.
        """
        data = self._data
        at = start = self._at
        behind = pointers = 0
        name = b""
        while True:
            size = data[at]
            if 0 < size < 64:
                if not self._labels:
                    raise Bad("labels")
                self._labels -= 1
                name += data[at : at + size + 1]
                if len(name) >= MDNS_NAME_BYTES_MAX:
                    raise Bad("name")
                at += size + 1
            elif not size:
                self._at = behind or at + 1
                return name + b"\0"
            elif size < _POINTER:  # two kinds of labels that were never used (RFC 6891, 5)
                raise Bad("label")
            else:
                target = (size & ~_POINTER) << 8 | data[at + 1]
                pointers += 1
                if target >= start or pointers > MDNS_POINTERS_MAX:
                    raise Bad("pointer")
                behind = behind or at + 2
                at = start = target


def attributes(value: bytes) -> dict[bytes, bytes]:
    """The `key=value` strings of a TXT record (RFC 6763, 6.4); keys in lower case.

    The first of a key counts. What is not of this form is left out, and nothing is raised.
    """
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(value) and len(found) < MDNS_ATTRIBUTES_MAX:
        end = at + 1 + value[at]
        key, _, text = value[at + 1 : end].partition(b"=")
        if key and end <= len(value):
            found.setdefault(key.lower(), text)
        at = end
    return found


# -- writing ---------------------------------------------------------------------------------------


def build(message: Message, *, legacy: bool = False) -> bytes:
    """A Message as a datagram, names compressed.

    `legacy`: for a resolver that is none of multicast DNS: it may not know that the host of an SRV
    record can be compressed (RFC 6762, 18.14). LocalProtocolError when it is too long.
    """
    out = bytearray(
        _HEADER.pack(
            message.id,
            message.flags,
            len(message.questions),
            len(message.answers),
            len(message.authority),
            len(message.additional),
        )
    )
    seen: dict[bytes, int] = {}
    for question in message.questions:
        _put_name(out, seen, question.name)
        out += _QUESTION.pack(question.type, _INTERNET | _TOP_BIT * question.unicast)
    for record in (*message.answers, *message.authority, *message.additional):
        _put_record(out, seen, record, legacy)
    if len(out) > MDNS_DATAGRAM_BYTES_MAX:
        raise LocalProtocolError(f"a message of {len(out)} bytes")
    return bytes(out)


def _put_record(out: bytearray, seen: dict[bytes, int], record: Record, legacy: bool) -> None:
    _put_name(out, seen, record.name)
    size_at = len(out) + _RECORD.size
    out += _RECORD.pack(record.type, _INTERNET | _TOP_BIT * record.flush, record.ttl, 0)
    value: Any = record.value
    if record.type == PTR:
        _put_name(out, seen, value)
    elif record.type == SRV:
        out += _SRV.pack(*value[:3])
        _put_name(out, {} if legacy else seen, value[3])
    else:
        out += value
    out[size_at - 2 : size_at] = (len(out) - size_at).to_bytes(2, "big")


def _put_name(out: bytearray, seen: dict[bytes, int], name: bytes) -> None:
    """Append `name`; `seen`: where in `out` each name that can be pointed to stands."""
    at = 0
    while name[at]:
        rest = name[at:]
        known = seen.get(rest)
        if known is not None:
            out += (_POINTER << 8 | known).to_bytes(2, "big")
            return
        seen[rest] = len(out)  # below 2**14: MDNS_DATAGRAM_BYTES_MAX says so
        out += name[at : at + 1 + name[at]]
        at += 1 + name[at]
    out += b"\0"


def pack_strings(strings: Iterable[str | bytes]) -> bytes:
    """The value of a TXT record (RFC 6763, 6.1): one empty string where there is none."""
    value = b""
    for string in strings:
        raw = string.encode() if isinstance(string, str) else string
        if len(raw) > 255:
            raise LocalProtocolError(f"a string of {len(raw)} bytes in a TXT record")
        value += b"%c%b" % (len(raw), raw)
    return value or b"\0"
