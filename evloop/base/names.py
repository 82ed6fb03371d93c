"""What a room name, nickname, group address and port may be; remote text made safe.

Each `check_*` returns the canonical form or raises `Refused` with code -32602 and the reason of
the directory protocol. `unicodedata` is loaded only for text beyond ASCII: it costs start-up time
and some small boxes lack it (then such text is taken as it is, unnormalised).
"""

from __future__ import annotations

from evloop.base.errors import INVALID_PARAMS, Refused
from evloop.base.limits import (
    FOLDED_CHARS_MAX,
    NICKNAME_BYTES_MAX,
    PORT_MAX,
    PORT_MIN,
    ROOM_NAME_BYTES_MAX,
)

TYPE_CHECKING = False  # the checkers know this name; importing `typing` costs start-up time
if TYPE_CHECKING:
    from typing import Literal


# C0 as ^X, DEL as ^?; C1, the bidi overrides and isolates, the line and paragraph separators as
# U+FFFD, and so are lone surrogates: see `display`. Nothing else is changed.
_DISPLAY = {code: "^" + chr(code + 64) for code in range(32)}
_DISPLAY[127] = "^?"
_DISPLAY.update(
    dict.fromkeys(
        [*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029],
        "\ufffd",
    )
)

# Default_Ignorable_Code_Point of Unicode (DerivedCoreProperties.txt), inclusive ranges: nothing is
# drawn for these, whatever the font. Unassigned ones are in it, so that it holds for all versions.
_IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5),
    (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
)  # fmt: skip
_INVISIBLE = {code: None for low, high in _IGNORABLE for code in range(low, high + 1)}
_FIRST_TAG, _LAST_TAG = "\U000e0000", "\U000e0fff"  # all of this block are ignorable too
# Unicode calls these letters or symbols, but they are drawn as an empty space.
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0\U00013441\U00013442\U0001d159")
# Tildes, and characters drawn like one: they stand between a name and a tag; see `spells_a_tag`.
_TILDES = "~\u02dc\u2053\u223c\u223d\u301c\uff5e"
_HEX_DIGITS = "0123456789abcdef"
TAG_DIGITS_MIN, ID_DIGITS = 4, 16  # of a tag, and of a whole sender id


