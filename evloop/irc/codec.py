"""Lines of IRC: bytes to words and back (RFC 1459, RFC 2812, IRCv3 message tags).

    line    = ["@" tags " "] [":" source " "] command *(" " word) [" :" last] CR LF

`LineDecoder` has the shape of `framing.FrameDecoder`, so that a `Stream` can use either. Its
states, and what each call does in them:

    state      feed                            next_frames
    reading    store                           the lines that are whole; when more than a line may
                                               have is there without an end: -> skipping
    skipping   drop up to the end of the line  the beginning of the line that was too long, so that
                                               whoever sent it is told; -> reading

Nothing here raises on bytes but `parse`, which says what is wrong with a line.
"""

from __future__ import annotations

from evloop.base.errors import Refused
from evloop.base.names import check_member_name, display, utf8_parts
from evloop.irc.limits import IRC_LINE_BYTES_MAX, SENT_BYTES_MAX, TAGS_BYTES_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SERVER = "evloop.internal"  # our name as a server: no name that a resolver knows
HOST = "evloop"  # of everybody: an address is nobody's business
_LONGEST = TAGS_BYTES_MAX + IRC_LINE_BYTES_MAX

# In a nick these would be taken for something else: separators, masks, prefixes of a source.
_NICK = {ord(char): "_" for char in " ,*?!@:"}
_NICK_FIRST = "#&$+%~"
# Bold, italic, underlined, struck out, monospace, reversed, plain. Colours have arguments.
_FORMATS = dict.fromkeys((0x02, 0x1D, 0x1F, 0x1E, 0x11, 0x16, 0x0F))
_COLOUR, _HEX_COLOUR = "\x03", "\x04"
_TAG_ESCAPES = {";": "\\:", " ": "\\s", "\\": "\\\\", "\r": "\\r", "\n": "\\n"}
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


class TooLong(Exception):
    """A line, or its tags, are longer than the protocol allows."""


class NotUtf8(Exception):
    """A line is no UTF-8; `command` is its command as far as it can be read."""


class LineDecoder:
    """Turns a stream of bytes, however it was cut, into lines without their ends."""

    __slots__ = ("_skipping", "rest")

    def __init__(self) -> None:
        self.rest = b""
        self._skipping = False

    def __len__(self) -> int:
        """How many bytes are held."""
        return len(self.rest)

    def feed(self, data: bytes) -> None:
        """Store `data`, but for the rest of a line that is too long."""
        if self._skipping:
            end = data.find(b"\n")
            if end < 0:
                return
            data = data[end:]
            self._skipping = False
        self.rest = self.rest + data if self.rest else data

    def next_frames(self, most: int) -> list[bytes]:
        """Up to `most` whole lines; of one that is too long its beginning, which is too long too.

        When fewer come, what is held is the beginning of a line.
        """
        lines = self.rest.split(b"\n", most)
        self.rest = lines.pop()
        if len(lines) < most and len(self.rest) > _LONGEST + 2:
            self.rest = self.rest[: _LONGEST + 3]
            self._skipping = True
        return [line[:-1] if line.endswith(b"\r") else line for line in lines]

    def next_size(self) -> int:
        """A line has no size that it tells before."""
        return 0

    def finish(self) -> None:
        """The stream has ended; a line without its end is not said."""


class Line:
    """What a client sent: `tags` as they came (values unescaped), `command` in capitals, `words`
    its parameters."""

    __slots__ = ("command", "tags", "words")

    def __init__(self, tags: dict[str, str], command: str, words: list[str]) -> None:
        self.tags = tags
        self.command = command
        self.words = words


def parse(data: bytes) -> Line | None:
    """The line in `data`; None when there is none in it. Raises TooLong, NotUtf8."""
    tags: dict[str, str] = {}
    if data.startswith(b"@"):
        raw, _, data = data.partition(b" ")
        if len(raw) + 1 > TAGS_BYTES_MAX:
            raise TooLong
        tags = _parse_tags(raw[1:])
        data = data.lstrip(b" ")
    if len(data) > IRC_LINE_BYTES_MAX:
        raise TooLong
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise NotUtf8 from None
    text = text.lstrip(" ")
    if text.startswith(":"):  # a client may tell its source; it is who it is
        text = text.partition(" ")[2].lstrip(" ")
    before, colon, last = text.partition(" :")
    words = [word for word in before.split(" ") if word]
    if not words:
        return None
    if colon:
        words.append(last)
    return Line(tags, words[0].upper(), words[1:])


def _parse_tags(raw: bytes) -> dict[str, str]:
    tags = {}
    for tag in raw.decode(errors="replace").split(";"):
        key, _, value = tag.partition("=")
        if key:
            tags[key] = _unescape(value)
    return tags


def _unescape(value: str) -> str:
    if "\\" not in value:
        return value
    plain = {escape[1]: char for char, escape in _TAG_ESCAPES.items()}
    out = []
    chars = iter(value)
    for char in chars:
        if char == "\\":
            following = next(chars, "")
            char = plain.get(following, following)
        out.append(char)
    return "".join(out)


def _escape(value: str) -> str:
    return "".join([_TAG_ESCAPES.get(char, char) for char in value])


