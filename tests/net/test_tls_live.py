"""TLS on real sockets: the server against openssl and the ssl module, the client against it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evloop.base.limits import FRAME_BYTES_MAX
from evloop.daemon.certificate import own_addresses
from evloop.framing import FrameDecoder
from evloop.net.hub import Hub
from evloop.net.limits import OUT_HIGH_WATER_BYTES, TLS_HANDSHAKE_S, TLS_HANDSHAKES_PER_TICK
from evloop.net.tls import (
    ServerTls,
    TlsPipe,
    client_context,
)
from tests.support.live import (
    ROOT,
    Caller,
    House,
    Process,
    request,
    tls_call,
)
from tests.support.tls_files import Files, needs_openssl


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_house(files: Files) -> Iterator[House]:
    house = House("--tls-cert", files.cert, "--tls-key", files.key)
    yield house
    house.close()


class TlsCaller(Caller):
    """A caller whose bytes pass our own pipe, `step` at a time."""

    def __init__(self, house: House, context: ssl.SSLContext, step: int = 1 << 20) -> None:
        super().__init__(house.address)
        house.callers.append(self)
        self.house = house
        self.step = step
        self.pipe = TlsPipe(context, server_side=False, host="localhost")
        self.raw(self.pipe.start())

    def raw(self, data: bytes) -> None:
        for start in range(0, len(data), self.step):
            self.sock.send(data[start : start + self.step])
            if self.step < len(data):
                self.house.tick()

    def send(self, data: bytes) -> int:
        self.raw(self.pipe.send(data))
        return len(data)

    def take(self, data: bytes) -> None:
        plain, wire = self.pipe.receive(data)
        self.decoder.feed(plain)
        self.raw(wire)


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_requests_over_tls_in_any_pieces(tls_house: House, files: Files, step: int) -> None:
    caller = TlsCaller(tls_house, client_context(files.ca), step)
    assert tls_house.call(caller, "makeroom", name="lab")["result"]["room"]["name"] == "lab"
    for number in range(30):
        caller.ask("getdir", limit=1 + number)
    tls_house.until(lambda: caller.reply(31))
    assert [it["id"] for it in caller.got] == list(range(1, 32))


def test_a_large_listing_and_a_slow_reader(tls_house: House, files: Files) -> None:
    caller = TlsCaller(tls_house, client_context(files.ca))
    for number in range(300):
        tls_house.call(caller, "makeroom", name=f"room{number}")
    caller.got.clear()
    first = caller.last_id + 1
    for _ in range(60):
        caller.ask("getdir")
    tls_house.tick(50)  # it does not read: the server stops at its high-water mark
    queued = tls_house.dispatcher.readings()["queued_bytes"]
    assert queued <= OUT_HIGH_WATER_BYTES + FRAME_BYTES_MAX + 10_000
    tls_house.until(lambda: caller.reply(first + 59))
    assert [it["id"] for it in caller.got] == list(range(first, first + 60))


def test_goodbye_comes_with_close_notify(tls_house: House, files: Files) -> None:
    caller = TlsCaller(tls_house, client_context(files.ca))
    tls_house.call(caller, "ping")
    tls_house.server.drain("the test is over")
    tls_house.until(caller.read)
    assert caller.got[-1]["method"] == "closing"
    assert caller.pipe.ended and not caller.reset


def test_requests_then_goodbye_are_answered(tls_house: House, files: Files) -> None:
    caller = TlsCaller(tls_house, client_context(files.ca))
    tls_house.call(caller, "ping")
    asked = caller.pipe.send(b"".join(request("ping", number, {}) for number in range(5)))
    with pytest.raises(ssl.SSLWantReadError):
        caller.pipe.tls.unwrap()  # says goodbye; our own pipe would stop reading then
    caller.sock.send(asked + caller.pipe.encrypted_out.read())
    tls_house.until(lambda: not tls_house.dispatcher.connections)
    caller.read()
    assert [it["id"] for it in caller.got] == [1, 0, 1, 2, 3, 4]


def test_a_plain_client_on_the_tls_port_is_told_in_plain(tls_house: House) -> None:
    caller = tls_house.caller()
    caller.ask("getdir")
    tls_house.until(caller.read)
    (reply,) = caller.got
    assert reply["error"]["message"] == "this port speaks TLS only: connect with --tls"
    assert not caller.reset
    browser = tls_house.caller()
    browser.send(b"GET / HTTP/1.1\r\n\r\n")
    tls_house.until(browser.read)
    assert b"TLS only" in json.dumps(browser.got[0]).encode()


def test_a_handshake_has_5_s(tls_house: House, files: Files) -> None:
    silent, dribbler = tls_house.caller(), tls_house.caller()
    hello = TlsPipe(client_context(files.ca), server_side=False, host="localhost").start()
    for byte in hello[: int(TLS_HANDSHAKE_S)]:
        dribbler.sock.send(bytes([byte]))
        tls_house.skip(1.0)
    tls_house.skip(0.5)
    assert silent.read() and dribbler.read()
    assert not tls_house.dispatcher.connections
    assert len(tls_house.dispatcher.hub.shaking) == 0


def test_a_storm_of_handshakes_shares_the_loop(
    tls_house: House, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = TlsCaller(tls_house, client_context(files.ca))
    tls_house.call(inside, "ping")
    context = client_context(files.ca)
    storm = [TlsCaller(tls_house, context) for _ in range(120)]
    for caller in storm:
        caller.ask("ping")
    flush = Hub.flush
    shaken: list[int] = []

    def counting(hub: Hub) -> None:
        shaken.append(hub.shaken)
        flush(hub)

    monkeypatch.setattr(Hub, "flush", counting)
    tls_house.until(lambda: all(caller.reply(1) for caller in storm))
    assert max(shaken) <= TLS_HANDSHAKES_PER_TICK
    assert sum(shaken) >= len(storm)
    assert tls_house.call(inside, "ping")["result"] == {}


def test_a_failure_at_the_door_costs_no_place(
    tls_house: House, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = []
    tls_house.loop.on_error = lambda origin, error: errors.append(error)

    def fail(tls: ServerTls) -> TlsPipe:
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(ServerTls, "pipe", fail)
        unlucky = tls_house.caller()
        tls_house.until(unlucky.read)
    assert len(errors) == 1
    tls_house.call(TlsCaller(tls_house, client_context(files.ca)), "ping")
    assert tls_house.server.door.guard.count == 1


def test_without_room_a_tls_client_gets_an_alert(files: Files) -> None:
    house = House("--tls-cert", files.cert, "--tls-key", files.key, "--max-clients", "1")
    try:
        house.call(TlsCaller(house, client_context(files.ca)), "ping")
        refused = TlsCaller(house, client_context(files.ca))
        house.until(refused.read)
        assert refused.pipe.failure == "the other side takes no more connections now"
    finally:
        house.close()


def test_client_certificates_admit(files: Files) -> None:
    house = House(*("--tls-cert", files.cert, "--tls-key", files.key, "--tls-client-ca", files.ca))
    try:
        good = client_context(files.ca, files.client_cert, files.client_key)
        assert house.call(TlsCaller(house, good), "ping")["result"] == {}
        for context in (
            client_context(files.ca),
            client_context(files.ca, files.other_cert, files.other_key),
        ):
            stranger = TlsCaller(house, context)
            stranger.ask("makeroom", name="mine")
            house.until(stranger.read)
            assert not stranger.got
        assert len(house.dispatcher.directory) == 0
    finally:
        house.close()


def test_junk_in_tls_clothes(tls_house: House) -> None:
    for junk in (b"\x16\x03\x01\x00\x05junk!", b"\x17\x03\x03\x40\x00" + b"j" * 3000, b"\x15\x03"):
        caller = tls_house.caller()
        caller.sock.send(junk)
        tls_house.tick(4)
        caller.close()
        tls_house.callers.remove(caller)
    tls_house.until(lambda: not tls_house.dispatcher.connections)


# -- other programs --------------------------------------------------------------------------------


@needs_openssl
def test_openssl_s_client(files: Files, processes: list[Process]) -> None:
    process = Process("--tls-cert", files.cert, "--tls-key", files.key)
    processes.append(process)
    process.ready()
    place = f"127.0.0.1:{process.address[1]}"
    command = ["openssl", "s_client", "-quiet", "-connect", place, "-CAfile", files.ca]
    run = subprocess.Popen(
        [*command, "-verify_return_error"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert run.stdin is not None and run.stdout is not None
    with run.stdin, run.stdout:
        run.stdin.write(request("ping", 1, {}))
        run.stdin.flush()
        decoder = FrameDecoder()
        while (frame := decoder.next_frame()) is None:
            data = os.read(run.stdout.fileno(), 4096)
            assert data, "it was closed"
            decoder.feed(data)
        run.kill()
    run.wait()
    assert json.loads(frame)["result"] == {}
    old = subprocess.run(
        [*command, "-tls1_2"], input=b"", capture_output=True, check=False, timeout=20
    )
    assert old.returncode != 0 and b"protocol version" in old.stderr


def serving_copies(
    processes: list[Process], folder: Path, *files: str
) -> tuple[Process, Path, Path]:
    """(a server that is ready, its certificate, its key): both copies of `files`, in `folder`."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    for file, copy in zip(files, (cert, key)):
        shutil.copy(file, copy)
    process = Process("--tls-cert", str(cert), "--tls-key", str(key))
    processes.append(process)
    process.ready()
    return process, cert, key


