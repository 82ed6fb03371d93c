"""The vectors of the announcement (docs/directory-protocol.md) and what they stand for."""

from __future__ import annotations

from random import Random

from evloop.net.mdns import (
    ANSWER,
    PTR,
    SERVICE,
    SRV,
    TXT,
    A,
    Message,
    Record,
    name_of,
    pack_strings,
)

ID = "0102030405060708"
LABEL = name_of("kitchen-pi 3f2a", "_evloop", "_tcp", "local")
HOST = name_of(f"evloop-{ID}", "local")
ADDRESS = bytes([192, 0, 2, 10])
STRINGS = ("txtvers=1", f"id={ID}", "kind=server", "proto=1", "tls=0")

_SERVICE = "075f65766c6f6f70045f746370056c6f63616c00"
_LABEL = "0f6b69746368656e2d70692033663261"
_HOST = "1765766c6f6f702d30313032303330343035303630373038"
_TXT = (
    "09747874766572733d311369643d303130323033303430353036303730380b6b696e643d736572766572"
    "0770726f746f3d3105746c733d30"
)


def _announcement(ttls: tuple[int, int, int, int]) -> str:
    ptr, srv, txt, address = [f"{ttl:08x}" for ttl in ttls]
    return (
        f"000084000000000400000000{_SERVICE}000c0001{ptr}0012{_LABEL}c00c"
        f"c02a00218001{srv}002000000000ad9c{_HOST}c019"
        f"c02a00108001{txt}0038{_TXT}c04e00018001{address}0004c000020a"
    )


VECTORS = {
    name: bytes.fromhex(text)
    for name, text in {
        "question": f"000000000001000000000000{_SERVICE}000c0001",
        "known": f"000000000001000100000000{_SERVICE}000c0001c00c000c0001000011940012{_LABEL}c00c",
        "announcement": _announcement((4500, 120, 4500, 120)),
        "goodbye": _announcement((0, 0, 0, 0)),
        "one-shot": f"123484000001000100000003{_SERVICE}000c0001"
        f"c00c000c00010000000a0012{_LABEL}c00c"
        f"c030002100010000000a002500000000ad9c{_HOST}056c6f63616c00"
        f"c030001000010000000a0038{_TXT}{_HOST}c019000100010000000a0004c000020a",
        "probe": f"000000000002000000030000{_LABEL}{_SERVICE}00ff0001{_HOST}c02900ff0001"
        "c00c0021000100000078000800000000ad9cc034"
        f"c00c00100001000011940038{_TXT}c034000100010000" + "00780004c000020a",
    }.items()
}


def announcement(
    ttls: tuple[int, int, int, int] = (4500, 120, 4500, 120),
    label: bytes = LABEL,
    host: bytes = HOST,
    address: bytes = ADDRESS,
    strings: tuple[str, ...] = STRINGS,
    port: int = 44444,
) -> Message:
    """What a directory says of itself, unasked."""
    return Message(
        0,
        ANSWER,
        (),
        [
            Record(SERVICE, PTR, False, ttls[0], label),
            Record(label, SRV, True, ttls[1], (0, 0, port, host)),
            Record(label, TXT, True, ttls[2], pack_strings(strings)),
            Record(host, A, True, ttls[3], address),
        ],
    )


def mutant(rng: Random, data: bytes) -> bytes:
    """`data` with a few bytes changed, cut out, doubled, or with pointers put in."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] = rng.choice((0, 1, 63, 64, 191, 192, 255, rng.randrange(256)))
        elif kind == 1:
            out[at : at + 2] = (0xC000 | rng.randrange(len(out) + 2)).to_bytes(2, "big")
        elif kind == 2:
            del out[at : at + rng.randrange(20)]
        elif kind == 3:
            out[at:at] = out[rng.randrange(len(out) + 1) :][: rng.randrange(60)]
        else:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(out)
