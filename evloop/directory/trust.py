"""Whom the client trusts, and what it can prove: TLS, pinned certificates, owner tokens.

    known_directories   127.0.0.1:44444 5f2e...            SHA-256 of its certificate
    owner_tokens        127.0.0.1:44444/lab 9a41...        the token that makeroom returned

Both are a `KeyFile` in the user's state directory.

A token is looked up by its room in all directories, because one directory has many names: it is
127.0.0.1, a host name, and an address of the network. Tokens kept under its present name come
first.

    options          certificate of the directory
    (none)           plain TCP
    --tls            the first one seen at a HOST:PORT is kept, another one refused
    --tls-ca FILE    signed by that authority, and for that host name

A directory that was found on the network says itself whether it speaks TLS; then it is spoken to by
TLS, whatever the options are. Its certificate must begin as was announced, and is kept for its id
(`known`), not for its HOST:PORT, which DHCP moves.
"""

from __future__ import annotations

from evloop.base.addresses import plain_host
from evloop.base.errors import FAILED, REFUSED, USAGE, SetupError
from evloop.base.names import display, fold
from evloop.directory.key_file import KeyFile
from evloop.directory.limits import TOKENS_TRIED_MAX
from evloop.system.files import state_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping
    from ssl import SSLContext

    from evloop.directory.target import Target
    from evloop.net.tls import TlsPipe

PINS = "known_directories"
TOKENS = "owner_tokens"


def check_pin(pins: KeyFile, place: str, shown: str) -> str | None:
    """Trust the certificate with the fingerprint `shown` at `place` ("HOST:PORT"), or refuse.

    The first one is kept, and what to tell the user about it is returned. The one that is known
    returns None. Another one raises SetupError 77: somebody may be between client and directory, or
    the operator has renewed the certificate.
    """
    known = pins.get(place)
    if known == shown:
        return None
    if known is None:
        pins.put(place, shown)
        return f"trusting {place} from now on by its certificate, SHA-256 {shown}"
    raise _changed(
        place, known, shown, f"remove the line that begins with {place} from {pins.path}"
    )


def _changed(place: str, known: str, shown: str, remedy: str) -> SetupError:
    return SetupError(
        f"THE CERTIFICATE OF {place} HAS CHANGED.\n"
        "Either somebody is in the middle and reads along, or the operator has renewed it.\n"
        f"known: {known}\n"
        f"shown: {shown}\n"
        "Nothing was sent. Ask the operator, by another road, whether the shown one is right;"
        f" if it is, {remedy} and connect again.",
        REFUSED,
    )


