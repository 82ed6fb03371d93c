"""JSON as the directory protocol wants it: stricter than the standard library's.

Two programs must never read one text in two ways, so what the standard leaves open is refused:
duplicate keys, NaN and infinities, halves of surrogate pairs, integers that a double cannot hold.
`json` is loaded with the first message.
"""

from __future__ import annotations

from evloop.base.errors import PARSE_ERROR, BadMessage
from evloop.base.limits import INTEGER_MAX, JSON_DEPTH_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


# Brackets of both kinds become one pair, everything else goes.
_BRACKETS = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _not_json(why: str) -> BadMessage:
    return BadMessage(PARSE_ERROR, f"the message is not acceptable JSON: {why}")


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _not_json("an object has two members of one name")
    return members


def _read_integer(digits: str) -> int:
    # 16 digits and a sign hold every integer of 53 bits; int() of many more is slow.
    number = int(digits) if len(digits) <= 17 else INTEGER_MAX + 1
    if not -INTEGER_MAX <= number <= INTEGER_MAX:
        raise _not_json("an integer has more than 53 bits")
    return number


def _read_fraction(digits: str) -> float:
    number = float(digits)
    if number - number != 0.0:  # 1e999 is infinite, and infinity has no difference to itself
        raise _not_json("a number is too large")
    return number


def _read_constant(name: str) -> NoReturn:
    raise _not_json(f"{name} is no number")


class _Codec:
    """What is made from `json` and `re` once, with the first message."""

    __slots__ = ("decode", "encode", "strings")

    def __init__(self) -> None:
        from json import JSONDecoder, JSONEncoder
        from re import DOTALL, compile

        self.decode = JSONDecoder(
            object_pairs_hook=_read_object,
            parse_int=_read_integer,
            parse_float=_read_fraction,
            parse_constant=_read_constant,
        ).raw_decode
        self.encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        # The last quote is optional, so that a string without an end is one match too, to the
        # end: else the search would begin anew at each of its quotes, in quadratic time.
        self.strings = compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', DOTALL)


shared_codec: _Codec | None = None


def _load_codec() -> _Codec:
    global shared_codec  # noqa: PLW0603 - made once, with the first message
    shared_codec = _Codec()
    return shared_codec


def _too_deep(payload: bytes, codec: _Codec) -> bool:
    """Whether more than JSON_DEPTH_MAX brackets are open at once, or the brackets do not match.

    Each round takes the innermost pairs away, so the number of rounds is the depth. The work is
    done by `bytes` methods, because 64 KiB of brackets read one by one take milliseconds.
    """
    brackets = codec.strings.sub(b"", payload).translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(JSON_DEPTH_MAX):
        brackets = brackets.replace(b"()", b"")
    return bool(brackets)


def decode(payload: bytes) -> Any:
    """Return the JSON value of `payload`, or raise BadMessage -32700.

    Stricter than `json`: no duplicate keys, NaN, infinities, lone surrogates, integers of more
    than 53 bits, nor more than JSON_DEPTH_MAX brackets open at once.
    """
    codec = shared_codec or _load_codec()
    try:
        text = payload.decode().strip(" \t\r\n")
    except UnicodeDecodeError:
        raise _not_json("it is not UTF-8") from None
    # So few brackets cannot be too deep: counting them is enough for most messages.
    count = payload.count(b"{") + payload.count(b"[")
    if count > JSON_DEPTH_MAX and _too_deep(payload, codec):
        raise _not_json(f"more than {JSON_DEPTH_MAX} brackets are open, or some do not match")
    try:
        value, end = codec.decode(text)
    except ValueError as error:
        raise _not_json(str(error)) from None
    if end != len(text):
        raise _not_json("something follows the value")
    if "\\u" in text:
        try:
            codec.encode(value).encode()
        except UnicodeEncodeError:
            raise _not_json("a string has half of a surrogate pair in it") from None
    return value


def encode(value: object) -> bytes:
    """Return `value` as JSON. Not for whole replies on the hot path; see the module's head."""
    return (shared_codec or _load_codec()).encode(value).encode()
