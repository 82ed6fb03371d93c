"""The NATS client protocol: text lines and payloads to events, and back.

Source: "NATS Client Protocol", docs.nats.io; what core NATS 2.9 sends is read, and nothing that
JetStream adds. No socket is touched. Lines end in CR LF; verbs are read in any case, as the
protocol says. What cannot be read is an error for ever: a stream has no place to go on from.

    verb     from the server                                    event
    INFO     INFO {json}                                        Info(fields)
    MSG      MSG subject sid [reply] bytes CRLF payload CRLF    Message(subject, sid, payload)
    PING     PING                                               PING
    PONG     PONG                                               PONG
    +OK      +OK                                                dropped (verbose is off)
    -ERR     -ERR 'text'                                        Refusal(text)
"""

from __future__ import annotations

import json

from evloop.base.errors import FrameError
from evloop.net.limits import NATS_LINE_BYTES_MAX, NATS_PAYLOAD_BYTES_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    Event = Union["Info", "Message", "Refusal", str]

PING, PONG = "PING", "PONG"


class Info:
    """What the server says of itself, first of all and again when its cluster changes."""

    __slots__ = ("fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields


class Message:
    """One message to a subscription of ours (`sid`, our own text)."""

    __slots__ = ("payload", "sid", "subject")

    def __init__(self, subject: str, sid: str, payload: bytes) -> None:
        self.subject, self.sid, self.payload = subject, sid, payload


class Refusal:
    """What the server does not do, in its words; most of these end the connection."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class NatsDecoder:
    """Bytes of a NATS server to events."""

    __slots__ = ("_at", "_failed", "_heard", "_held")

    def __init__(self) -> None:
        self._held = b""
        self._at = 0  # up to here no end of a line was found
        self._heard: tuple[str, str, int] | None = None  # subject, sid, bytes of a payload
        self._failed = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order.

        FrameError when it is no NATS, or too long; then at each further call too. The events before
        it in the same `data` are lost, and the connection with them.
        """
        if self._failed:
            raise FrameError(self._failed)
        held = self._held + data
        events: list[Event] = []
        begin = 0
        try:
            while True:
                end = self._one(held, begin, events)
                if end < 0:
                    break
                begin, self._at = end, 0
        except FrameError as error:
            self._failed = str(error)
            self._held = b""
            raise
        self._held = held[begin:]
        return events

    def _one(self, held: bytes, begin: int, events: list[Event]) -> int:
        """Read one event or line from `begin`; where the next begins, or -1: not whole yet."""
        if self._heard is not None:
            subject, sid, size = self._heard
            end = begin + size + 2
            if len(held) < end:
                return -1
            if held[end - 2 : end] != b"\r\n":
                raise FrameError("no NATS: a payload does not end where its length says")
            self._heard = None
            events.append(Message(subject, sid, held[begin : end - 2]))
            return end
        end = held.find(b"\r\n", begin + self._at)
        if end < 0:
            if len(held) - begin > NATS_LINE_BYTES_MAX:
                raise FrameError(f"no NATS: a line of over {NATS_LINE_BYTES_MAX} bytes")
            # The end of a line may come in two pieces.
            self._at = max(0, len(held) - begin - 1)
            return -1
        if end - begin > NATS_LINE_BYTES_MAX:
            raise FrameError(f"no NATS: a line of {end - begin} bytes")
        self._line(held[begin:end], events)
        return end + 2

    def _line(self, line: bytes, events: list[Event]) -> None:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise FrameError("no NATS: a line that is no UTF-8") from None
        head = text.split(None, 1) or [""]
        verb, rest = head[0].upper(), (head[1] if len(head) > 1 else "")
        if verb == "MSG":
            self._heard = _message_head(rest)
        elif verb in (PING, PONG):
            events.append(verb)
        elif verb == "INFO":
            events.append(Info(_object(rest)))
        elif verb == "-ERR":
            events.append(Refusal(rest.strip().strip("'")))
        elif verb != "+OK":
            raise FrameError(f"no NATS: a line that begins {(text.split() or [text])[0][:16]!r}")


def _message_head(rest: str) -> tuple[str, str, int]:
    parts = rest.split()
    digits = parts[-1] if parts else ""
    if len(parts) not in (3, 4) or not (digits.isascii() and digits.isdigit()):
        raise FrameError(f"no NATS: MSG {rest[:64]}")
    # Six digits are enough for the cap, and int() takes long over thousands of them.
    size = int(digits) if len(digits) <= 6 else NATS_PAYLOAD_BYTES_MAX + 1
    if size > NATS_PAYLOAD_BYTES_MAX:
        raise FrameError(f"a NATS message of {digits[:20]} bytes; {NATS_PAYLOAD_BYTES_MAX} at most")
    return parts[0], parts[1], size


def _object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise FrameError("no NATS: INFO without a JSON object")
    return fields


# -- what we send ----------------------------------------------------------------------------------


def connect(fields: dict[str, Any]) -> bytes:
    """CONNECT with `fields` (docs.nats.io: echo, verbose, name, user, pass, auth_token...)."""
    return b"CONNECT %s\r\n" % json.dumps(fields, separators=(",", ":")).encode()


def subscribe(subject: str, sid: int) -> bytes:
    return f"SUB {subject} {sid}\r\n".encode()


def unsubscribe(sid: int) -> bytes:
    return b"UNSUB %d\r\n" % sid


def publish(subject: bytes, payload: bytes) -> bytes:
    return b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload)


ASK, ANSWER = b"PING\r\n", b"PONG\r\n"
