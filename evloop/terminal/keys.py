"""Terminal bytes -> keys. No clock of its own, no descriptor, bounded memory.

A key is a tuple `(name, text)`. `text` is empty but for two names:

    ("text", "ab")     characters to insert, never a control character
    ("paste", "a\\nb")  pasted characters: line breaks are LF, tabs are spaces, no other control

The other names: "ctrl-a" ... "ctrl-_", "enter", "tab", "backspace", "delete", "up", "down",
"left", "right", "home", "end", "ctrl-left", "ctrl-right", "alt-left", "alt-right", "alt-a",
"alt-b", "alt-f", "alt-d", "alt-1" ... "alt-9", "alt-backspace", "alt-enter", "escape" (Esc alone),
"leave" (the escape key, Ctrl-] unless told otherwise) and "receipt" (the terminal's answer to
ESC[5n).

States, and what a byte does in them (ECMA-48 names; `C0` are the control bytes but ESC):

    state     C0                 ESC      printable              timer
    ground    a key              escape   text                   end a cut UTF-8 character
    escape    Alt-key, else key  escape   [ -> csi, O -> ss3,    -> ground, "escape"
                                          ]PX^_ -> string, else Alt-key or nothing
    csi       -> ground, a key   escape   final byte -> ground   -> ground
    ss3       -> ground, a key   escape   final byte -> ground   -> ground
    skip      -> ground, a key   escape   final byte -> ground   -> ground (too long a csi)
    function  -> ground, a key   escape   -> ground (the Linux console's ESC [ [ A)
    report    -> ground, a key   escape   -> ground after 3 bytes (a mouse's: ESC [ M)
    string    BEL -> ground,     escape   nothing                -> ground
              else a key
    paste     kept as text       ESC[201~ -> ground, guarded     a lone leave, Ctrl-C end it

A program never sends C0 inside a sequence, so one that arrives there was typed after a sequence
that was cut: it acts at once, and above all the escape key does.

Guarded: pasted text may come from a stranger and contain ESC[201~, so bytes that follow the end of
a paste without a pause are text too: they submit nothing and act as no key. Only `handle_timer`
ends this state, after 30 ms without a byte. It must run after the tick's reads: else bytes that
have come already, but were not read yet, would count as silence.
"""

from __future__ import annotations

from codecs import getincrementaldecoder

