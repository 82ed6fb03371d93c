"""`stats`, `probe` and `probed`: what is asked about the server and its network, not its rooms."""

from __future__ import annotations

from evloop.base.addresses import is_loopback
from evloop.base.errors import NOT_ALLOWED, Refused
from evloop.base.strictjson import encode
from evloop.directory import requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evloop.daemon.connection import Connection
    from evloop.daemon.dispatcher import Dispatcher


def stats(dispatcher: Dispatcher, connection: Connection, parameters: dict[str, Any]) -> bytes:
    """The figures of the server, for its own machine and those that the operator named."""
    requests.read_nothing(parameters)
    if not is_loopback(connection.host) and connection.host not in dispatcher.stats_for:
        sentence = f"stats are not for {connection.host}; see --stats-from"
        raise Refused(NOT_ALLOWED, "not_allowed", sentence)
    now = dispatcher.loop.now
    if dispatcher.told_figures[0] != now:  # once a tick, however often it is asked
        dispatcher.told_figures = (now, encode(dispatcher.metrics.figures()))
    return dispatcher.told_figures[1]


def probe(dispatcher: Dispatcher, connection: Connection, parameters: dict[str, Any]) -> bytes:
    """Begin a probe of multicast; Refused."""
    assert dispatcher.prober is not None, "the server has one"
    return dispatcher.prober.probe(connection, parameters)


def probed(dispatcher: Dispatcher, connection: Connection, parameters: dict[str, Any]) -> bytes:
    """Its report; Refused."""
    assert dispatcher.prober is not None, "the server has one"
    return dispatcher.prober.probed(connection, parameters)
