"""TLS as a transformation of bytes: wire bytes in, plain bytes and wire bytes out.

No socket is touched: an SSLObject works on two memory buffers (PEP 644, ssl.MemoryBIO), so the
stream above stays the same with TLS and without, and a test can cut the bytes as it likes. This
module loads `ssl` (20 MB of start-up): import it late, only when TLS is asked for.

States of a TlsPipe, and what each call does in them:

    state      receive                          send            end                close
    handshake  goes on; done: -> open           kept till open  -> failed          -> closed
               no TLS, or an alert: -> failed
    open       plain bytes; goodbye: `ended`    wire bytes      `ended`            goodbye, closed
               a broken record: -> failed
    closed     dropped                          dropped         nothing            nothing
    failed     dropped                          dropped         nothing            nothing

`ended`: the peer will say nothing more, but still listens (TLS 1.3 has half-closed connections):
what it asked is answered. `failure` holds the sentence; what the peer should be told of it (an
alert) is in the wire bytes. A client looks at the certificate when the handshake is done and
before a byte of its own leaves.
"""

from __future__ import annotations

import os
import ssl

from evloop.base.errors import REFUSED, USAGE, SetupError
from evloop.net.limits import (
    TLS_CONTROL_RECORDS_MAX,
    TLS_READ_BYTES_MAX,
    TLS_SLICE_BYTES,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HANDSHAKE, OPEN, CLOSED, FAILED = "handshake", "open", "closed", "failed"

_RECORD_TYPES = frozenset(range(0x14, 0x19))  # RFC 8446, B.1; a frame of ours begins with 0x00
_HEAD_BYTES = 5  # type, version, length (RFC 8446, 5.1)
# A refused client has no keys yet, so this is all that it can be told: access_denied (RFC 8446, 6)
REFUSAL = b"\x15\x03\x03\x00\x02\x02\x31"

# OpenSSL's names of errors -> sentences for a person.
_SENTENCES = {
    "WRONG_VERSION_NUMBER": "the other side speaks no TLS, or a TLS older than 1.3",
    "UNSUPPORTED_PROTOCOL": "the other side speaks only a TLS older than 1.3",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the other side wants a TLS older than 1.3",
    "NO_PROTOCOLS_AVAILABLE": "the other side speaks only a TLS older than 1.3",
    "TLSV1_ALERT_UNKNOWN_CA": "the other side does not know who signed our certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other side asks for a certificate of ours",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client showed no certificate",
    "TLSV1_ALERT_ACCESS_DENIED": "the other side takes no more connections now",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the other side finds our certificate bad",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the other side does not accept our certificate",
}


class TlsPipe:
    """One TLS connection without its socket.

    `check`, for clients, gets the peer's certificate (DER) before anything is sent and returns
    why it is not accepted, or None.
    """

    __slots__ = (
        "_begun",
        "_check",
        "_early",
        "_head",
        "_skip",
        "control",
        "encrypted_in",
        "encrypted_out",
        "ended",
        "failure",
        "plain_peer",
        "state",
        "tls",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        host: str | None = None,
        check: Callable[[bytes], str | None] | None = None,
    ) -> None:
        self.encrypted_in = ssl.MemoryBIO()
        self.encrypted_out = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.encrypted_in, self.encrypted_out, server_side, host)
        self._check = check
        self._early: list[bytes] = []  # bounded by the caller's own out-queue
        self.control = 0  # records that held no plain bytes
        self._head = b""  # the beginning of a record's header
        self._skip = 0  # bytes of a record that are still to come
        self._begun = False  # the peer's first byte was seen, and was that of a TLS record
        self.state = HANDSHAKE
        self.ended = False
        self.failure: str | None = None
        self.plain_peer = False  # it failed because the peer speaks no TLS at all

    @property
    def shaking(self) -> bool:
        """The handshake is not done."""
        return self.state is HANDSHAKE

    def start(self) -> bytes:
        """What goes on the wire first: a client's hello, from a server nothing."""
        self._shake_hands()
        return self.encrypted_out.read()

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Take `data` from the wire; return (plain bytes to read, wire bytes to send)."""
        if self.state is CLOSED or self.state is FAILED or self.ended or not data:
            return b"", b""
        if not self._begun:
            self._begun = True
            if data[0] not in _RECORD_TYPES:
                self.plain_peer = True
                self._fail("the other side speaks no TLS")
                return b"", b""
        if len(data) <= TLS_SLICE_BYTES:
            return self._take(data), self.encrypted_out.read()
        slices = range(0, len(data), TLS_SLICE_BYTES)
        plain = b"".join([self._take(data[at : at + TLS_SLICE_BYTES]) for at in slices])
        return plain, self.encrypted_out.read()

    def send(self, plain: bytes) -> bytes:
        """Return the wire bytes of `plain`; none yet when the handshake is not done."""
        if not plain:
            return b""  # SSLObject.write of Python 3.9 and 3.10 raises SSLEOFError for nothing
        if self.state is HANDSHAKE:
            self._early.append(plain)
        elif self.state is OPEN:
            self.tls.write(plain)  # the memory buffer grows: it takes all at once
            return self.encrypted_out.read()
        return b""

    def end(self) -> None:
        """The wire ended, perhaps without a goodbye: frames have lengths, so a cut is noticed."""
        if self.state is HANDSHAKE:
            self._fail("the connection ended during the TLS handshake")
        self.ended = True

    def close(self) -> bytes:
        """Return the goodbye (close_notify) that should end the wire."""
        if self.state is OPEN:
            try:
                self.tls.unwrap()
            except ssl.SSLError:  # it wants the peer's goodbye, which nobody waits for
                pass
        if self.state is not FAILED:
            self.state = CLOSED
        return self.encrypted_out.read()

    def _take(self, data: bytes) -> bytes:
        if self.state is FAILED:
            return b""  # an earlier slice of the same bytes was too much
        self.encrypted_in.write(data)
        self._count_records(data)
        if self.state is HANDSHAKE:
            self._shake_hands()
        plain = self._read() if self.state is OPEN else b""
        if self.control > TLS_CONTROL_RECORDS_MAX and self.state is not FAILED:
            self._fail("too many TLS records with nothing in them")
        return plain

    def _count_records(self, data: bytes) -> None:
        """Count the records of `data`: a key update is 27 bytes, and costs us 19 us.

        64 KiB of them would take 46 ms, so a peer may send only so many more records than it
        sends plain bytes in.
        """
        at, end = self._skip, len(data)
        while at < end:
            head = self._head + data[at : at + _HEAD_BYTES - len(self._head)]
            at += len(head) - len(self._head)
            if len(head) < _HEAD_BYTES:
                self._head = head
                break
            self._head = b""
            self.control += 1
            at += int.from_bytes(head[3:], "big")
        self._skip = max(0, at - end)

    def _shake_hands(self) -> None:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._fail(sentence_of(error))
            return
        if self._check is not None:
            why = self._check(self.tls.getpeercert(binary_form=True) or b"")
            if why is not None:
                self._fail(why)
                return
        self.state = OPEN
        for plain in self._early:
            self.tls.write(plain)
        self._early.clear()

    def _read(self) -> bytes:
        # Read until it wants more: two records often arrive at once, and the kernel does not report
        # again the bytes that are in our own buffer already.
        parts = []
        while True:
            try:
                part = self.tls.read(TLS_READ_BYTES_MAX)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                part = b""
            except ssl.SSLError as error:
                self._fail(sentence_of(error))
                break
            if not part:
                self.ended = True
                break
            parts.append(part)
            self.control -= 1  # a read returns one record, or a part of it
        return b"".join(parts)

    def _fail(self, why: str) -> None:
        self.state = FAILED
        self.failure = why
        self._early.clear()


def sentence_of(error: Exception) -> str:
    """What went wrong, for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    reason = getattr(error, "reason", None) or ""
    if reason.endswith("ALERT_CERTIFICATE_REQUIRED"):
        reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    return _SENTENCES.get(reason, f"TLS failed: {reason.lower().replace('_', ' ') or error}")


