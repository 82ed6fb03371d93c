"""Host names to addresses, without ever blocking the loop.

getaddrinfo blocks (10 s with a silent resolver, measured) and there are no threads: a forked
child calls it, writes the answer into a pipe, and exits. Numeric addresses need no child.

    state      the loop comes by   answer or end of pipe   time is up       cancel
    answered   -> done, tells      -                       -                -> done
    asking     -                   -> done, tells          -> done, tells   -> done
    done       -                   -                       -                nothing

Whenever `asking` is left, the child is killed and reaped. The answer is text, one address a line,
and small enough to be written whole: "4 ADDRESS 0" or "6 ADDRESS SCOPE", then "."; or "!WHY".
"""

from __future__ import annotations

import os
import signal
import socket

from evloop.net.limits import (
    RESOLVE_ADDRESSES_MAX,
    RESOLVE_ANSWER_BYTES_MAX,
    RESOLVE_S_MAX,
)

TYPE_CHECKING = False  # the checkers know this name; importing `typing` costs start-up time
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

    from evloop.system.loop import Loop, Watch
    from evloop.system.timers import Timer

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

    __slots__ = ("_loop", "_on_done", "_pid", "_port", "_timer", "_watch", "answer_to")

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
        self.answer_to = b""
        self._pid = 0
        self._watch: Watch | None = None
        self._timer: Timer | None = None
        if not host.isprintable() or not host:
            loop.defer(lambda: self._tell([], "that is no host name"))
            return
        addresses = _numeric(host, port)
        if addresses:
            loop.defer(lambda: self._tell(addresses, ""))
            return
        try:
            self._ask(host, resolver or _system_resolver)
        except OSError as error:  # no descriptor, process or memory to be had
            why = f"cannot look it up: {error.strerror}"
            loop.defer(lambda: self._tell([], why))

    def cancel(self) -> None:
        """Forget it: `on_done` will not be called. A second call does nothing."""
        self._on_done = None
        self._end()

    def _ask(self, host: str, resolver: Resolver) -> None:
        reader, writer = os.pipe()
        # A signal between fork and the child's first lines would reach the child's copy of our
        # handlers, and through it our own wake-up socket.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._watch = self._loop.watch(reader, self._read, release=lambda: os.close(reader))
            self._pid = os.fork()
            if not self._pid:
                _run_child(writer, host, self._port, resolver)
        except OSError:
            self._end()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(writer)
        self._timer = self._loop.call_at(self._loop.now + RESOLVE_S_MAX, self._too_late)

    def _read(self) -> None:
        assert self._watch is not None
        data = os.read(self._watch.fd, RESOLVE_ANSWER_BYTES_MAX + 1)
        self.answer_to += data
        if len(self.answer_to) > RESOLVE_ANSWER_BYTES_MAX:
            self._tell([], _SENSELESS)
        elif not data:
            self._tell(*parse_answer(self.answer_to, self._port))

    def _too_late(self) -> None:
        self._tell([], "no answer from the resolver; use the number")

    def _tell(self, addresses: list[Address], why: str) -> None:
        self._end()
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(addresses, why)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.close()
        pid, self._pid = self._pid, 0
        if pid:
            # The child's answer is read or no longer wanted. After SIGKILL the wait is only for the
            # kernel to end a process, not for a resolver.
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


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


def _system_resolver(host: bytes | str, port: int) -> Iterable[tuple[Any, ...]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _run_child(writer: int, host: str, port: int, resolver: Resolver) -> NoReturn:
    """What the child does. It ends by _exit, so that no inherited buffer is flushed."""
    try:
        signal.set_wakeup_fd(-1)
        for signum in signal.valid_signals():
            if callable(signal.getsignal(signum)):
                signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.alarm(int(RESOLVE_S_MAX) + 1)  # the child ends even when the parent was killed
        # A connection that stayed open here would not end for its peer when the parent closes it.
        os.closerange(0, writer)
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        os.write(writer, answer_to(host, port, resolver))
    finally:
        os._exit(0)


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
