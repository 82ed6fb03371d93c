"""Who may delete a room: anyone, or who holds the token that made it.

A token is 128 random bits in hexadecimal, told once in the reply to `makeroom`. The server keeps
only its SHA-256, so neither its state file nor a listing gives a room away. (A slow hash is for
secrets that people choose; these can not be guessed, and a slow one would be a way to stall us.)
"""

from evloop.base.errors import Refused
from evloop.base.limits import TOKEN_BYTES
from evloop.directory.protocol import NOT_ALLOWED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from evloop.directory.protocol import Room


def token_hash(token: str) -> bytes:
    """What is kept of a token."""
    from hashlib import sha256

    return sha256(token.encode("utf-8", "replace")).digest()


def new_token(random_bytes: bytes) -> str:
    """The token of TOKEN_BYTES bytes that came from the system's own randomness."""
    assert len(random_bytes) == TOKEN_BYTES
    return random_bytes.hex()


def check_owner(room: "Room", token: str | None) -> None:
    """Raise Refused `not_allowed` unless `token` is that of `room`."""
    if not room.token:
        raise _not_allowed(f"room {room.name} has no owner; only the operator can delete it")
    if token is None:
        raise _not_allowed(f"room {room.name} can be deleted only by who made it")
    # hashlib is loaded with the first token; compare_digest tells nothing by its time.
    from hmac import compare_digest

    if not compare_digest(token_hash(token), room.token):
        raise _not_allowed(f"that is not the token of room {room.name}")


def _not_allowed(sentence: str) -> Refused:
    return Refused(NOT_ALLOWED, "not_allowed", sentence)
