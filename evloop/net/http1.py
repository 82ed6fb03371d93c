"""HTTP/1.1 as a client needs it (RFC 9112): one request out, one answer in, bytes in any pieces.

A connection carries one request at a time. `Answer` decodes what comes back to it:

    state    bytes                                      the connection ends
    head     the status line and the fields -> body     -> failed
    body     of the length told, or in chunks; a part   -> failed, or -> over where
             goes into `lines` when they are asked for     no length was told
             all of it there -> over
    over     they belong to no answer -> failed         over
    failed   failed, for ever                           failed

An answer is one body, or, where `lines` were asked for and the status is 200, a stream of lines: a
watch of etcd is an answer that never ends. In which pieces the bytes come makes no difference to
what is told, except that lines are told as soon as they are whole.
"""

from __future__ import annotations

from evloop.base.errors import RemoteProtocolError
from evloop.net.limits import (
    HTTP_BODY_BYTES_MAX,
    HTTP_HEAD_BYTES_MAX,
    HTTP_LINE_BYTES_MAX,
    HTTP_SIZE_LINE_BYTES_MAX,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

OK = 200
_NO_BODY = (204, 304)
_HEAD, _COUNTED, _SIZE, _CHUNK, _CHUNK_END, _TRAILER, _UNTIL_END, _OVER = range(8)
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_HEX = frozenset(b"0123456789abcdefABCDEF")


class HttpError(RemoteProtocolError):
    """What came is no HTTP/1.1 answer, or is more than a cap allows."""


def request(
    method: str, path: str, host: str, body: bytes | None, fields: Mapping[str, str]
) -> bytes:
    """A request. `host` as in a URL; `body` is JSON, None: there is none; `fields` are added."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    head = "\r\n".join(lines)
    assert head.count("\n") == len(lines) - 1, "a field of ours has no line break"
    return head.encode("ascii") + b"\r\n\r\n" + (body or b"")


class Answer:
    """The answer to one request, decoded as its bytes come.

    `status` is 0 until the head is there. `over`: all of it has come, and `body` is whole.
    `reusable`: the connection may carry another request then.
    """

    __slots__ = (
        "_buffer",
        "_error",
        "_left",
        "_lines",
        "_parts",
        "_size",
        "_state",
        "_streamed",
        "body",
        "reusable",
        "status",
    )

    def __init__(self, lines: bool = False) -> None:
        self._streamed = lines
        self._buffer = b""  # not decoded yet; while lines are streamed, the part of a chunk only
        self._lines = b""  # the beginning of a line
        self._parts: list[bytes] = []  # of the body
        self._size = 0  # of these
        self._left = 0  # bytes of the body or chunk that are still to come
        self._state = _HEAD
        self._error: HttpError | None = None
        self.status = 0
        self.body = b""
        self.reusable = True

    @property
    def over(self) -> bool:
        return self._state == _OVER and self._error is None

    def feed(self, data: bytes) -> list[bytes]:
        """Take `data`; return the lines, without their ends, that are whole now.

        Raises HttpError, and again for whatever comes after that.
        """
        if self._error is not None:
            raise self._error
        lines: list[bytes] = []
        try:
            self._take(data, lines)
        except HttpError as error:
            self._fail(error)
            raise
        return lines

    def end(self) -> None:
        """The connection has ended. HttpError when that leaves the answer without its end."""
        if self._error is not None:
            raise self._error
        if self._state == _UNTIL_END:
            self._finish()
        if self._state != _OVER:
            error = HttpError("the connection ended in the middle of an answer")
            self._fail(error)
            raise error

    def _fail(self, error: HttpError) -> None:
        self._error = error
        self._buffer = self._lines = b""
        self._parts.clear()

    def _take(self, data: bytes, lines: list[bytes]) -> None:
        if self._state == _OVER and data:
            raise HttpError("something follows the answer")
        self._buffer += data
        while self._buffer:
            state = self._state
            if state in (_COUNTED, _CHUNK, _UNTIL_END):
                self._take_body(lines)
            elif state == _OVER:
                raise HttpError("something follows the answer")
            elif not self._take_line(state):
                return

    def _take_line(self, state: int) -> bool:
        """Decode one line, or the whole head; False when it has not come yet."""
        end, most = (b"\r\n\r\n", HTTP_HEAD_BYTES_MAX) if state == _HEAD else (b"\r\n", 0)
        most = most or (HTTP_HEAD_BYTES_MAX if state == _TRAILER else HTTP_SIZE_LINE_BYTES_MAX)
        at = self._buffer.find(end, 0, most)
        if at < 0:
            if len(self._buffer) >= most:
                raise HttpError("the head of an answer is too long")
            if state == _HEAD and not b"HTTP/1.1 "[:9].startswith(self._buffer[:9]):
                raise HttpError("that is no HTTP/1.1")
            return False
        line = self._buffer[:at]
        self._buffer = self._buffer[at + len(end) :]
        if state == _HEAD:
            self._read_head(line)
        elif state == _SIZE:
            self._read_size(line)
        elif state == _CHUNK_END:
            if line:
                raise HttpError("a chunk is longer than it says")
            self._state = _SIZE
        elif line:  # of the trailer: nobody needs it, but it has an end
            self._size += len(line)
            if self._size > HTTP_BODY_BYTES_MAX:
                raise HttpError("a trailer is too long")
        else:
            self._finish()
        return True

    def _read_head(self, head: bytes) -> None:
        first, *rest = head.split(b"\r\n")
        version, _, more = first.partition(b" ")
        digits = more[:3]
        if version != b"HTTP/1.1" or not digits.isdigit() or more[3:4] not in (b"", b" "):
            raise HttpError("that is no HTTP/1.1")
        fields: dict[bytes, bytes] = {}
        for line in rest:
            name, colon, value = line.partition(b":")
            if not colon or not name or not _TOKEN.issuperset(name):
                raise HttpError("a field of an answer has no name")
            name, value = name.lower(), value.strip(b" \t")
            if name in (b"content-length", b"transfer-encoding") and name in fields:
                raise HttpError("an answer tells its length twice")
            fields[name] = value
        self.status = int(digits)
        if b"close" in fields.get(b"connection", b"").lower():
            self.reusable = False
        if self.status < OK:  # 100 Continue: the answer is still to come
            self.status = 0
            return
        self._streamed = self._streamed and self.status == OK
        self._frame(fields.get(b"transfer-encoding"), fields.get(b"content-length"))

    def _frame(self, encoding: bytes | None, length: bytes | None) -> None:
        """How the end of the body is found (RFC 9112, 6.3)."""
        if encoding is not None:
            if encoding.lower() != b"chunked" or length is not None:
                raise HttpError("an answer tells its length in a way that is not understood")
            self._state = _SIZE
        elif self.status in _NO_BODY or length == b"0":
            self._finish()
        elif length is not None:
            if not length.isdigit() or len(length) > 9 or int(length) > HTTP_BODY_BYTES_MAX:
                raise HttpError("an answer is too long")
            self._state, self._left = _COUNTED, int(length)
        else:
            self._state, self.reusable = _UNTIL_END, False

    def _read_size(self, line: bytes) -> None:
        digits = line.partition(b";")[0].strip(b" \t")
        if not digits or len(digits) > 8 or not _HEX.issuperset(digits):
            raise HttpError("a chunk has no size")
        self._left = int(digits, 16)
        self._state = _CHUNK if self._left else _TRAILER
        if not self._left:
            self._size = 0

    def _take_body(self, lines: list[bytes]) -> None:
        buffer = self._buffer
        if self._state == _UNTIL_END:
            part, self._buffer = buffer, b""
        else:
            part, self._buffer = buffer[: self._left], buffer[self._left :]
            self._left -= len(part)
        if self._streamed:
            *whole, rest = (self._lines + part).split(b"\n")
            self._lines = rest
            if len(rest) > HTTP_LINE_BYTES_MAX or any(
                len(it) > HTTP_LINE_BYTES_MAX for it in whole
            ):
                raise HttpError("a line of an answer is too long")
            lines += [line for line in whole if line]
        else:
            self._size += len(part)
            if self._size > HTTP_BODY_BYTES_MAX:
                raise HttpError("an answer is too long")
            self._parts.append(part)
        if self._state == _UNTIL_END or self._left:
            return
        if self._state == _COUNTED:
            self._finish()
        else:
            self._state = _CHUNK_END

    def _finish(self) -> None:
        self._state = _OVER
        if self._parts:
            self.body = b"".join(self._parts)
            self._parts.clear()