def test_sighup_reloads_the_files(files: Files, processes: list[Process], tmp_path: Path) -> None:
    process, cert, key = serving_copies(processes, tmp_path, files.cert, files.key)

    def shown() -> str:
        return ssl.get_server_certificate(process.address)

    before = shown()
    cert.write_text("junk")
    process.process.send_signal(signal.SIGHUP)
    process.until(lambda: "the TLS files were not reloaded" in process.log)
    assert shown() == before, "the old ones serve on"
    shutil.copy(files.other_cert, cert)
    shutil.copy(files.other_key, key)
    process.process.send_signal(signal.SIGHUP)
    process.until(lambda: "the TLS files were reloaded" in process.log)
    assert shown() != before
    trusting = ssl.create_default_context(cafile=files.other_cert)
    assert tls_call(process.address, trusting, "ping")["result"] == {}


@pytest.mark.parametrize("which", ["cert.pem", "key.pem"])
def test_a_file_that_became_a_pipe_stops_nobody(
    files: Files, processes: list[Process], tmp_path: Path, which: str
) -> None:
    """Opening one waits for a writer: `--tls-key <(pass show key)` is a pipe that has none any more
    when the files are read again."""
    process, *_ = serving_copies(processes, tmp_path, files.other_cert, files.other_key)
    (tmp_path / which).unlink()
    os.mkfifo(tmp_path / which)
    process.process.send_signal(signal.SIGHUP)
    process.until(lambda: "the TLS files were not reloaded" in process.log)
    assert f"{which} is not a regular file" in process.log
    trusting = ssl.create_default_context(cafile=files.other_cert)
    assert tls_call(process.address, trusting, "ping")["result"] == {}