def fingerprint(certificate: bytes) -> str:
    """The SHA-256 of a certificate (DER) in hexadecimal: what is pinned and shown."""
    from hashlib import sha256

    return sha256(certificate).hexdigest()


# -- contexts ------------------------------------------------------------------------------------


def _no_passphrase() -> str:
    raise SetupError("the TLS key is protected by a passphrase; give one that is not", USAGE)


def _load_chain(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    try:
        # Without the callback OpenSSL would ask on the terminal, and the loop would wait.
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except OSError as error:  # SSLError is one
        what = f"TLS certificate {cert}" + (f" with key {key}" if key else "")
        raise _unusable(what, error) from None


def _load_ca(context: ssl.SSLContext, ca: str) -> None:
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        raise _unusable(f"TLS authority {ca}", error) from None


def _check_file(path: str) -> None:
    """SetupError for what is there and no file: to open a pipe could wait for its writer."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise SetupError(f"{path} is not a regular file", USAGE)


def _unusable(what: str, error: OSError) -> SetupError:
    if isinstance(error, ssl.SSLError):
        why = (error.reason or "it holds no PEM certificate").lower().replace("_", " ")
    else:
        why = error.strerror or str(error)
    return SetupError(f"cannot use the {what}: {why}", USAGE)


def _context(protocol: int, exit_status: int) -> ssl.SSLContext:
    """A context that speaks TLS 1.3 alone; SetupError where this Python has none."""
    context = ssl.SSLContext(protocol)
    try:
        if not ssl.HAS_TLSv1_3:
            raise ValueError
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    except ValueError:
        library = " ".join(ssl.OPENSSL_VERSION.split()[:2])
        raise SetupError(
            f"this Python has no TLS 1.3 ({library}): install Python from python.org", exit_status
        ) from None
    return context


def server_context(cert: str, key: str | None, client_ca: str | None = None) -> ssl.SSLContext:
    """The server's side; `client_ca` admits only clients with a certificate that it signed.

    Raises SetupError.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, USAGE)
    context.num_tickets = 0  # nobody resumes: a connection lives for hours
    _load_chain(context, cert, key)
    if client_ca is not None:
        _load_ca(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class ServerTls:
    """The TLS of a server: its files, and the context that they gave when last read."""

    __slots__ = ("_context", "_files")

    refusal = REFUSAL

    def __init__(self, cert: str, key: str | None, client_ca: str | None) -> None:
        self._files = (cert, key, client_ca)
        self._context = server_context(*self._files)

    def fingerprint(self) -> str:
        """That of the certificate in the file now (`fingerprint`); SetupError."""
        cert = self._files[0]
        _check_file(cert)
        try:
            with open(cert, encoding="ascii", errors="replace") as file:
                text = file.read()
        except OSError as error:
            raise _unusable(f"TLS certificate {cert}", error) from None
        # OpenSSL takes the first certificate as the server's; text may stand around it.
        _, begin, rest = text.partition(ssl.PEM_HEADER)
        block, end, _ = rest.partition(ssl.PEM_FOOTER)
        return fingerprint(ssl.PEM_cert_to_DER_cert(begin + block + end))

    def reload(self) -> None:
        """Read the files again. SetupError: the old context stays."""
        for path in filter(None, self._files):
            _check_file(path)
        self._context = server_context(*self._files)

    def pipe(self) -> TlsPipe:
        return TlsPipe(self._context, server_side=True)


def client_context(
    ca: str | None = None, cert: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """The client's side: `ca` must have signed the server's certificate and its name must fit.

    Without `ca` the context accepts any certificate, and the pipe's `check` must judge it. `cert`
    and `key` are shown to a server that asks. Raises SetupError.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, REFUSED)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _load_ca(context, ca)
    if cert is not None:
        _load_chain(context, cert, key)
    return context
