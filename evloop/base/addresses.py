"""HOST:PORT as people write it, socket addresses as text, and what counts as ONE visitor.

A visitor is an IPv4 address, a near IPv6 address, or the /64 of a far one.

A far host that has one IPv6 address usually has its whole /64 (RFC 4291, 2.5.1), so a limit per
address would be no limit at all. On the server's own network all hosts share a /64. An address is
near when it is link-local, unique local (RFC 4193), or in the /64 of the server's address that the
visitor connected to. Each near address counts by itself, and its /64 has a larger limit. An IPv4
visitor on a dual-stack socket arrives as ::ffff:a.b.c.d; taken as IPv6, all would share one /64.
"""

from __future__ import annotations

from evloop.base.errors import USAGE, SetupError
from evloop.base.names import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DIRECTORY_PORT = 44444  # where a directory listens unless told otherwise
DEFAULT_SERVER = f"127.0.0.1:{DIRECTORY_PORT}"  # where a client looks first


def split_endpoint(text: str, port: int = DIRECTORY_PORT) -> tuple[str, int]:
    """(host, port) of "HOST", "HOST:PORT", "[V6]:PORT", "V6" or ":PORT" (host ""; every address).

    Raises SetupError (status 2) that names the text when it is none of these.
    """
    host, number = text, ""
    if text.startswith("["):
        host, bracket, number = text[1:].partition("]")
        if not bracket or number == ":" or (number and number[0] != ":"):
            raise _bad(text)
        number = number[1:]
    elif text.count(":") == 1:
        host, _, number = text.partition(":")
        if not number:
            raise _bad(text)
    if number:
        if not (number.isascii() and number.isdigit() and len(number) <= 5):
            raise _bad(text)
        port = int(number)
    if port > 65535 or any(char.isspace() or not char.isprintable() for char in host):
        raise _bad(text)
    return host, port


def _bad(text: str) -> SetupError:
    return SetupError(f'"{quoted(text)}" is no HOST:PORT (192.0.2.1:44444, [fd00::1]:44444)', USAGE)


def endpoint_of(host: str, port: int) -> str:
    """The text of a numeric address and port, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_GROUPS = 8  # of 16 bits in an IPv6 address
_PREFIX_GROUPS = 4  # a /64
_LINK_LOCAL = ("fe8", "fe9", "fea", "feb")  # fe80::/10
_UNIQUE_LOCAL = ("fc", "fd")  # fc00::/7


def plain_host(host: str) -> str:
    """The numeric `host` without a zone, an IPv4-mapped address as the IPv4 that it is."""
    host = host.partition("%")[0]
    if host.startswith("::ffff:") and "." in host:
        return host[7:]
    return host


def is_loopback(host: str) -> bool:
    """Whether the numeric `host` is this machine, reached by loopback."""
    host = plain_host(host)
    return host.startswith("127.") or host == "::1"


def is_near(host: str, own: str) -> bool:
    """Whether `host`, an IPv6 address, is of the network that this machine is on at `own`.

    Both in the form that the kernel gives; `own` may be of the other family.
    """
    head = host.partition(":")[0].lower()  # the kernel leaves out zeros in front
    if len(head) == 4 and (head[:3] in _LINK_LOCAL or head[:2] in _UNIQUE_LOCAL):
        return True
    return prefix_of(host) == prefix_of(own)


def visitor_of(host: str, own: str) -> str:
    """Whom limits per address count for `host`, who connected to our address `own`."""
    host = plain_host(host)
    return host if ":" not in host or is_near(host, own) else prefix_of(host)


def prefix_of(host: str) -> str:
    """The IPv4 address or the /64 of `host`, a numeric address in the form that the kernel gives.

    "192.0.2.1" -> "192.0.2.1", "2001:db8:0:7::1" -> "2001:db8:0:7::/64". Text of another form
    (a unix socket has no address) comes back as it is.
    """
    host = plain_host(host)
    if ":" not in host:
        return host
    head, gap, tail = host.partition("::")
    groups = head.split(":") if head else []
    if gap:
        behind = tail.split(":") if tail else []
        width = len(behind) + ("." in tail)  # an embedded IPv4 address takes two groups
        groups += ["0"] * (_GROUPS - len(groups) - width) + behind
    del groups[_PREFIX_GROUPS:]
    while groups and groups[-1] == "0":
        groups.pop()
    return ":".join(groups) + "::/64"


def same_network(address: str, prefix: int, other: str) -> bool:
    """Whether `other` is in the network of `prefix` bits that `address` is in; also where that is
    not told: no prefix (0), no address, IPv6."""
    if ":" in address or ":" in other or not address or not other or not prefix:
        return True
    ours, theirs = (bytes(map(int, it.split("."))) for it in (address, other))
    return on_link(theirs, [(ours, prefix)])


# -- addresses of 4 or 16 bytes --------------------------------------------------------------------


def is_link_local(packed: bytes) -> bool:
    """Whether it is an IPv6 address that needs its link to be said (RFC 4291, 2.5.6)."""
    return len(packed) == 16 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80


def on_link(packed: bytes, subnets: Iterable[tuple[bytes, int]]) -> bool:
    """Whether it is link-local, or on one of `subnets`, each (own address, bits of the subnet)."""
    if is_link_local(packed):
        return True
    number = int.from_bytes(packed, "big")
    for own, bits in subnets:
        if len(own) == len(packed):
            difference = number ^ int.from_bytes(own, "big")
            if difference >> (8 * len(own) - bits) == 0:
                return True
    return False
