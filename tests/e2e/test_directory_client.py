"""A directory client in another language, written from the page alone, against a real server.

`directory_client.pl` knows nothing of evloop but docs/directory-protocol.md. What it had to guess
would be missing there.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import (
    Crew,
    Program,
    Server,
)
from tests.support.rpc import Wire

CLIENT = Path(__file__).parent / "directory_client.pl"

MADE = [
    "made Größe 239.255.7.1 5001 reliable",
    *(f"made perl-{at} 239.255.7.{at + 1} {5001 + at} reliable" for at in range(1, 8)),
    "picked perl-anywhere plain",
]
TOLD = [
    "told room_made Größe",
    *(f"told room_made perl-{at}" for at in range(1, 8)),
    "told room_made perl-anywhere",
]
LISTED = [
    "page Größe perl-1 perl-2 perl-3",
    "page perl-4 perl-5 perl-6 perl-7",
    "page perl-anywhere",
    "9 rooms",
    "inside 1",
]
REFUSED = [
    "refused 1 room_exists",
    "refused 2 address_in_use room=perl-1",
    "refused -32602 unknown_member",
    "refused -32602 bad_limit",
    "refused 3 no_such_room",
    "refused -32601 -",
    "refused -32700 -",
    "batch good good",
]
DELETED = [
    "deleted perl-1 members 0",
    "deleted perl-2 members 0",
    "told room_deleted perl-1",
    "told room_deleted perl-2",
    "7 rooms",
    "refused 3 no_such_room",
    "waiting",
]


@pytest.fixture(scope="module")
def perl() -> str:
    """A Perl with its core modules."""
    found = shutil.which("perl")
    if found is None:
        pytest.skip("needs perl")
    asked = [found, "-MJSON::PP", "-MIO::Socket::INET", "-e", "1"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("needs perl with its core modules JSON::PP and IO::Socket::INET")
    return found


def run(crew: Crew, perl: str, server: Server) -> Program:
    """The client, when it has done all that it does by itself."""
    client = crew.add(Program([perl, str(CLIENT), "127.0.0.1", str(server.port)]))
    crew.until(lambda: "waiting" in client.lines or client.done)
    return client


def test_it_does_all_that_the_page_says(crew: Crew, perl: str) -> None:
    server = crew.server()
    client = run(crew, perl, server)
    with Wire(server.port) as wire:
        rooms = {room["name"] for room in wire.rooms()}
    assert rooms == {"Größe", "perl-anywhere", *(f"perl-{at}" for at in range(3, 8))}
    server.signal(signal.SIGTERM)
    crew.finish(client)
    first, *lines = client.lines
    assert first.startswith("server evloop/")
    goodbye = "closing the server was told to end"
    expected = [*MADE, *TOLD, "0 tokens", *LISTED, *REFUSED, *DELETED, goodbye]
    assert (lines, client.err, client.status) == (expected, "", 0)


def test_it_keeps_the_tokens_of_its_rooms(crew: Crew, perl: str) -> None:
    server = crew.server("--delete", "owner")
    client = run(crew, perl, server)
    server.signal(signal.SIGTERM)
    crew.finish(client)
    assert "9 tokens" in client.lines
    at = client.lines.index("refused 4 not_allowed")
    assert client.lines[at + 1 : at + 1 + len(DELETED)] == DELETED
    assert (client.err, client.status) == ("", 0)