def test_files_that_can_not_be_used_end_the_server(files: Files, processes: list[Process]) -> None:
    process = Process("--tls-cert", files.cert, "--tls-key", files.other_key)
    processes.append(process)
    assert process.wait() == 2
    assert "cannot use the TLS certificate" in process.log
    process = Process("--tls-key", files.key)
    processes.append(process)
    assert process.wait() == 2
    assert "need --tls-cert" in process.log


@needs_openssl
def test_make_cert_makes_what_the_server_takes(tmp_path: Path, processes: list[Process]) -> None:
    cert = tmp_path / "directory.pem"
    command = [sys.executable, "-m", "evloop.server", "--make-cert", str(cert)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    key = Path(f"{cert}.key")
    assert key.stat().st_mode & 0o777 == 0o600
    before = cert.read_bytes(), key.read_bytes()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 1 and "exists already" in again.stderr
    assert (cert.read_bytes(), key.read_bytes()) == before
    process = Process("--tls-cert", str(cert), "--tls-key", str(key))
    processes.append(process)
    process.ready()
    trusting = ssl.create_default_context(cafile=str(cert))
    assert tls_call(process.address, trusting, "ping")["result"] == {}
    # What it says to do: the client with --tls-ca, and the server's address as people type it.
    show = ["openssl", "x509", "-in", str(cert), "-noout", "-ext", "subjectAltName"]
    names = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    for address in own_addresses():
        if ":" not in address:
            assert f"IP Address:{address}" in names
        assert address in run.stdout
    assert "127.0.0.1" in own_addresses()


def test_make_cert_without_openssl_says_how(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "evloop.server", "--make-cert", str(tmp_path / "c.pem")],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "openssl req -x509" in run.stderr


# -- our own client --------------------------------------------------------------------------------

Client = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    command = [sys.executable, "-m", "evloop.client", "--server"]

    def run(address: tuple[str, int], *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, f"{address[0]}:{address[1]}", *arguments],
            cwd=ROOT,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return run


def test_the_client_pins_what_it_saw_first(
    files: Files, processes: list[Process], tmp_path: Path, client: Client
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(files.cert, cert)
    shutil.copy(files.key, key)
    process = Process("--tls-cert", str(cert), "--tls-key", str(key), "--delete", "owner")
    processes.append(process)
    process.ready()
    first = client(process.address, "--tls", "makeroom", "lab")
    assert first.returncode == 0 and "trusting 127.0.0.1" in first.stderr
    second = client(process.address, "--tls", "getdir", "--json")
    assert (second.returncode, second.stderr) == (0, "")
    assert json.loads(second.stdout)["name"] == "lab"
    state = tmp_path / "state" / "evloop"
    for name in ("known_directories", "owner_tokens"):
        assert (state / name).stat().st_mode & 0o777 == 0o600

    shutil.copy(files.other_cert, cert)
    shutil.copy(files.other_key, key)
    process.process.send_signal(signal.SIGHUP)
    process.until(lambda: "the TLS files were reloaded" in process.log)
    changed = client(process.address, "--tls", "deleteroom", "lab")
    assert changed.returncode == 77
    assert "HAS CHANGED" in changed.stderr and "Traceback" not in changed.stderr
    # By the authority it may be another one: the pin is not asked.
    assert client(process.address, "--tls-ca", files.other_cert, "getdir").returncode == 0

    tokens = (state / "owner_tokens").read_text()
    (state / "owner_tokens").unlink()
    stranger = client(process.address, "--tls-ca", files.other_cert, "deleteroom", "lab")
    assert stranger.returncode == 77 and "only by who made it" in stranger.stderr
    (state / "owner_tokens").write_text(tokens)
    owner = client(process.address, "--tls-ca", files.other_cert, "deleteroom", "LAB")
    assert owner.returncode == 0, owner.stderr


def test_the_client_refuses_bad_certificates(
    files: Files, processes: list[Process], client: Client
) -> None:
    for cert, key, ca, why in (
        (files.cert, files.key, files.other_cert, "unable to get local issuer"),
        (files.expired_cert, files.expired_key, files.ca, "has expired"),
    ):
        process = Process("--tls-cert", cert, "--tls-key", key)
        processes.append(process)
        process.ready()
        run = client(process.address, "--tls-ca", ca, "getdir")
        assert run.returncode == 77
        assert why in run.stderr and "Traceback" not in run.stderr


def test_who_speaks_no_tls_is_told(files: Files, processes: list[Process], client: Client) -> None:
    secure = Process("--tls-cert", files.cert, "--tls-key", files.key)
    plain = Process()
    processes += [secure, plain]
    secure.ready()
    plain.ready()
    run = client(secure.address, "getdir")
    assert run.returncode == 76 and "connect with --tls" in run.stderr
    run = client(plain.address, "--tls", "getdir")
    assert run.returncode == 76 and "speaks no TLS" in run.stderr


def test_a_client_certificate_from_the_command_line(
    files: Files, processes: list[Process], client: Client
) -> None:
    process = Process(
        *("--tls-cert", files.cert, "--tls-key", files.key, "--tls-client-ca", files.ca)
    )
    processes.append(process)
    process.ready()
    own = ("--tls-cert", files.client_cert, "--tls-key", files.client_key)
    assert client(process.address, "--tls-ca", files.ca, *own, "getdir").returncode == 0
    run = client(process.address, "--tls-ca", files.ca, "getdir")
    assert run.returncode == 77 and "asks for a certificate" in run.stderr


def test_damaged_pins_and_files_are_told(
    files: Files, processes: list[Process], client: Client, tmp_path: Path
) -> None:
    process = Process("--tls-cert", files.cert, "--tls-key", files.key)
    processes.append(process)
    process.ready()
    state = tmp_path / "state" / "evloop"
    state.mkdir(parents=True)
    (state / "known_directories").write_bytes(b"\0junk")
    run = client(process.address, "--tls", "getdir")
    assert run.returncode != 0 and "known_directories" in run.stderr
    assert "Traceback" not in run.stderr
    run = client(process.address, "--tls-ca", str(tmp_path / "none.pem"), "getdir")
    assert run.returncode == 2 and "cannot use the TLS authority" in run.stderr