class Trust:
    """`tell` says a sentence to the user. SetupError when the options' files cannot be used."""

    __slots__ = ("_ca", "_context", "_directory", "_met", "_options", "_shown", "_tell", "new")

    def __init__(
        self,
        options: Namespace,
        environ: Mapping[str, str],
        tell: Callable[[str], object],
    ) -> None:
        self._directory = state_directory(environ)
        self._tell = tell
        self._met: dict[str, bool] = {}  # directories accepted by this run; no later refusal told
        self.new: set[str] = set()  # directories whose certificate was not known before this run
        self._ca: str | None = options.tls_ca
        self._options = options
        self._shown = ""  # the certificate of the newest connection, "" of one without TLS
        self._context: SSLContext | None = None
        if self.wants_tls:
            self._context = self._make_context()

    @property
    def wants_tls(self) -> bool:
        """The user has asked for TLS: a directory without it is none."""
        options = self._options
        return bool(options.tls or options.tls_ca or options.tls_cert)

    def _make_context(self) -> SSLContext:
        try:
            from evloop.net.tls import client_context  # late: ssl takes 20 MB
        except ImportError:
            raise SetupError("this Python has no ssl, and so no --tls", USAGE) from None
        options = self._options
        return client_context(options.tls_ca, options.tls_cert, options.tls_key)

    def pipe(self, target: Target, host: str) -> TlsPipe | None:
        """The TLS of a new connection to `target` at `host`, None for plain TCP; SetupError."""
        self._shown = ""
        if self._context is None and not target.tls:
            return None
        if self._context is None:
            self._context = self._make_context()
        from evloop.net.tls import TlsPipe

        if self._ca is None:
            self._home()  # what is trusted must be kept
        check = self._check_of(target)
        return TlsPipe(self._context, server_side=False, host=plain_host(host), check=check)

    def _check_of(self, target: Target) -> Callable[[bytes], str | None]:
        from evloop.net.tls import fingerprint

        def check(certificate: bytes) -> str | None:
            shown = fingerprint(certificate)
            try:
                news = self._judge(target, shown)
            except SetupError as error:
                return self._refusal(target.endpoint, error.sentence)
            self._shown = shown
            self._met[target.endpoint] = True
            if news is not None:
                self.new.add(target.endpoint)
                self._tell(news)
            return None

        return check

    def _judge(self, target: Target, shown: str) -> str | None:
        """What to tell the user of the certificate `shown`; SetupError 77: it is not accepted."""
        place = target.endpoint.lower()
        if not target.addresses:
            return None if self._ca is not None else check_pin(self._key_file(PINS), place, shown)
        if target.name:
            place = f"{display(target.name)} ({place})"
        if not shown.startswith(target.fp):
            raise _changed(place, f"{target.fp}... (as announced)", shown, "say so by --server")
        if self._ca is not None:
            return None
        from evloop.directory.known import KnownIds, is_id

        if not is_id(target.id):  # announced by somebody else's service file, which tells no id
            return check_pin(self._key_file(PINS), target.endpoint.lower(), shown)
        file = KnownIds(self._home())
        kept = file.entries().get(target.id, ("", ""))[0]
        if kept not in ("", shown):
            remedy = f"remove the line that begins with {target.id} from {file.path}"
            raise _changed(place, kept, shown, remedy)
        if kept == shown:
            return None
        return f"trusting {place} from now on by its certificate, SHA-256 {shown}"

    def remember(self, identity: str, target: Target) -> None:
        """The directory `identity` has greeted us at `target`; SetupError."""
        from evloop.directory.known import KnownIds, is_id

        if is_id(identity) and self._directory is not None:
            file = KnownIds(self._directory)
            file.keep(identity, self._shown, target.name, target.endpoint)

    def known(self) -> dict[str, tuple[str, str]]:
        """The directories that were met before: of each id its certificate and name; SetupError."""
        from evloop.directory.known import KnownIds

        return KnownIds(self._directory).entries() if self._directory is not None else {}

    def _refusal(self, endpoint: str, sentence: str) -> str:
        """Why a connection ends: in full for a new one, and once for one that is made anew."""
        if endpoint not in self._met:
            return sentence
        if self._met[endpoint]:
            self._met[endpoint] = False
            self._tell(sentence)
        return "its certificate is not the one that it was"

    def keep_token(self, endpoint: str, room: str, token: str) -> None:
        """Keep the token of a room that was made here; SetupError."""
        self._key_file(TOKENS).put(_room_key(endpoint, room), token)

    def tokens(self, endpoint: str, room: str) -> list[str]:
        """The tokens that may be that room's, the likeliest first; SetupError when the file is
        damaged.

        At most TOKENS_TRIED_MAX: of rooms of that name made at `endpoint`, then elsewhere, newest
        first.
        """
        if self._directory is None:
            return []
        wanted, here = fold(room), f"{endpoint.lower()}/{fold(room)}"
        kept = self._key_file(TOKENS).all()
        found = dict.fromkeys([kept[here]] if here in kept else [])
        for key in reversed(kept):
            if key.partition("/")[2] == wanted:
                found[kept[key]] = None
        return list(found)[:TOKENS_TRIED_MAX]

    def _key_file(self, name: str) -> KeyFile:
        return KeyFile(self._home(), name)

    def _home(self) -> str:
        if self._directory is None:
            raise SetupError("there is no home directory to remember things in; set HOME", FAILED)
        return self._directory


def _room_key(endpoint: str, room: str) -> str:
    return f"{endpoint.lower()}/{fold(room)}"
