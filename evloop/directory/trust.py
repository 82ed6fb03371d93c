"""Whom the client trusts, and what it can prove: TLS, pinned certificates, owner tokens.

options          certificate of the directory
(none)           plain TCP
--tls            the first one seen at a HOST:PORT is kept, another one refused
--tls-ca FILE    signed by that authority, and for that host name
"""

from evloop.base.errors import SetupError
from evloop.base.names import fold
from evloop.base.peers import plain_host
from evloop.directory.keepsakes import (
    PINS,
    TOKENS,
    Keepsakes,
    check_pin,
)
from evloop.system.statefiles import state_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping
    from ssl import SSLContext

    from evloop.net.tls import TlsPipe

_FAILED = 1
_USAGE = 2


class Trust:
    """`tell` says a sentence to the user. SetupError when the options' files can not be used."""

    __slots__ = ("_ca", "_context", "_directory", "_met", "_tell")

    def __init__(
        self,
        options: "Namespace",
        environ: "Mapping[str, str]",
        tell: "Callable[[str], object]",
    ) -> None:
        self._directory = state_directory(environ)
        self._tell = tell
        self._met: dict[str, bool] = {}  # directories accepted by this run; no later refusal told
        self._ca: str | None = options.tls_ca
        self._context: SSLContext | None = None
        if options.tls or options.tls_ca or options.tls_cert:
            try:
                from evloop.net.tls import client_context  # late: ssl takes 20 MB
            except ImportError:
                raise SetupError("this Python has no ssl, and so no --tls", _USAGE) from None
            self._context = client_context(options.tls_ca, options.tls_cert, options.tls_key)

    def pipe(self, host: str, endpoint: str) -> "TlsPipe | None":
        """The TLS of a new connection to `endpoint` (HOST:PORT), None for plain TCP."""
        if self._context is None:
            return None
        from evloop.net.tls import TlsPipe

        check = None if self._ca is not None else self._check_of(endpoint)
        return TlsPipe(self._context, server_side=False, host=plain_host(host), check=check)

    def _check_of(self, endpoint: str) -> "Callable[[bytes], str | None]":
        from evloop.net.tls import fingerprint

        pins = self._keepsakes(PINS)

        def check(certificate: bytes) -> str | None:
            try:
                news = check_pin(pins, endpoint.lower(), fingerprint(certificate))
            except SetupError as error:
                return self._refusal(endpoint, error.sentence)
            self._met[endpoint] = True
            if news is not None:
                self._tell(news)
            return None

        return check

    def _refusal(self, endpoint: str, sentence: str) -> str:
        """Why a connection ends; in full to who connects, and once to who is reconnected."""
        if endpoint not in self._met:
            return sentence
        if self._met[endpoint]:
            self._met[endpoint] = False
            self._tell(sentence)
        return "its certificate is not the one that it was"

    def keep_token(self, endpoint: str, room: str, token: str) -> None:
        """Keep the token of a room that was made here; SetupError."""
        self._keepsakes(TOKENS).put(_room_key(endpoint, room), token)

    def token(self, endpoint: str, room: str) -> str | None:
        """The token of a room, if it was made here; SetupError when the file is damaged."""
        if self._directory is None:
            return None
        return self._keepsakes(TOKENS).get(_room_key(endpoint, room))

    def _keepsakes(self, name: str) -> Keepsakes:
        if self._directory is None:
            raise SetupError("there is no home directory to remember things in; set HOME", _FAILED)
        return Keepsakes(self._directory, name)


def _room_key(endpoint: str, room: str) -> str:
    return f"{endpoint.lower()}/{fold(room)}"
