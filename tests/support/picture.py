"""An emulator's screen as a picture: SVG, the same bytes for the same screen.

    python3 -m tests.support.picture [FILE]    the picture of README.md, from a real run

A run of cells in one style is one <text> with its length given, so columns stay columns in any
font. Nothing is loaded from elsewhere; the picture is text and can be searched and read aloud.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path

from tests.support.pty_run import PtyRun
from tests.support.screen import Emulator, Row

CELL_WIDTH, CELL_HEIGHT, FONT_SIZE = 9, 20, 15
MARGIN, BAR = 16, 34
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
GROUND, BAR_GROUND, INK, FAINT = "#16181d", "#23262e", "#d8dbe2", "#8a909c"
PICTURE = Path(__file__).parents[2] / "docs" / "screen.svg"
TITLE = "python3 -m evloop.client --name Mel"
COLUMNS, ROWS = 84, 24
DOTS = ("#e5675f", "#e3b341", "#58b368")
COLOURS = {
    "30": "#5b616e", "31": "#ee7f78", "32": "#86c98b", "33": "#e6c171",
    "34": "#7fb0f0", "35": "#cf96e0", "36": "#6fcad0", "37": "#d8dbe2",
}  # fmt: skip


def runs_of(row: Row) -> list[tuple[int, int, str, str]]:
    """(first column, columns, SGR parameters, text) of each stretch in one style, without blanks.

    A cell that is not one narrow character stands alone: its glyph may have any width.
    """
    runs: list[tuple[int, int, str, str]] = []
    column = 0
    while column < len(row.cells):
        wide = 1
        while column + wide < len(row.cells) and row.cells[column + wide] == "":
            wide += 1
        text, style = row.cells[column], row.styles[column]
        joins = wide == 1 and text.isascii() and bool(runs) and runs[-1][3].isascii()
        if joins and runs[-1][2] == style and runs[-1][0] + runs[-1][1] == column:
            start, length, _, before = runs[-1]
            runs[-1] = (start, length + 1, style, before + text)
        else:
            runs.append((column, wide, style, text))
        column += wide
    return [run for run in trimmed(runs) if run[3]]


def trimmed(runs: list[tuple[int, int, str, str]]) -> list[tuple[int, int, str, str]]:
    """The runs without the blanks at their ends, which are not seen (but reversed ones are)."""
    out = []
    for start, length, style, text in runs:
        if "7" not in style.split(";"):
            lead = len(text) - len(text.lstrip(" "))
            short = text.strip(" ")
            if short != text:
                start, length, text = start + lead, len(short), short
        out.append((start, length, style, text))
    return out


def svg_of(screen: Emulator, title: str, *, rows: int | None = None) -> str:
    """The picture of the visible rows (or the first `rows` of them) as SVG text."""
    shown = screen.grid[: rows or len(screen.used())]
    width = 2 * MARGIN + screen.columns * CELL_WIDTH
    height = BAR + 2 * MARGIN + len(shown) * CELL_HEIGHT - (CELL_HEIGHT - FONT_SIZE)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" role="img" font-family="{FONT}"'
        f' font-size="{FONT_SIZE}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" rx="10" fill="{GROUND}"/>',
        f'<path d="M0 {BAR}V10a10 10 0 0 1 10-10H{width - 10}a10 10 0 0 1 10 10V{BAR}z"'
        f' fill="{BAR_GROUND}"/>',
    ]
    for index, colour in enumerate(DOTS):
        out.append(f'<circle cx="{20 + 20 * index}" cy="{BAR // 2}" r="6" fill="{colour}"/>')
    out.append(
        f'<text x="{width // 2}" y="{BAR // 2 + 5}" text-anchor="middle" font-size="13"'
        f' fill="{FAINT}">{escape(title)}</text>'
    )
    out.append(f'<g fill="{INK}" xml:space="preserve">')
    for number, row in enumerate(shown):
        baseline = BAR + MARGIN + number * CELL_HEIGHT + FONT_SIZE - 2
        if number == screen.row:
            out.append(
                f'<rect x="{MARGIN + screen.column * CELL_WIDTH}" y="{baseline - FONT_SIZE + 1}"'
                f' width="{CELL_WIDTH}" height="{CELL_HEIGHT - 1}" fill="{INK}" opacity="0.8"/>'
            )
        for start, length, style, text in runs_of(row):
            out += text_of(start, length, style, text, baseline)
    out += ["</g>", "</svg>", ""]
    return "\n".join(out)


def text_of(start: int, length: int, style: str, text: str, baseline: int) -> list[str]:
    """One run as SVG elements."""
    parameters = style.split(";") if style else []
    x, wide = MARGIN + start * CELL_WIDTH, length * CELL_WIDTH
    ink = next((COLOURS[code] for code in parameters if code in COLOURS), None)
    out, attributes = [], ""
    if "7" in parameters:
        out.append(
            f'<rect x="{x}" y="{baseline - FONT_SIZE + 1}" width="{wide}"'
            f' height="{CELL_HEIGHT - 1}" fill="{ink or INK}"/>'
        )
        ink = GROUND
    if "1" in parameters:
        attributes += ' font-weight="bold"'
    if "2" in parameters and ink is None:
        ink = FAINT
    if ink:
        attributes += f' fill="{ink}"'
    out.append(
        f'<text x="{x}" y="{baseline}" textLength="{wide}" lengthAdjust="spacingAndGlyphs"'
        f"{attributes}>{escape(text)}</text>"
    )
    return out


# -- the picture of README.md -----------------------------------------------------------------


def retell(screen: Emulator, pattern: str, told: str) -> None:
    """Put `told` where `pattern` matches: what differs from run to run (same length only)."""
    for row in screen.grid:
        for match in re.finditer(pattern, "".join(cell or "\0" for cell in row.cells)):
            assert len(match[0]) == len(told), (match[0], told)
            row.cells[match.start() : match.end()] = told


def client(port: str, name: str, *arguments: str) -> PtyRun:
    return PtyRun.python(
        *("evloop.client", "--server", f"127.0.0.1:{port}", "--name", name, *arguments),
        columns=COLUMNS,
        rows=ROWS,
        env={"EVLOOP_INTERFACE": "127.0.0.1", "TZ": "UTC"},
    )


def entered(port: str, people: list[PtyRun]) -> PtyRun:
    """Mel in the kitchen. Who is there is told at once if they answer at once: else again."""
    for _ in range(5):
        mel = client(port, "Mel")
        people.append(mel)
        mel.expect_last("evloop>")
        mel.send("getdir\r")
        mel.expect_line("1 here")
        mel.send("chat kitchen\r")
        mel.expect_line("goes back")
        mel.expect_last("kitchen>")
        if "with bob, carol" in str(mel.screen) or "with carol, bob" in str(mel.screen):
            return mel
        mel.send("\x1d\x04")
        mel.wait()
    raise AssertionError("bob and carol do not answer in time")


def joined(mel: PtyRun, room: str, who: str) -> None:
    """Mel in one more room, where `who` is, and back in the first."""
    for _ in range(5):
        mel.send(f"/join {room}\r")
        mel.expect_line(f"in {room}")
        mel.expect_last(f"2:{room} >")
        if f"in {room} with {who}" in str(mel.screen):
            mel.send("\x1b1")
            mel.expect_line("-- 1:kitchen --")
            mel.expect_last("1:kitchen >")
            return
        mel.send("/leave\r")
        mel.expect_last("kitchen>")
    raise AssertionError(f"{who} does not answer in time")


def real_run() -> Emulator:
    """A directory, three people, two rooms, all on loopback: what Mel sees at the end."""
    people = []
    server = PtyRun.python("evloop.server", "--listen", "127.0.0.1:0", "--memory")
    try:
        server.expect_line("listening on 127.0.0.1:")
        [port] = re.findall(r"listening on 127\.0\.0\.1:(\d+)", server.raw.decode())
        for name, room in (("bob", "kitchen"), ("carol", "kitchen"), ("dave", "garden")):
            person = client(port, name)
            people.append(person)
            person.expect_last("evloop>")
            if name != "carol":
                number = len(people) // 2 + 1
                person.send(f"makeroom {room} 239.255.7.{number} 575{number}\r")
                person.expect_line(f"made room {room}")
            person.send(f"chat {room}\r")
            person.expect_last(f"{room}>")
        mel = entered(port, people)
        for person, text in zip(people, ("is the kettle on?", "Mel knows. Mel?")):
            person.send(text + "\r")
            mel.expect_line(text)
        mel.send("yes, since noon. Who brings cake? \U0001f370\r")
        people[0].expect_line("Who brings cake?")
        people[0].send("me!\r")
        mel.expect_line("bob: me!")
        joined(mel, "garden", "dave")
        mel.send("wonderful, then I will lay the ta")
        mel.expect_last("1:kitchen > wonderful, then I will lay the ta")
        people[2].send("Mel, the roses are out\r")
        mel.expect_line("[2:garden] dave: Mel, the roses are out")
        mel.expect_last("1:kitchen!> wonderful, then I will lay the ta")
        assert mel.screen is not None
        retell(mel.screen, r"127\.0\.0\.1:\d{5}", "127.0.0.1:44444")
        retell(mel.screen, "carol, bob", "bob, carol")
        retell(mel.screen, r"^\d\d:\d\d(?= )", "12:01")
        return mel.screen
    finally:
        for person in people:
            person.close()
        server.close()


def main() -> int:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    path.parent.mkdir(exist_ok=True)
    path.write_text(svg_of(real_run(), TITLE), encoding="utf-8")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