from evloop.system.timers import NEVER
from evloop.terminal.limits import (
    CSI_BYTES_MAX,
    PASTE_GUARD_S,
    PASTE_SILENCE_S,
    SEQUENCE_SILENCE_S,
    TAB_COLUMNS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Key = tuple[str, str]

ESCAPE = 0x1B
PASTE_END = b"\x1b[201~"

_CONTROL: dict[int, Key] = {
    **{code: ("ctrl-" + chr(code + 96), "") for code in range(1, 27)},
    **{code: ("ctrl-" + chr(code + 64), "") for code in (0, 28, 29, 30, 31)},
    0x08: ("backspace", ""),
    0x09: ("tab", ""),
    0x0A: ("enter", ""),
    0x0D: ("enter", ""),
    0x7F: ("backspace", ""),
}
_ALT: dict[int, Key] = {
    **{ord(str(digit)): (f"alt-{digit}", "") for digit in range(1, 10)},
    ord("a"): ("alt-a", ""),
    ord("A"): ("alt-a", ""),
    ord("b"): ("alt-b", ""),
    ord("B"): ("alt-b", ""),
    ord("f"): ("alt-f", ""),
    ord("F"): ("alt-f", ""),
    ord("d"): ("alt-d", ""),
    ord("D"): ("alt-d", ""),
    0x08: ("alt-backspace", ""),
    0x7F: ("alt-backspace", ""),
    0x0A: ("alt-enter", ""),
    0x0D: ("alt-enter", ""),
}
_LETTERS = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"}
_TILDES = {"1": "home", "3": "delete", "4": "end", "7": "home", "8": "end"}
_ARROWS_LOWER = {"a": "up", "b": "down", "c": "ctrl-right", "d": "ctrl-left"}  # rxvt with Ctrl
# Final bytes of the sequences after which a terminal sends a mouse position in raw bytes, and how
# many (xterm, DECSET 1000 and 1001 without 1006): another program may have left that on.
_MOUSE_BYTES = {"M": 3, "t": 2, "T": 6}
_SEQUENCE_OPENERS = {
    ord("["): "csi",
    ord("O"): "ss3",
    **dict.fromkeys(b"]PX^_", "string"),  # OSC, DCS, SOS, PM, APC
}

# What is left out of a paste: C0 but LF, DEL, C1. CR is handled before, and tabs become spaces.
_PASTE_CLEAN: dict[int, str | None] = dict.fromkeys([*range(32), *range(0x7F, 0xA0)])
_PASTE_CLEAN.update({0x0A: "\n", 0x09: " " * TAB_COLUMNS})
_PASTE_CLEAN[0xFEFF] = None  # a byte order mark belongs to a file, not to its text
_TEXT_CLEAN = dict.fromkeys(range(0x80, 0xA0))


class KeyDecoder:
    """Turns bytes, however they were cut, into keys.

    `escape` is the byte that leaves a room. `charset` is "utf-8", "latin-1" or "ascii"; with
    "ascii", input is still read as UTF-8, because the terminal may well send it.
    """

    __slots__ = (
        "_after_cr",
        "_charset",
        "_deadline",
        "_decoder",
        "_escape",
        "_guarded",
        "_keys",
        "_report",
        "_state",
        "_stuck",
        "held",
    )

    def __init__(self, *, escape: int = 0x1D, charset: str = "utf-8") -> None:
        self._escape = escape
        self._charset = "latin-1" if charset == "latin-1" else "utf-8"
        self.reset()

    def reset(self) -> None:
        """Forget all incomplete input: after a suspension it will not be completed."""
        self._decoder = getincrementaldecoder(self._charset)("replace")
        self._state = "ground"
        self.held = bytearray()  # csi, ss3: parameters; paste: what may begin PASTE_END
        self._report = 0  # bytes of a mouse report that are still to come
        self._guarded = False
        self._stuck = False  # in a paste that has been silent for PASTE_SILENCE_S
        self._after_cr = False  # in a paste: a LF now belongs to the CR before
        self._deadline = NEVER
        self._keys: list[Key] = []

    def next_deadline(self) -> float:
        """When `handle_timer` has something to do; inf when it has not."""
        return self._deadline

    def feed(self, data: bytes, now: float) -> list[Key]:
        """Return the keys that `data` completes."""
        if self._stuck:
            self._stuck = False
            if len(data) == 1 and data[0] in (self._escape, 0x03):
                self._state = "ground"
                self.held.clear()
        at = 0
        while at < len(data):
            at = _STATES[self._state](self, data, at)
        if self._state == "paste":
            self._deadline = now + PASTE_SILENCE_S
        elif self._guarded:
            self._deadline = now + PASTE_GUARD_S
        elif self._state != "ground" or self._decoder.getstate()[0]:
            self._deadline = now + SEQUENCE_SILENCE_S
        else:
            self._deadline = NEVER
        keys, self._keys = self._keys, []
        return keys

    def handle_timer(self, now: float) -> list[Key]:
        """End what silence ends: a lone Esc, a cut sequence, the guard after a paste.

        Call it after the reads of a tick, never before.
        """
        if now < self._deadline:
            return []
        self._deadline = NEVER
        if self._state == "paste":
            self._stuck = True
            return []
        self._end_text()
        if self._state == "escape":
            self._emit(("escape", ""))
        self._state = "ground"
        self.held.clear()
        self._guarded = False
        keys, self._keys = self._keys, []
        return keys

    # -- one method a state: consumes at least one byte or changes the state, returns the offset --

    def _ground(self, data: bytes, at: int) -> int:
        end = at
        while end < len(data) and data[end] >= 0x20 and data[end] != 0x7F:
            end += 1
        if end > at:
            self._emit_text(self._decoder.decode(data[at:end]))
            return end
        self._end_text()
        code = data[at]
        if code == ESCAPE and code != self._escape:
            self._state = "escape"
        elif code == self._escape:
            self._emit(("leave", ""))
        else:
            self._emit(_CONTROL[code])
        return at + 1

    def _after_escape(self, data: bytes, at: int) -> int:
        code = data[at]
        if code == ESCAPE and code != self._escape:
            return at + 1
        self._state = _SEQUENCE_OPENERS.get(code, "ground")
        if self._state != "ground":
            self.held.clear()
            return at + 1
        if code in _ALT and code != self._escape:
            self._emit(_ALT[code])
            return at + 1
        # Alt with a control key or a character beyond ASCII: as if Alt had not been pressed.
        return at if code < 0x20 or code >= 0x80 else at + 1

    def _sequence(self, data: bytes, at: int) -> int:
        code = data[at]
        if code < 0x20 or code >= 0x7F:
            self._state = "ground"
            return at
        if code < 0x40:  # parameters and intermediates
            if len(self.held) < CSI_BYTES_MAX:
                self.held.append(code)
            else:
                self._state = "skip"
            return at + 1
        if self._state == "csi" and code == ord("[") and not self.held:
            self._state = "function"
            return at + 1
        state, self._state = self._state, "ground"
        if state != "skip":
            self._finish(state, self.held.decode("ascii"), chr(code))
        return at + 1

    def _function(self, data: bytes, at: int) -> int:
        self._state = "ground"
        return at + 1 if 0x20 <= data[at] < 0x7F else at

    def _in_report(self, data: bytes, at: int) -> int:
        if data[at] < 0x20:
            self._state = "ground"
            return at
        self._report -= 1
        if not self._report:
            self._state = "ground"
        return at + 1

    def _string(self, data: bytes, at: int) -> int:
        while at < len(data) and data[at] >= 0x20:
            at += 1
        if at < len(data):
            self._state = "ground"
            if data[at] == 0x07:
                at += 1
        return at

    def _paste(self, data: bytes, at: int) -> int:
        held = bytes(self.held) + data[at:]
        self.held.clear()
        end = held.find(PASTE_END)
        if end >= 0:
            self._emit_paste(self._decoder.decode(held[:end], True))
            self._after_cr = False
            self._state = "ground"
            self._guarded = True
            return len(data) - (len(held) - end - len(PASTE_END))
        keep = next((n for n in range(5, 0, -1) if held.endswith(PASTE_END[:n])), 0)
        self.held += held[len(held) - keep :]
        self._emit_paste(self._decoder.decode(held[: len(held) - keep]))
        return len(data)

    # -- what the states share ----------------------------------------------------------------

    def _finish(self, state: str, parameters: str, final: str) -> None:
        """Act on a whole CSI or SS3 sequence; a sequence that is in no table is ignored."""
        first, _, modifier = parameters.partition(";")
        if final == "~" and first == "200":
            self._state = "paste"
            self.held.clear()
            self._decoder.reset()
        elif final == "n" and parameters in ("0", "3"):
            self._keys.append(("receipt", ""))
        elif final == "u" or (final == "~" and first == "27"):
            self._finish_modified(parameters, final)
        elif final == "~":
            self._emit_named(_TILDES.get(first, ""), modifier)
        elif final in _LETTERS:
            self._emit_named(_LETTERS[final], modifier)
        elif final in _ARROWS_LOWER and not parameters:
            # rxvt: ESC O c is Ctrl-Right, ESC [ c is Shift-Right.
            name = _ARROWS_LOWER[final]
            self._emit((name if state == "ss3" else name.removeprefix("ctrl-"), ""))
        elif state == "ss3" and final == "M":
            self._emit(("enter", ""))  # the keypad's
        elif final in _MOUSE_BYTES and not parameters:
            self._state = "report"
            self._report = _MOUSE_BYTES[final]

    def _emit_named(self, name: str, modifier: str) -> None:
        if not name:
            return
        if name in ("left", "right") and modifier.isdigit():
            bits = int(modifier) - 1  # xterm: 1 + Shift 1, Alt 2, Ctrl 4, Meta 8
            if bits & 4:
                name = "ctrl-" + name
            elif bits & 10:
                name = "alt-" + name
        self._emit((name, ""))

    def _finish_modified(self, parameters: str, final: str) -> None:
        """CSI code ; modifier u, and CSI 27 ; modifier ; code ~: key reports that another program
        may have left switched on. Ctrl-] must work then too."""
        fields = parameters.split(";")
        if final == "~":
            fields = [*fields[2:3], *fields[1:2]]
        numbers = [int(field) for field in fields if field.isdigit()]
        if len(numbers) != len(fields) or not numbers or numbers[0] >= 0x80:
            return
        code = numbers[0]
        bits = numbers[1] - 1 if len(numbers) > 1 else 0
        if bits & 4 and 0x40 <= code < 0x80:
            code &= 0x1F
        if bits & 10:
            self._after_escape(bytes([code]), 0)
        elif code == ESCAPE and code != self._escape:
            self._emit(("escape", ""))
        else:
            self._ground(bytes([code]), 0)

    def _end_text(self) -> None:
        """A character cut by another byte or by silence becomes U+FFFD."""
        if self._decoder.getstate()[0]:
            self._emit_text(self._decoder.decode(b"", True))

    def _emit_text(self, text: str) -> None:
        if self._guarded:
            self._emit_paste(text)
            return
        if not text.isprintable():
            text = text.translate(_TEXT_CLEAN)
        if text:
            self._keys.append(("text", text))

    def _emit(self, key: Key) -> None:
        if not self._guarded:
            self._keys.append(key)
        elif key[0] == "enter":
            self._emit_paste("\n")
        elif key[0] == "tab":
            self._emit_paste("\t")

    def _emit_paste(self, text: str) -> None:
        if not text:
            return
        if self._after_cr and text[0] == "\n":
            text = text[1:]
        self._after_cr = text.endswith("\r")
        text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_PASTE_CLEAN)
        if text:
            self._keys.append(("paste", text))


_STATES: dict[str, Callable[[KeyDecoder, bytes, int], int]] = {
    "ground": KeyDecoder._ground,
    "escape": KeyDecoder._after_escape,
    "csi": KeyDecoder._sequence,
    "ss3": KeyDecoder._sequence,
    "skip": KeyDecoder._sequence,
    "function": KeyDecoder._function,
    "report": KeyDecoder._in_report,
    "string": KeyDecoder._string,
    "paste": KeyDecoder._paste,
}