def display(text: str) -> str:
    """Make remote text safe for a terminal: no control, no override, no line break survives."""
    if text.isprintable():
        return text
    text = text.translate(_DISPLAY)
    try:
        text.encode()
    except UnicodeEncodeError:  # 2,048 surrogates in the table would be 136 kB in every program
        text = "".join(["\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text])
    return text


def quoted(value: str, most: int = 80) -> str:
    """`value` for an error message: safe, and cut to `most` characters."""
    shown = display(value[: most + 1])  # the rest, up to 64 KiB, is not even looked at
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


def ignorable(char: str) -> bool:
    """Whether nothing is drawn for `char`: Unicode's Default_Ignorable_Code_Point."""
    return ord(char) in _INVISIBLE or _FIRST_TAG <= char <= _LAST_TAG


def _visible(text: str) -> str:
    text = text.translate(_INVISIBLE)
    if text and max(text) >= _FIRST_TAG:
        text = "".join([char for char in text if not _FIRST_TAG <= char <= _LAST_TAG])
    return text


def fold(name: str) -> str:
    """The key under which two names are the same.

    V(NFKC(casefold(NFKC(V(name))))), where V leaves out what is default ignorable: two names that
    differ only by a variation selector or a joiner look the same.
    """
    if name.isascii():
        return name.lower()
    # The last normalisation joins what casefold has put side by side.
    return normalize("NFKC", _visible(normalize("NFKC", _visible(name)).casefold()))


def fold_text(text: str) -> str:
    """A text of any length without the differences of case, accents' order and invisible marks.

    NFC(casefold(NFC(V(text)))). It does less than `fold`, because NFKC can make 18 characters of
    one. The text is normalised in pieces that end after a blank: n combining marks in a row take
    n * n steps, and 7,200 bytes of them from a peer must not keep this process busy. A search still
    finds every word of at most FOLDED_CHARS_MAX characters; a longer one may be cut apart.
    """
    if text.isascii():
        return text.lower()
    text = _visible(text)
    pieces = []
    at = 0
    while at < len(text):
        end = at + FOLDED_CHARS_MAX
        if end < len(text):
            end = text.rfind(" ", at, end) + 1 or end
        pieces.append(normalize("NFC", normalize("NFC", text[at:end]).casefold()))
        at = end
    return "".join(pieces)


def spells_a_tag(name: str) -> bool:
    """Whether `name` reads as what evloop itself writes to tell people apart.

    `Mel~3f2a` is a name with the end of its owner's sender id; 16 hexadecimal digits are an id.
    """
    for form in (fold(name), name.casefold()):
        end = form.rstrip(_HEX_DIGITS)
        digits = len(form) - len(end)
        if not end and digits == ID_DIGITS:
            return True
        if end and end[-1] in _TILDES and TAG_DIGITS_MIN <= digits <= ID_DIGITS:
            return True
    return False


def _bad_name(what: str, why: str) -> Refused:
    return Refused(INVALID_PARAMS, "bad_name", f"{what} {why}")


def _check_name(name: str, what: str, most: int, newer: bool = False) -> str:
    given = name
    # Judged before normalising too: normalising megabytes would cost a peer nothing and us much.
    if len(name) > 4 * most:
        raise _bad_name(_shown(what, given), f"is longer than {most} bytes; choose a shorter one")
    name = normalize("NFC", name)
    if not name:
        raise _bad_name(f"a {what}", "cannot be empty")
    if any(char.isspace() or char in _BLANKS for char in name):
        one_word = "-".join("".join([" " if c in _BLANKS else c for c in name]).split())
        advice = f"; {quoted(one_word)} would be one" if one_word else ""
        raise _bad_name(_shown(what, given), f"has white space in it; a name is one word{advice}")
    # isprintable() is false for control, format (which holds the bidi controls), surrogate,
    # private-use and unassigned characters.
    if not name.isprintable() and not (newer and _is_of_newer_unicode(name)):
        raise _bad_name(_shown(what, given), "has a character that cannot be shown in it")
    if not _visible(name):
        raise _bad_name(_shown(what, given), "has no character that can be seen")
    if len(name.encode()) > most:
        raise _bad_name(_shown(what, given), f"is longer than {most} bytes; choose a shorter one")
    return name


def _is_of_newer_unicode(name: str) -> bool:
    """Whether each character that this Python would not print is unassigned in its Unicode."""
    try:
        from unicodedata import category
    except ImportError:
        return False
    return all(
        char.isprintable()
        or (category(char) == "Cn" and not ignorable(char) and not _is_noncharacter(ord(char)))
        for char in name
    )


def _is_noncharacter(code: int) -> bool:
    """Whether Unicode will never assign `code`."""
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _shown(what: str, name: str) -> str:
    return f'{what} "{quoted(name)}"'


def check_room_name(name: str) -> str:
    """Return NFC(name), 1 to 64 bytes, or raise Refused `bad_name`.

    A character that this Python's Unicode does not know is refused, because it cannot be told
    which other spellings of it are the same name.
    """
    name = _check_name(name, "room name", ROOM_NAME_BYTES_MAX)
    if name[0] in "/-":
        raise _bad_name(_shown("room name", name), f'cannot begin with "{name[0]}"')
    try:
        is_place = split_place(name) is not None
    except Refused:
        is_place = False  # it is no group address, so it may be a name
    if is_place:
        raise _bad_name(_shown("room name", name), "is the address of a room; choose a word")
    return name


def asked_room_name(name: str) -> str:
    """Return the name to ask a directory for, or raise Refused `bad_name`.

    Whether there is such a room only the directory knows: it may have been made by a newer Python,
    or under the rules of an older release, and must be reachable all the same.
    """
    if not name:
        raise _bad_name("a room name", "cannot be empty")
    if len(name) > 4 * ROOM_NAME_BYTES_MAX:
        why = f"is longer than {ROOM_NAME_BYTES_MAX} bytes; choose a shorter one"
        raise _bad_name(_shown("room name", name), why)
    return normalize("NFC", name)


def check_nickname(name: str) -> str:
    """Return NFC(name), 1 to 32 bytes, or raise Refused `bad_name`: for one's own name."""
    return _check_nickname(name, newer=False)


def check_member_name(name: str) -> str:
    """As `check_nickname`, for the name of somebody else, whose Python may know more Unicode."""
    return _check_nickname(name, newer=True)


def _check_nickname(name: str, *, newer: bool) -> str:
    name = _check_name(name, "chat name", NICKNAME_BYTES_MAX, newer)
    if ":" in name:
        raise _bad_name(_shown("chat name", name), "cannot have a colon in it")
    if spells_a_tag(name):
        why = "reads like the number by which evloop tells people apart; choose another"
        raise _bad_name(_shown("chat name", name), why)
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
    elif host.strip("0123456789.") or host.count(".") != 3:
        return None  # 10:30 is the name of a room, and no IPv4 address
    if not (host and colon and port.isascii() and port.isdigit() and len(port) <= 6):
        return None
    return check_address(host), check_port(int(port))
