"""What the params of each method may be.

One function a method: it takes the params object of a request and returns the values in canonical
form, or raises `Refused` -32602 with the reason of the directory protocol. Unknown members are
refused, because a typing mistake must not pass in silence.
"""

from __future__ import annotations

from evloop.base.errors import INVALID_PARAMS, Refused
from evloop.base.names import check_address, check_port, check_room_name, quoted
from evloop.directory.limits import HISTORY_ROWS, HISTORY_ROWS_MAX, PAGE_ROOMS_MAX
from evloop.directory.protocol import MODES
from evloop.directory.relay_frames import OFF, WISHES, sender_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Members = dict[str, type[str] | type[int] | type[bool]]

_TYPES = {str: "a string", int: "an integer", bool: "true or false"}

_NOTHING: Members = {}
_HELLO: Members = {"client": str, "name": str, "version": int}
_GETDIR: Members = {"after": str, "limit": int}
_MAKEROOM: Members = {"name": str, "address": str, "port": int, "mode": str, "keep": bool}
_NAME: Members = {"name": str}
_ENTER: Members = {"name": str, "sender": str, "relay": str}
_DELETEROOM: Members = {"name": str, "token": str}
_PROBE: Members = {
    "name": str,
    "fresh": bool,
    "address": str,
    "port": int,
    "nonce": str,
    "udp": int,
}
_HISTORY: Members = {"name": str, "before": int, "limit": int}
_PROBED: Members = {"nonce": str}


def _check(params: dict[str, Any], known: Members) -> None:
    for member, value in params.items():
        kind = known.get(member)
        if kind is None:
            sentence = f'there is no parameter "{quoted(member)}" here'
            raise Refused(INVALID_PARAMS, "unknown_member", sentence)
        if type(value) is not kind:  # and not isinstance: true is no integer
            sentence = f'the parameter "{member}" is not {_TYPES[kind]}'
            raise Refused(INVALID_PARAMS, "wrong_type", sentence)


def _missing(member: str, why: str = "") -> Refused:
    return Refused(INVALID_PARAMS, "missing_member", f'the parameter "{member}" is missing{why}')


def read_nothing(params: dict[str, Any]) -> None:
    """ping, watch, unwatch: no params at all."""
    if params:
        _check(params, _NOTHING)


def read_hello(params: dict[str, Any]) -> tuple[str, str]:
    """hello: (client, name), each "" when it is absent. Both are text of the peer, not judged."""
    _check(params, _HELLO)
    return params.get("client", ""), params.get("name", "")


def read_getdir(params: dict[str, Any]) -> tuple[str | None, int]:
    """getdir: (after or None, limit)."""
    _check(params, _GETDIR)
    limit = params.get("limit", PAGE_ROOMS_MAX)
    if not 1 <= limit <= PAGE_ROOMS_MAX:
        sentence = f"limit {limit} is not in 1 to {PAGE_ROOMS_MAX}"
        raise Refused(INVALID_PARAMS, "bad_limit", sentence)
    return params.get("after"), limit


def _read_place(params: dict[str, Any]) -> tuple[str, int] | None:
    """The canonical (address, port), both or none."""
    if "address" not in params and "port" not in params:
        return None
    for member, other in (("address", "port"), ("port", "address")):
        if member not in params:
            raise _missing(member, f'; it goes together with "{other}"')
    return check_address(params["address"]), check_port(params["port"])


def read_makeroom(params: dict[str, Any]) -> tuple[str, tuple[str, int] | None, str | None, bool]:
    """makeroom: (NFC name, canonical (address, port) or None, mode or None, whether what is said
    is to be kept)."""
    _check(params, _MAKEROOM)
    if "name" not in params:
        raise _missing("name")
    name = check_room_name(params["name"])
    place = _read_place(params)
    mode = params.get("mode")
    if mode is not None and mode not in MODES:
        sentence = f'mode "{quoted(mode)}" is none of {", ".join(MODES)}'
        raise Refused(INVALID_PARAMS, "bad_mode", sentence)
    return name, place, mode, params.get("keep", False)


def read_history(params: dict[str, Any]) -> tuple[str, int | None, int]:
    """history: (the name as it came, before or None, limit)."""
    name = _read_name(params, _HISTORY)
    before, limit = params.get("before"), params.get("limit", HISTORY_ROWS)
    if before is not None and before < 1:
        sentence = f"before {before} is no place in a history: these begin with 1"
        raise Refused(INVALID_PARAMS, "bad_before", sentence)
    if not 1 <= limit <= HISTORY_ROWS_MAX:
        sentence = f"limit {limit} is not in 1 to {HISTORY_ROWS_MAX}"
        raise Refused(INVALID_PARAMS, "bad_limit", sentence)
    return name, before, limit


def read_enter(params: dict[str, Any]) -> tuple[str, bytes | None, str]:
    """enter: (the name as it came, sender id or None, which relay is wished for: one of WISHES)."""
    name = _read_name(params, _ENTER)
    wish = params.get("relay", OFF)
    if wish not in WISHES:
        sentence = f'relay "{quoted(wish)}" is none of {", ".join(WISHES)}'
        raise Refused(INVALID_PARAMS, "bad_relay", sentence)
    if "sender" not in params:
        if wish != OFF:
            raise _missing("sender", f'; "relay":"{wish}" needs it')
        return name, None, wish
    sender = sender_of(params["sender"])
    if sender is None:
        sentence = (
            f'the sender "{quoted(params["sender"])}" is not 16 hexadecimal digits (lower case),'
            " or all of them are 0"
        )
        raise Refused(INVALID_PARAMS, "bad_sender", sentence)
    return name, sender, wish


def read_name(params: dict[str, Any]) -> str:
    """leave: the name as it came. It need not be a valid name: for an invalid one the reply
    is that there is no such room."""
    return _read_name(params, _NAME)


def read_deleteroom(params: dict[str, Any]) -> tuple[str, str | None]:
    """deleteroom: (the name as it came, the owner's token or None)."""
    return _read_name(params, _DELETEROOM), params.get("token")


def read_probe(
    params: dict[str, Any],
) -> tuple[str | None, tuple[str, int] | None, str, int]:
    """probe: (the name as it came or None, canonical (address, port) or None, nonce, UDP port);
    neither a name nor a place: a fresh group."""
    _check(params, _PROBE)
    nonce, udp = _nonce(params), params.get("udp")
    if udp is None:
        raise _missing("udp")
    check_port(udp)
    place = _read_place(params)
    named = [params.get("fresh") is True, "name" in params, place is not None]
    if sum(named) != 1 or params.get("fresh") is False:
        sentence = "a probe is of one name, of one address and port, or fresh"
        raise Refused(INVALID_PARAMS, "bad_probe", sentence)
    return params.get("name"), place, nonce, udp


def read_probed(params: dict[str, Any]) -> str:
    """probed: the nonce."""
    _check(params, _PROBED)
    return _nonce(params)


def _nonce(params: dict[str, Any]) -> str:
    if "nonce" not in params:
        raise _missing("nonce")
    nonce: str = params["nonce"]
    if len(nonce) != 16 or nonce.strip("0123456789abcdef"):
        sentence = f'the nonce "{quoted(nonce)}" is not 16 hexadecimal digits'
        raise Refused(INVALID_PARAMS, "bad_probe", sentence)
    return nonce


def _read_name(params: dict[str, Any], known: Members) -> str:
    _check(params, known)
    if "name" not in params:
        raise _missing("name")
    name: str = params["name"]
    return name
