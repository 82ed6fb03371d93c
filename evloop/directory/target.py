"""Where a directory is to be found: as it was typed, or as it was announced."""

from __future__ import annotations

from evloop.base.addresses import endpoint_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Target:
    """One directory to connect to.

    `host`, `port`: as typed; of an announced one the first of its `addresses` (family, socket
    address), which need no look-up. `id`: the one that must answer, "" for any; `name`: what it is
    called, or ""; `tls`: it says that it speaks TLS; `fp`: how its certificate's SHA-256 begins.
    """

    __slots__ = ("addresses", "endpoint", "fp", "host", "id", "name", "port", "tls")

    def __init__(
        self,
        host: str,
        port: int,
        *,
        addresses: Sequence[tuple[int, Any]] = (),
        id: str = "",
        name: str = "",
        tls: bool = False,
        fp: str = "",
    ) -> None:
        self.host, self.port = host, port
        self.endpoint = endpoint_of(host, port)
        self.addresses = list(addresses)
        self.id = id
        self.name = name
        self.tls = tls
        self.fp = fp
