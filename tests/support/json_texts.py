"""JSON values and texts for tests, and an encoder of our own, so that no test trusts `json`."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from evloop.base.limits import INTEGER_MAX

CHARACTERS = st.characters(codec="utf-8")
TEXT = st.text(CHARACTERS, max_size=20)
INTEGERS = st.integers(min_value=-INTEGER_MAX, max_value=INTEGER_MAX)
FRACTIONS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | INTEGERS | FRACTIONS | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
# What texts of requests are made of, in any order.
FRAGMENTS = st.lists(
    st.sampled_from(
        [b'{"jsonrpc":"2.0"', b',"method":"ping"', b',"id":', b"1", b'"a"', b',"params":{', b"}",
         b"{",
         b"[", b"]", b",", b'"', b"\\u", b"d800", b"\\", b"null", b"1e9", b"-", b"9" * 16, b" ",
         b"\xf0"]
    )
    | st.binary(max_size=4),
    max_size=16,
).map(b"".join)  # fmt: skip


def write(value: object, draw: Any) -> str:
    """An encoder of our own: white space and escapes as `draw` wants, nothing from `json`."""
    space: str = draw(st.sampled_from(["", "", " ", "\t\n", "\r "]))
    if isinstance(value, dict):
        members = (write(k, draw) + ":" + space + write(v, draw) for k, v in value.items())
        return "{" + space + ("," + space).join(members) + "}"
    if isinstance(value, list):
        return "[" + space + ",".join(write(v, draw) for v in value) + space + "]"
    if isinstance(value, str):
        return '"' + "".join(write_character(c, draw(st.booleans())) for c in value) + '"'
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def write_character(character: str, escape: bool) -> str:
    if character in '"\\':
        return "\\" + character
    if character >= " " and not escape:
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2))
