"""Who serves and who uses: the two releases in each role."""

from __future__ import annotations

import pytest

from tests.e2e.old_release import Release
from tests.support.processes import (
    Crew,
    Program,
    Server,
    no_trace,
)

Releases = dict[str, Release]

both_ways = pytest.mark.parametrize(("serving", "using"), [("old", "new"), ("new", "old")])


def serve(crew: Crew, release: Release, *options: str, listen: str = "127.0.0.1:0") -> Server:
    """A directory of that release, which listens."""
    return crew.server(*options, listen=listen, prefix=release.prefix)


def use(crew: Crew, release: Release, server: Server, *words: str, typed: str = "") -> Program:
    """A client of that release, run to its end."""
    client = crew.client(*words, server=server, prefix=release.prefix)
    client.type(typed)
    client.end()
    crew.finish(client)
    no_trace(client)
    return client
