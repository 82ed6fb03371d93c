"""HOST:PORT as people write it, and socket addresses as text."""

from evloop.base.errors import SetupError
from evloop.base.names import quoted

USAGE = 2
DIRECTORY_PORT = 44444  # where a directory listens unless told otherwise


def split_endpoint(text: str, port: int = DIRECTORY_PORT) -> tuple[str, int]:
    """(host, port) of "HOST", "HOST:PORT", "[V6]:PORT", "V6" or ":PORT" (host ""; every address).

    Raises SetupError (status 2) that names the text when it is none of these.
    """
    host, number = text, ""
    if text.startswith("["):
        host, bracket, number = text[1:].partition("]")
        if not bracket or number == ":" or (number and number[0] != ":"):
            raise _bad(text)
        number = number[1:]
    elif text.count(":") == 1:
        host, _, number = text.partition(":")
        if not number:
            raise _bad(text)
    if number:
        if not (number.isascii() and number.isdigit() and len(number) <= 5):
            raise _bad(text)
        port = int(number)
    if port > 65535 or any(char.isspace() or not char.isprintable() for char in host):
        raise _bad(text)
    return host, port


def _bad(text: str) -> SetupError:
    return SetupError(f'"{quoted(text)}" is no HOST:PORT (192.0.2.1:44444, [fd00::1]:44444)', USAGE)


def endpoint_of(host: str, port: int) -> str:
    """The text of a numeric address and port, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
