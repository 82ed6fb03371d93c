"""What a directory says of itself on multicast DNS (RFC 6763), and what of it a question asks for.

Pure. `docs/directory-protocol.md` has the table of the records, and their bytes.
"""

from __future__ import annotations

from evloop.base.names import display, utf8_parts
from evloop.directory.limits import (
    ANNOUNCED_ADDRESSES_MAX,
    ANNOUNCED_HOST_TTL_S,
    ANNOUNCED_LABEL_BYTES_MAX,
    ANNOUNCED_TTL_S,
)
from evloop.net.mdns import (
    AAAA,
    ANY,
    PTR,
    SERVICE,
    SERVICE_TYPES,
    SRV,
    TXT,
    A,
    Question,
    Record,
    name_of,
    pack_strings,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    Records = dict[int, list[Record]]  # by what they answer

SERVER, GUEST = "server", "guest"


class Service:
    """What is announced. `fp` may become another one.

    name: for people, without digits; id: 16 hex digits; kind: SERVER or GUEST; fp: of the
    certificate the first 32 hex digits of its SHA-256, "" without TLS.
    """

    __slots__ = ("fp", "id", "kind", "name", "port")

    def __init__(self, name: str, identity: str, kind: str, port: int, fp: str) -> None:
        self.name = name
        self.id = identity
        self.kind = kind
        self.port = port
        self.fp = fp


# What can be asked for: each stands for one record, or for the addresses of a family.
POINTER, PORT, STRINGS, IPV4, IPV6, TYPES = PTR, SRV, TXT, A, AAAA, -PTR
ALL = (POINTER, PORT, STRINGS, IPV4, IPV6)  # announced unasked, in this order
UNIQUE = (PORT, STRINGS, IPV4, IPV6)  # under names that nobody else may have
_ORDER = (*ALL, TYPES)
_BESIDE = {  # what an asker will want next
    POINTER: UNIQUE,
    PORT: (IPV4, IPV6),
    STRINGS: (),
    IPV4: (IPV6,),
    IPV6: (IPV4,),
    TYPES: (),
}


def label_of(name: str, digits: str) -> str:
    """What a directory is announced as: its name, cut, and digits that keep it apart."""
    raw = display(name).encode("utf-8", "replace")
    return f"{utf8_parts(raw, ANNOUNCED_LABEL_BYTES_MAX)[0].decode()} {digits}"


def label_name(text: str) -> bytes:
    """The name of a directory's SRV and TXT record."""
    return name_of(text, "_evloop", "_tcp", "local")


def host_name(identity: str, suffix: str) -> bytes:
    """The name of its addresses: never that of the machine, which belongs to another program."""
    return name_of(f"evloop-{identity}{suffix}", "local")


def strings_of(service: Service) -> list[str]:
    """The strings of the TXT record, in the order of the contract."""
    strings = ["txtvers=1", f"id={service.id}", f"kind={service.kind}", "proto=1"]
    return strings + (["tls=1", f"fp={service.fp}"] if service.fp else ["tls=0"])


def records_of(service: Service, label: bytes, host: bytes, own: Sequence[bytes]) -> Records:
    """All records; `own`: the addresses, 4 or 16 bytes each."""
    long, short = ANNOUNCED_TTL_S, ANNOUNCED_HOST_TTL_S
    records: Records = {
        POINTER: [Record(SERVICE, PTR, False, long, label)],
        PORT: [Record(label, SRV, True, short, (0, 0, service.port, host))],
        STRINGS: [Record(label, TXT, True, long, pack_strings(strings_of(service)))],
        IPV4: [],
        IPV6: [],
        TYPES: [Record(SERVICE_TYPES, PTR, False, long, SERVICE)],
    }
    for address in own[:ANNOUNCED_ADDRESSES_MAX]:
        kind = AAAA if len(address) == 16 else A
        records[kind].append(Record(host, kind, True, short, address))
    return records


def picked(records: Records, keys: Iterable[int]) -> list[Record]:
    """Those of the keys, in the order in which they are always told."""
    return [record for key in _ORDER if key in keys for record in records[key]]


def beside(keys: set[int]) -> set[int]:
    """What is told unasked to who asks for these."""
    return {other for key in keys for other in _BESIDE[key]} - keys


def asked_for(records: Records, questions: Iterable[Question]) -> set[int]:
    """The keys that the questions ask for."""
    found = set()
    for question in questions:
        name, kind = question.name.lower(), question.type
        for key in _ORDER:
            for record in records[key][:1]:
                if kind in (record.type, ANY) and record.name.lower() == name:
                    found.add(key)
    return found


def known_by(records: Records, answers: Sequence[Record]) -> set[int]:
    """The keys whose records an asker has for at least half their time to live (RFC 6762, 7.1)."""
    found = set()
    for key, mine in records.items() if answers else ():
        if mine and all(any(_lasts(known, one) for known in answers) for one in mine):
            found.add(key)
    return found


def _lasts(known: Record, mine: Record) -> bool:
    return same(known, mine) and 2 * known.ttl >= mine.ttl


def same(one: Record, other: Record) -> bool:
    """Whether both say the same, for however long."""
    return (
        one.type == other.type
        and one.name.lower() == other.name.lower()
        and _folded(one) == _folded(other)
    )


def _folded(record: Record) -> Any:
    """The value, with names as they are compared."""
    value: Any = record.value
    if record.type == PTR:
        return value.lower()
    if record.type == SRV:
        return *value[:3], value[3].lower()
    return value