def pack(tags: Mapping[str, str], source: str, words: Iterable[str], last: str | None) -> bytes:
    """One line, with its end. `source` may be "": there is none; `words` hold no blanks; `last` is
    behind a colon. What is longer than SENT_BYTES_MAX is cut between characters."""
    text = " ".join([f":{source}", *words] if source else words)
    if last is not None:
        text += f" :{last}"
    data = text.encode(errors="replace")
    if len(data) > SENT_BYTES_MAX - 2:
        data = utf8_parts(data, SENT_BYTES_MAX - 2)[0]
    if tags:
        head = ";".join([f"{key}={_escape(value)}" for key, value in tags.items()])
        return b"@" + head.encode() + b" " + data + b"\r\n"
    return data + b"\r\n"


def pieces(text: str, most: int) -> list[str]:
    """`text` in pieces of at most `most` (>= 4) bytes, cut at blanks where there are any; a blank
    at which it was cut is gone."""
    data = text.encode(errors="replace")
    found = []
    while len(data) > most:
        cut = data.rfind(b" ", 1, most + 1)
        if cut > 0:
            found.append(data[:cut])
            data = data[cut + 1 :]
        else:
            part = utf8_parts(data, most)[0]
            found.append(part)
            data = data[len(part) :]
    found.append(data)
    return [part.decode() for part in found]


def nick_of(name: str, sender: bytes) -> str:
    """The nick by which a member called `name` is shown; its id when it breaks the rules."""
    try:
        name = check_member_name(name)
    except Refused:
        return sender.hex()
    return _safe(name)


def _safe(name: str) -> str:
    name = display(name).translate(_NICK)
    return "_" + name[1:] if name[0] in _NICK_FIRST else name


def one_word(text: str) -> str:
    """`text`, of a client or a peer, as a middle parameter: safe, one word, no colon in front."""
    shown = display(text).replace(" ", "_")
    return shown if shown and shown[0] != ":" else f"_{shown[1:]}"


def is_nick(name: str) -> bool:
    """Whether a name that keeps the rules of names can be a nick as it is."""
    return bool(name) and _safe(name) == name


def user_of(text: str, most: int) -> str:
    """What USER gave, fit to stand in a source."""
    shown = display(text).translate(_NICK)
    shown = "".join([char for char in shown if not char.isspace()])
    return utf8_parts(shown.encode(errors="replace"), most)[0].decode() or "_"


def without_formats(text: str) -> str:
    """`text` without the codes for bold, colours and so on, which no room knows."""
    if text.isprintable():
        return text
    text = text.translate(_FORMATS)
    for code, take in ((_COLOUR, _colour_end), (_HEX_COLOUR, _hex_end)):
        first, *others = text.split(code)
        text = first + "".join([other[take(other) :] for other in others])
    return text


def _colour_end(text: str) -> int:
    """The length of the arguments of a colour: up to two digits, a comma, up to two digits."""
    end = _digits(text, 0, 2, "0123456789")
    if end and text[end : end + 1] == ",":
        back = _digits(text, end + 1, 2, "0123456789")
        end = back if back > end + 1 else end
    return end


def _hex_end(text: str) -> int:
    digits = "0123456789abcdefABCDEF"
    end = _digits(text, 0, 6, digits)
    if end < 6:
        return 0
    if text[end : end + 1] == "," and _digits(text, end + 1, 6, digits) == end + 7:
        return end + 7
    return end


def _digits(text: str, at: int, most: int, digits: str) -> int:
    end = at
    while end < len(text) and end - at < most and text[end] in digits:
        end += 1
    return end


def utc_text(ms: int) -> str:
    """Milliseconds since 1970 as `server-time` writes them: 2026-11-28T20:38:19.000Z."""
    seconds, rest = divmod(max(ms, 0), 1_000)
    days, second = divmod(seconds, _DAY)
    year, month, day = _civil(days)
    hour, second = divmod(second, _HOUR)
    minute, second = divmod(second, _MINUTE)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:03}Z"


def utc_ms(text: str) -> int | None:
    """What `utc_text` writes, with or without the fraction; None when it is something else."""
    body, dot, fraction = text.removesuffix("Z").partition(".")
    date, t, clock = body.partition("T")
    numbers = [*date.split("-"), *clock.split(":")]
    sizes = [len(number) for number in numbers]
    digits = "".join([*numbers, fraction])
    if sizes != [4, 2, 2, 2, 2, 2] or not (t and digits.isascii() and digits.isdigit()):
        return None
    if not text.endswith("Z") or bool(dot) != bool(fraction):
        return None
    year, month, day, hour, minute, second = map(int, numbers)
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        return None
    days = _days(year, month, day)
    part = int((fraction + "000")[:3])
    return ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + part


def _civil(days: int) -> tuple[int, int, int]:
    """(year, month, day) of a day since 1970-01-01, in years of 400 that begin in March."""
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    march = (5 * of_year + 2) // 153
    day = of_year - (153 * march + 2) // 5 + 1
    month = march + 3 if march < 10 else march - 9
    return year + 400 * era + (month <= 2), month, day


def _days(year: int, month: int, day: int) -> int:
    """The opposite of `_civil`."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    march = month - 3 if month > 2 else month + 9
    of_year = (153 * march + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
