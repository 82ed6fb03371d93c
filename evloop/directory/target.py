"""Where a directory is to be found: as it was typed, or as it was announced."""

from __future__ import annotations

from evloop.base.addresses import endpoint_of, split_endpoint
from evloop.base.errors import USAGE, SetupError
from evloop.base.names import quoted
from evloop.directory.limits import SERVERS_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Target:
    """One directory to connect to.

    `host`, `port`: as typed; of an announced one the first of its `addresses` (family, socket
    address), which need no look-up. `id`: the one that must answer, "" for any; `name`: what it is
    called, or ""; `via`: how it was found, for people; `guest`: it lives in a client; `tls`: it
    says that it speaks TLS; `fp`: how its certificate's SHA-256 begins.
    """

    __slots__ = ("addresses", "endpoint", "fp", "guest", "host", "id", "name", "port", "tls", "via")

    def __init__(
        self,
        host: str,
        port: int,
        *,
        addresses: Sequence[tuple[int, Any]] = (),
        id: str = "",
        name: str = "",
        via: str = "",
        guest: bool = False,
        tls: bool = False,
        fp: str = "",
    ) -> None:
        self.host, self.port = host, port
        self.endpoint = endpoint_of(host, port)
        self.addresses = list(addresses)
        self.id = id
        self.name = name
        self.via = via
        self.guest = guest
        self.tls = tls
        self.fp = fp


def targets_of(servers: str) -> list[Target]:
    """HOST[:PORT], or several with commas between them, as targets; SetupError (status 2)."""
    targets = []
    for server in servers.split(","):
        host, port = split_endpoint(server.strip())
        if not host or not port:
            raise SetupError(f'"{quoted(server)}" names no host and port', USAGE)
        targets.append(Target(host, port))
    if len(targets) > SERVERS_MAX:
        raise SetupError(f"{len(targets)} servers: at most {SERVERS_MAX} are tried", USAGE)
    return targets


def may_be_announced(server: str) -> bool:
    """Whether it is a bare name, under which a directory may be announced, and no address."""
    return (
        bool(server.strip("0123456789.:[],"))
        and not set(".:,[]") & set(server)
        and (server.casefold() != "localhost")
    )
