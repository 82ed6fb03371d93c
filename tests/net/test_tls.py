"""TLS as a transformation: any cut of the bytes, good and bad certificates, and no TLS at all."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evloop.base.errors import SetupError
from evloop.net.limits import TLS_CONTROL_RECORDS_MAX
from evloop.net.tls import (
    CLOSED,
    FAILED,
    HANDSHAKE,
    OPEN,
    REFUSAL,
    TlsPipe,
    client_context,
    fingerprint,
    server_context,
)
from tests.support.tls_files import Files, openssl


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


def server(files: Files, client_ca: str | None = None) -> TlsPipe:
    return TlsPipe(server_context(files.cert, files.key, client_ca), server_side=True)


def client(context: ssl.SSLContext | None = None, host: str | None = None) -> TlsPipe:
    return TlsPipe(context or client_context(), server_side=False, host=host)


class Wire:
    """Two pipes and the bytes between them, `step` at a time."""

    def __init__(self, near: TlsPipe, far: TlsPipe, step: int = 1 << 20) -> None:
        self.near, self.far, self.step = near, far, step
        self.to_far = near.start()
        self.to_near = far.start()
        self.read_near = b""
        self.read_far = b""

    def run(self) -> None:
        while self.to_far or self.to_near:
            data, self.to_far = self.to_far[: self.step], self.to_far[self.step :]
            plain, wire = self.far.receive(data)
            self.read_far += plain
            self.to_near += wire
            data, self.to_near = self.to_near[: self.step], self.to_near[self.step :]
            plain, wire = self.near.receive(data)
            self.read_near += plain
            self.to_far += wire


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_handshake_and_talk_in_any_pieces(files: Files, step: int) -> None:
    wire = Wire(client(), server(files), step)
    wire.to_far += wire.near.send(b"said before the handshake was done")
    assert wire.near.state is HANDSHAKE
    wire.run()
    assert (wire.near.state, wire.far.state) == (OPEN, OPEN)
    assert wire.read_far == b"said before the handshake was done"
    wire.to_near += wire.far.send(b"answer" * 10_000)
    wire.to_far += wire.near.send(b"more")
    wire.run()
    assert wire.read_near == b"answer" * 10_000
    assert wire.read_far.endswith(b"donemore")
    wire.to_far += wire.near.close()
    wire.run()
    assert (wire.near.state, wire.far.state) == (CLOSED, OPEN)
    assert wire.far.ended and not wire.near.ended
    wire.to_near += wire.far.close()
    assert wire.far.state is CLOSED
    assert wire.near.failure is None and wire.far.failure is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(parts=st.lists(st.binary(max_size=40_000), max_size=6), step=st.integers(20, 5_000))
def test_what_goes_in_comes_out(files: Files, parts: list[bytes], step: int) -> None:
    wire = Wire(client(), server(files), step)
    for part in parts:
        wire.to_far += wire.near.send(part)
    wire.run()
    assert wire.read_far == b"".join(parts)


def test_records_that_arrive_together_are_all_read(files: Files) -> None:
    wire = Wire(client(), server(files))
    wire.run()
    together = b"".join(wire.near.send(b"%d," % n) for n in range(50))
    plain, _ = wire.far.receive(together)
    assert plain == b"".join(b"%d," % n for n in range(50))


def test_only_tls_1_3_is_spoken(files: Files) -> None:
    context = client_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    wire = Wire(client(context), server(files))
    wire.run()
    assert wire.far.state is FAILED
    assert wire.far.failure == "the other side speaks only a TLS older than 1.3"
    assert wire.near.failure == "the other side wants a TLS older than 1.3"


def test_records_with_nothing_in_them_are_counted(files: Files) -> None:
    """Python cannot send key updates; tickets are such records too."""
    for tickets, welcome in ((TLS_CONTROL_RECORDS_MAX + 1, False), (100, True)):
        context = server_context(files.cert, files.key)
        context.num_tickets = tickets
        for step in (1 << 20, 3):
            wire = Wire(client(), TlsPipe(context, server_side=True), step)
            wire.to_far += wire.near.send(b"hello")
            wire.run()
            assert (wire.near.failure is None) == welcome, wire.near.failure
            if not welcome:
                assert wire.near.failure == "too many TLS records with nothing in them"


def test_many_small_records_are_welcome(files: Files) -> None:
    wire = Wire(client(), server(files), 700)
    for number in range(5_000):
        wire.to_far += wire.near.send(b"%d," % number)
        wire.run()
    assert wire.far.failure is None
    assert wire.read_far.count(b",") == 5_000
    assert wire.far.control < 10


# -- who is who ----------------------------------------------------------------------------------


def test_a_server_signed_by_the_given_authority_is_accepted(files: Files) -> None:
    for host in ("localhost", "127.0.0.1", "::1"):
        wire = Wire(client(client_context(files.ca), host), server(files))
        wire.run()
        assert (wire.near.state, wire.near.failure) == (OPEN, None)


@pytest.mark.parametrize(
    ("trusted", "cert", "host", "why"),
    [
        ("other", "server", "localhost", "unable to get local issuer certificate"),
        ("ca", "expired", "localhost", "certificate has expired"),
        ("ca", "other", "localhost", "self[- ]signed certificate"),  # OpenSSL 3, and 1.1
        ("ca", "server", "example.org", "Hostname mismatch"),
    ],
)
def test_other_servers_are_refused(
    files: Files, trusted: str, cert: str, host: str, why: str
) -> None:
    context = server_context(str(files.folder / f"{cert}.pem"), str(files.folder / f"{cert}.key"))
    wire = Wire(
        client(client_context(str(files.folder / f"{trusted}.pem")), host),
        TlsPipe(context, server_side=True),
    )
    wire.to_far += wire.near.send(b"secret")
    wire.run()
    assert wire.near.state is FAILED
    assert wire.near.failure is not None and re.search(why, wire.near.failure)
    assert wire.far.state is FAILED, "it was told by an alert"
    assert wire.read_far == b"", "nothing of ours left"


def test_a_client_certificate_admits(files: Files) -> None:
    shown = client_context(files.ca, files.client_cert, files.client_key)
    wire = Wire(client(shown, "localhost"), server(files, client_ca=files.ca))
    wire.run()
    assert (wire.near.state, wire.far.state) == (OPEN, OPEN)


def test_without_the_right_client_certificate_nobody_gets_in(files: Files) -> None:
    for context in (client_context(), client_context(None, files.other_cert, files.other_key)):
        wire = Wire(client(context), server(files, client_ca=files.ca))
        wire.to_far += wire.near.send(b"let me in")
        wire.run()
        assert wire.far.state is FAILED
        assert wire.read_far == b""
        assert wire.near.state is FAILED
        assert wire.near.failure is not None and "certificate" in wire.near.failure


def test_a_pin_is_judged_before_a_byte_leaves(files: Files) -> None:
    seen: list[bytes] = []

    def refuse(certificate: bytes) -> str:
        seen.append(certificate)
        return "it has changed"

    near = TlsPipe(client_context(), server_side=False, check=refuse)
    wire = Wire(near, server(files))
    wire.to_far += near.send(b"secret")
    wire.run()
    assert (near.state, near.failure) == (FAILED, "it has changed")
    assert wire.read_far == b""
    shown = openssl("x509", "-in", files.cert, "-noout", "-fingerprint", "-sha256")
    assert fingerprint(seen[0]) == shown.strip().partition("=")[2].replace(":", "").lower()


# -- who speaks no TLS ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"\0\0\0\x10{}", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100])
def test_plain_talk_to_a_tls_server_is_recognised(files: Files, data: bytes) -> None:
    far = server(files)
    assert far.receive(data) == (b"", b""), "no alert: who speaks no TLS cannot read it"
    assert far.plain_peer
    assert far.failure == "the other side speaks no TLS"
    assert far.receive(data) == (b"", b"")


def test_a_plain_server_is_recognised_by_a_tls_client() -> None:
    near = client()
    assert near.start()
    assert near.receive(b'\0\0\0\x40{"jsonrpc":') == (b"", b"")
    assert near.plain_peer and near.failure == "the other side speaks no TLS"


def test_junk_behind_a_record_type_gets_an_alert(files: Files) -> None:
    far = server(files)
    _, wire = far.receive(b"\x16\x03\x01\x00\x20" + b"j" * 32)
    assert far.state is FAILED and not far.plain_peer
    assert wire[:1] == b"\x15", "an alert"


def test_a_broken_record_ends_an_open_connection(files: Files) -> None:
    wire = Wire(client(), server(files))
    wire.run()
    good, record = wire.near.send(b"good"), bytearray(wire.near.send(b"bad"))
    record[-1] ^= 1
    plain, alert = wire.far.receive(good + bytes(record))
    assert plain == b"good"
    assert wire.far.state is FAILED and alert


def test_the_refusal_is_an_alert_that_a_client_understands() -> None:
    near = client()
    near.start()
    near.receive(REFUSAL)
    assert near.failure == "the other side takes no more connections now"


def test_the_end_of_the_wire(files: Files) -> None:
    far = server(files)
    far.end()
    assert far.failure == "the connection ended during the TLS handshake"
    wire = Wire(client(), server(files))
    wire.run()
    wire.far.end()
    assert wire.far.ended
    assert (wire.far.state, wire.far.failure) == (OPEN, None)
    assert wire.far.close() != b""
    assert wire.far.send(b"nobody there") == wire.far.close() == b""


def test_who_said_goodbye_still_gets_its_answer(files: Files) -> None:
    wire = Wire(client(), server(files))
    wire.run()
    asked = wire.near.send(b"question")
    with pytest.raises(ssl.SSLWantReadError):
        wire.near.tls.unwrap()
    goodbye = wire.near.encrypted_out.read()
    assert wire.far.receive(asked + goodbye)[0] == b"question"
    assert wire.far.ended
    wire.near.encrypted_in.write(wire.far.send(b"answer"))
    assert wire.near.tls.read(100) == b"answer"


@given(st.lists(st.binary(min_size=1, max_size=600), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_junk_is_an_exception(files: Files, parts: list[bytes]) -> None:
    far = server(files)
    for part in (b"\x16\x03\x01", *parts):
        plain, _ = far.receive(part)
        assert plain == b""


# -- files ---------------------------------------------------------------------------------------


def test_files_that_can_not_be_used_are_told(files: Files, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_bytes(b"junk" * 100)
    locked = tmp_path / "locked.key"
    openssl("pkey", "-in", files.key, "-aes128", "-passout", "pass:x", "-out", str(locked))
    for cert, key, why in (
        (str(tmp_path / "none.pem"), None, "No such file"),
        (str(junk), None, "cannot use the TLS certificate"),
        (files.cert, files.other_key, "key values mismatch"),
        (files.cert, str(locked), "passphrase"),
    ):
        with pytest.raises(SetupError, match=why) as raised:
            server_context(cert, key)
        assert raised.value.exit_status == 2
    with pytest.raises(SetupError, match="TLS authority"):
        client_context(str(junk))
    with pytest.raises(SetupError, match="TLS authority"):
        server_context(files.cert, files.key, str(tmp_path / "none.pem"))
