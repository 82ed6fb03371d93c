"""`makeroom` and `deleteroom`: who asks, what is logged of that, and tokens of owners."""

from __future__ import annotations

from evloop.base.errors import NOT_ALLOWED, Refused
from evloop.directory import requests
from evloop.directory.limits import TOKEN_BYTES
from evloop.directory.registry import new_token, token_hash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from evloop.daemon.connection import Connection
    from evloop.daemon.dispatcher import Dispatcher


def makeroom(dispatcher: Dispatcher, connection: Connection, parameters: dict[str, Any]) -> bytes:
    """Make a room for the maker at `connection`; Refused, StoreError."""
    name, place, mode, keep = requests.read_makeroom(parameters)
    maker = connection.visitor
    who: dict[str, object] = {"peer": connection.peer, "user": connection.name or None}
    ipv6 = place is None and connection.by_ipv6 and not dispatcher.has_ipv4()
    if not dispatcher.owned:
        return dispatcher.make_room(name, place, mode, maker, b"", who, ipv6, keep)
    token = new_token(dispatcher.random_bytes(TOKEN_BYTES))
    who["token"] = "given"
    body = dispatcher.make_room(name, place, mode, maker, token_hash(token), who, ipv6, keep)
    # The token is in the reply only: watchers get the body without it.
    return b'%s,"token":"%s"}' % (body[:-1], token.encode())


def deleteroom(dispatcher: Dispatcher, connection: Connection, parameters: dict[str, Any]) -> bytes:
    """Delete a room; Refused, StoreError."""
    name, token = requests.read_deleteroom(parameters)
    who: dict[str, object] = {"peer": connection.peer, "user": connection.name or None}
    if dispatcher.owned:
        who["token"] = "none" if token is None else "shown"  # never what it is
    try:
        return dispatcher.delete_room(name, connection.visitor, token, who=who)
    except Refused as refused:
        if refused.code == NOT_ALLOWED:
            dispatcher.log.notice("a deletion was refused", room=name, **who, why=refused.sentence)
        raise
