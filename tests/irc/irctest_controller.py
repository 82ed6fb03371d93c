"""Starts the IRC door for irctest (github.com/progval/irctest), no part of this repository.

irctest is told of this module by `--controller tests.irc.irctest_controller`, and loads it itself.
Each door has a directory of its own, so that no room is there at the start.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

from irctest.basecontrollers import BaseServerController  # type: ignore[import-not-found]
from irctest.cases import BaseServerTestCase  # type: ignore[import-not-found]
from irctest.runner import NotImplementedByController  # type: ignore[import-not-found]

from tests.support.processes import DIES_WITH_US, ROOT

# Some tests want to see this name of the server, which others can configure.
PROGRAM = """
import sys
from evloop.irc import codec
codec.SERVER = "My.Little.Server"
from evloop.client import main
sys.exit(main())
"""
# The tests of chathistory ask for these too, and skip where one is missing; they use neither.
NOT_NEEDED = ("sasl", "labeled-response")

_connect = BaseServerTestCase.connectClient


def _connect_client(case: Any, *arguments: Any, **words: Any) -> Any:
    if type(case).__name__ == "ChathistoryTestCase" and words.get("capabilities"):
        words["capabilities"] = [cap for cap in words["capabilities"] if cap not in NOT_NEEDED]
        words.pop("password", None)  # of an account, which there are none of
    return _connect(case, *arguments, **words)


BaseServerTestCase.connectClient = _connect_client


class EvloopController(BaseServerController):  # type: ignore[misc]
    """One door, and its directory."""

    software_name = "evloop"
    supported_sasl_mechanisms: frozenset[str] = frozenset()
    supports_sts = False
    # How long irctest waits to be sure that nothing comes: what is said goes through a room.
    sync_sleep_time = 0.15

    def run(
        self, hostname: str, port: int, *, password: str | None, ssl: bool, **others: Any
    ) -> None:
        if ssl or any(others.get(name) for name in ("faketime", "websocket_port")):
            raise NotImplementedByController("TLS, faketime, websockets")
        environ = {**os.environ, "EVLOOP_INTERFACE": "127.0.0.1", "PYTHONPATH": str(ROOT)}
        if password:
            environ["EVLOOP_IRC_PASSWORD"] = password
        self.port = port
        self.directory = subprocess.Popen(
            [
                *(*DIES_WITH_US, sys.executable, "-m", "evloop.server"),
                *("--memory", "--listen", "127.0.0.1:0"),
            ],
            env=environ,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.directory.stderr is not None
        for line in self.directory.stderr:
            found = re.search(r"listening on (127\.0\.0\.1:\d+)", line)
            if found:
                break
        else:
            raise AssertionError("the directory did not start")
        self.proc = self.execute(
            [
                *(*DIES_WITH_US, sys.executable, "-c", PROGRAM, "--server", found[1], "--debug"),
                *("irc", f"127.0.0.1:{port}", "--no-share"),
            ],
            env=environ,
        )

    def registerUser(self, case: Any, *account: str | None) -> None:  # noqa: N802  (irctest's)
        """There are no accounts; the tests of chathistory only want to be somebody."""
        if type(case).__name__ != "ChathistoryTestCase":
            raise NotImplementedByController("accounts")

    def wait_for_services(self) -> None:
        """There are none; tests that need one ask for an account first."""

    def kill_proc(self) -> None:
        try:
            super().kill_proc()
        finally:
            self.directory.kill()
            self.directory.wait()


def get_irctest_controller_class() -> type[EvloopController]:
    """What irctest asks this module for."""
    return EvloopController
