"""What a room name, nickname, group address and port may be; remote text made safe.

Each `check_*` returns the canonical form or raises `Refused` with code -32602 and the reason of
the directory protocol. `unicodedata` is loaded only for text beyond ASCII: it costs start-up time
and some small boxes lack it (then such text is taken as it is, unnormalised).
"""

from __future__ import annotations

from evloop.base.errors import INVALID_PARAMS, Refused
from evloop.base.limits import (
    NICKNAME_BYTES_MAX,
    PORT_MAX,
    PORT_MIN,
    ROOM_NAME_BYTES_MAX,
)

TYPE_CHECKING = False  # the checkers know this name; importing `typing` costs start-up time
if TYPE_CHECKING:
    from typing import Literal


# C0 as ^X, DEL as ^?; C1, the bidi overrides and isolates, the line and paragraph separators and
# lone surrogates as U+FFFD. Nothing else is changed.
_DISPLAY = {code: "^" + chr(code + 64) for code in range(32)}
_DISPLAY[127] = "^?"
_DISPLAY.update(
    dict.fromkeys(
        [*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029],
        "\ufffd",
    )
)
_DISPLAY.update(dict.fromkeys(range(0xD800, 0xE000), "\ufffd"))


def display(text: str) -> str:
    """Make remote text safe for a terminal: no control, no override, no line break survives."""
    return text if text.isprintable() else text.translate(_DISPLAY)


def quoted(value: str, most: int = 80) -> str:
    """`value` for an error message: safe, and cut to `most` characters."""
    shown = display(value[: most + 1])  # of 64 KiB the rest need not be read
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def utf8_parts(data: bytes, most: int) -> list[bytes]:
    """UTF-8 in parts of at most `most` (>= 4) bytes, cut between characters only."""
    parts = []
    start = 0
    while len(data) - start > most:
        end = start + most
        while data[end] & 0xC0 == 0x80:  # a continuation byte: the cut would be inside a character
            end -= 1
        parts.append(data[start:end])
        start = end
    parts.append(data[start:])
    return parts


def normalize(form: Literal["NFC", "NFKC"], text: str) -> str:
    """`unicodedata.normalize`, loaded late; on a box without it the text stays as it is."""
    if text.isascii():
        return text
    try:
        from unicodedata import normalize as unicode_normalize
    except ImportError:
        return text
    return unicode_normalize(form, text)


def fold(name: str) -> str:
    """The key under which two names are the same: NFKC(casefold(NFKC(name)))."""
    if name.isascii():
        return name.lower()
    return normalize("NFKC", normalize("NFKC", name).casefold())


def _bad_name(what: str, why: str) -> Refused:
    return Refused(INVALID_PARAMS, "bad_name", f"{what} {why}")


def _check_name(name: str, what: str, most: int) -> str:
    given = name
    # Judged before normalising too: normalising megabytes would cost a peer nothing and us much.
    if len(name) > 4 * most:
        raise _bad_name(_shown(what, given), f"is longer than {most} bytes; choose a shorter one")
    name = normalize("NFC", name)
    if not name:
        raise _bad_name(f"a {what}", "cannot be empty")
    # isprintable() is false for control, format (which holds the bidi controls), surrogate,
    # private-use and unassigned characters and for all white space but U+0020.
    if " " in name or not name.isprintable():
        why = "has white space or a character that cannot be shown in it"
        raise _bad_name(_shown(what, given), why)
    if len(name.encode()) > most:
        raise _bad_name(_shown(what, given), f"is longer than {most} bytes; choose a shorter one")
    return name


def _shown(what: str, name: str) -> str:
    return f'{what} "{quoted(name)}"'


def check_room_name(name: str) -> str:
    """Return NFC(name), 1 to 64 bytes, or raise Refused `bad_name`."""
    name = _check_name(name, "room name", ROOM_NAME_BYTES_MAX)
    if name[0] in "/-":
        raise _bad_name(_shown("room name", name), f'cannot begin with "{name[0]}"')
    return name


def check_nickname(name: str) -> str:
    """Return NFC(name), 1 to 32 bytes, or raise Refused `bad_name`."""
    name = _check_name(name, "chat name", NICKNAME_BYTES_MAX)
    if ":" in name:
        raise _bad_name(_shown("chat name", name), "cannot have a colon in it")
    return name


def _parse_ipv4(address: str) -> bytes | None:
    parts = address.split(".")
    if len(parts) != 4:
        return None
    for part in parts:
        canonical = part.isascii() and part.isdigit() and (part == "0" or part[0] != "0")
        if not canonical or len(part) > 3 or int(part) > 255:
            return None
    return bytes(map(int, parts))


def check_address(address: str) -> str:
    """Return the canonical form of a group address or raise Refused `bad_address`.

    IPv4: 239.0.0.0/8 (RFC 2365). IPv6: transient groups of scope 2, 5 and 8 (RFC 4291), shown as
    RFC 5952 says; a zone is refused, because it means something on one machine only.
    """
    shown = f'address "{quoted(address)}"'
    if ":" in address:
        from ipaddress import IPv6Address  # late: most rooms are IPv4

        try:
            group = IPv6Address(address)
        except ValueError:
            raise Refused(INVALID_PARAMS, "bad_address", f"{shown} is no IPv6 address") from None
        if "%" in address or group.packed[:2] not in (b"\xff\x12", b"\xff\x15", b"\xff\x18"):
            raise Refused(
                INVALID_PARAMS,
                "bad_address",
                f"{shown} is no transient group of scope 2, 5 or 8; choose one in ff15::/16",
            )
        return str(group)
    packed = _parse_ipv4(address)
    if packed is None or packed[0] != 239:
        why = "is no IPv4 or IPv6 address" if packed is None else "is not in 239.0.0.0/8"
        sentence = f"{shown} {why}; choose one like 239.255.7.1"
        raise Refused(INVALID_PARAMS, "bad_address", sentence)
    return address


def address_warning(address: str) -> str | None:
    """A word of warning about a canonical group address that collides with control traffic."""
    if address.startswith(("239.0.0.", "239.128.0.")):
        return (
            f"{address} shares its MAC address with control traffic (224.0.0.0/24),"
            " which many switches flood; 239.255.1.0 to 239.255.254.255 is free of that"
        )
    if address.startswith("239.255.255."):
        return f"{address} is in the range of SSDP, SLP and NTP; choose one below 239.255.255.0"
    return None


def check_port(port: int) -> int:
    """Return `port` if it is in 1024..65535, else raise Refused `bad_port`."""
    if not PORT_MIN <= port <= PORT_MAX:
        raise Refused(INVALID_PARAMS, "bad_port", f"port {port} is not in {PORT_MIN} to {PORT_MAX}")
    return port


def place_of(address: str, port: int) -> str:
    """The text of a canonical place: "239.255.7.1:5751" or "[ff15::7]:5751"."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def split_place(place: str) -> tuple[str, int] | None:
    """The canonical (address, port) of "ADDRESS:PORT" text, or None when it has another form.

    Raises Refused when it has the form but is no group address or port. A room may be called a:5,
    so what stands before the port must look like an address: in brackets, or digits and dots.
    """
    host, colon, port = place.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif host.strip("0123456789."):
        return None
    if not (host and colon and port.isascii() and port.isdigit() and len(port) <= 6):
        return None
    return check_address(host), check_port(int(port))
