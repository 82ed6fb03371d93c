"""Which directory it is, and where its rooms are: what a restart changes, and what it does not."""

from __future__ import annotations

import signal
import ssl
from hashlib import sha256
from pathlib import Path

from tests.support.processes import Crew, Server, no_trace
from tests.support.rpc import Wire
from tests.support.tls_files import Files


def stop(crew: Crew, server: Server) -> None:
    server.signal(signal.SIGTERM)
    assert crew.finish(server).status == 0
    no_trace(server)


def identity(crew: Crew, *options: str) -> str:
    """What a server tells that is started with `options` and ended again."""
    server = crew.server(*options)
    with Wire(server.port) as wire:
        told: str = wire.result("hello")["id"]
    stop(crew, server)
    return told


def test_a_directory_with_a_state_file_stays_the_same(crew: Crew, tmp_path: Path) -> None:
    options = ("--state", str(tmp_path / "directory.db"))
    assert identity(crew, *options) == identity(crew, *options)


def test_a_directory_in_memory_is_another_at_each_start(crew: Crew) -> None:
    assert identity(crew, "--memory") != identity(crew, "--memory")


def test_a_directory_in_memory_with_a_certificate_stays_the_same(
    crew: Crew, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    words = (Path(files.cert).read_text(), Path(files.other_cert).read_text())
    chain = tmp_path / "chain.pem"
    chain.write_text(f"subject=the server\n{words[0]}and its authority\n{words[1]}")
    server = crew.server("--memory", "--tls-cert", str(chain), "--tls-key", files.key)
    with Wire(server.port, tls=ssl.create_default_context(cafile=files.ca)) as wire:
        told = wire.result("hello")["id"]
    stop(crew, server)
    shown = sha256(ssl.PEM_cert_to_DER_cert(words[0])).hexdigest()
    assert told == shown[:16]
