"""Host names to addresses, without ever blocking the loop.

getaddrinfo blocks (10 s with a silent resolver, measured) and there are no threads: a forked child
(`evloop.system.child`) calls it. Numeric addresses need no child. The child's answer is text, one
address a line, and small enough to be written whole: "4 ADDRESS 0" or "6 ADDRESS SCOPE", then ".";
or "!WHY".
"""

from __future__ import annotations

import socket

from evloop.net.compat import stream_addresses
from evloop.net.limits import (
    RESOLVE_ADDRESSES_MAX,
    RESOLVE_ANSWER_BYTES_MAX,
    RESOLVE_S_MAX,
)

TYPE_CHECKING = False  # the checkers know this name; importing `typing` costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from evloop.system.child import Child
    from evloop.system.loop import Loop

    Address = tuple[int, tuple[Any, ...]]  # family, what connect and bind take
    OnDone = Callable[[list[Address], str], object]
    Resolver = Callable[[bytes | str, int], Iterable[tuple[Any, ...]]]

_FAMILIES = {"4": socket.AF_INET, "6": socket.AF_INET6}
_SENSELESS = "the resolver's answer makes no sense"


class Lookup:
    """One look-up of `host` for TCP `port`.

    `on_done(addresses, why)` is called once, from a later tick, unless cancelled: `addresses` are
    (family, socket address), the system's favourite first; when there are none, `why` says so.
    `resolver(host, port)` runs in the child and answers as socket.getaddrinfo does.
    """

    __slots__ = ("_child", "_loop", "_on_done", "_port")

    def __init__(
        self,
        loop: Loop,
        host: str,
        port: int,
        on_done: OnDone,
        resolver: Resolver | None = None,
    ) -> None:
        self._loop = loop
        self._port = port
        self._on_done: OnDone | None = on_done
        self._child: Child | None = None
        if not host.isprintable() or not host:
            loop.defer(lambda: self._tell([], "that is no host name"))
            return
        addresses = _numeric(host, port)
        if addresses:
            loop.defer(lambda: self._tell(addresses, ""))
            return
        try:
            self._ask(host, resolver or stream_addresses)
        except OSError as error:  # no descriptor, process or memory to be had
            why = f"cannot look it up: {error.strerror}"
            loop.defer(lambda: self._tell([], why))

    def cancel(self) -> None:
        """Forget it: `on_done` will not be called. A second call does nothing."""
        self._on_done = None
        if self._child is not None:
            self._child.cancel()

    def _ask(self, host: str, resolver: Resolver) -> None:
        from evloop.system import child  # not at the start: most directories are numbers, or found

        words = {
            child.SILENT: "the resolver died",
            child.LATE: "no answer from the resolver; use the number",
            child.LONG: _SENSELESS,
        }

        def done(answer: bytes, why: str) -> None:
            self._tell(*(([], words[why]) if why else parse_answer(answer, self._port)))

        self._child = child.Child(
            self._loop,
            lambda: answer_to(host, self._port, resolver),
            done,
            seconds_max=RESOLVE_S_MAX,
            answer_bytes_max=RESOLVE_ANSWER_BYTES_MAX,
        )

    def _tell(self, addresses: list[Address], why: str) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(addresses, why)


def _numeric(host: str, port: int) -> list[Address]:
    """The address that `host` is itself, if it is one; asks nobody."""
    if not host.isascii():
        return []
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        # As bytes: a str is sent through the idna codec, which loads unicodedata (1 MB).
        found = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror:
        return []
    return [(family, address) for family, _, _, _, address in found]


def answer_to(host: str, port: int, resolver: Resolver) -> bytes:
    try:
        found = resolver(host.encode() if host.isascii() else host, port)
    except OSError as error:
        return b"!" + (error.strerror or str(error)).encode()[: RESOLVE_ANSWER_BYTES_MAX // 2]
    except UnicodeError:  # the idna codec
        return b"!that is no host name"
    lines: list[str] = []
    for family, _, _, _, address in found:
        for digit, known in _FAMILIES.items():
            line = f"{digit} {address[0]} {address[3] if len(address) > 3 else 0}"
            if family == known and line not in lines:
                lines.append(line)
    return "\n".join([*lines[:RESOLVE_ADDRESSES_MAX], "."]).encode()


def parse_answer(answer: bytes, port: int) -> tuple[list[Address], str]:
    """What the child wrote, as (addresses, why); every part of it is checked."""
    text = answer.decode(errors="replace")
    if text.startswith("!"):
        return [], text[1:] or _SENSELESS
    *lines, end = text.split("\n")
    if end != ".":
        return [], "the resolver died" if not text else _SENSELESS
    addresses: list[Address] = []
    try:
        for line in lines:
            digit, host, scope = line.split(" ")
            family = _FAMILIES[digit]
            socket.inet_pton(family, host)
            tail = (0, int(scope)) if family == socket.AF_INET6 else ()
            addresses.append((family, (host, port, *tail)))
    except (ValueError, KeyError, OSError):
        return [], _SENSELESS
    return addresses, "" if addresses else "it has no address"
