"""The picture of a screen: true to the cells, well-formed, the same every time."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from tests.support.picture import (
    CELL_WIDTH,
    MARGIN,
    PICTURE,
    TITLE,
    real_run,
    runs_of,
    svg_of,
)
from tests.support.screen import Emulator

SVG = "{http://www.w3.org/2000/svg}"


def screen_with(text: str) -> Emulator:
    screen = Emulator(40, 10)
    screen.write(text.encode())
    return screen


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter(SVG + "text")]


def test_every_row_is_in_it_and_blank_ends_are_not() -> None:
    svg = svg_of(screen_with('12:01 bob: <hi> & "bye"\n\nlab> yes'), "evloop & co")
    assert texts(svg) == ["evloop & co", '12:01 bob: <hi> & "bye"', "lab> yes"]


def test_columns_stay_columns() -> None:
    svg = svg_of(screen_with("ab日本c  d"), "t")
    nodes = list(ET.fromstring(svg).iter(SVG + "text"))[1:]
    assert [(node.text, node.get("x"), node.get("textLength")) for node in nodes] == [
        ("ab", str(MARGIN), str(2 * CELL_WIDTH)),
        ("日", str(MARGIN + 2 * CELL_WIDTH), str(2 * CELL_WIDTH)),
        ("本", str(MARGIN + 4 * CELL_WIDTH), str(2 * CELL_WIDTH)),
        ("c  d", str(MARGIN + 6 * CELL_WIDTH), str(4 * CELL_WIDTH)),
    ]


def test_styles_become_ink() -> None:
    screen = screen_with(
        "\x1b[36mbob\x1b[m: \x1b[1;31mred\x1b[m \x1b[7mMel?\x1b[m \x1b[2mdim\x1b[m"
    )
    assert [(style, text) for _, _, style, text in runs_of(screen.grid[0])] == [
        ("36", "bob"),
        ("", ":"),
        ("1;31", "red"),
        ("7", "Mel?"),
        ("2", "dim"),
    ]
    root = ET.fromstring(svg_of(screen, "t"))
    bold = [node.text for node in root.iter(SVG + "text") if node.get("font-weight") == "bold"]
    assert bold == ["red"]


def test_the_cursor_stands_where_it_stood() -> None:
    root = ET.fromstring(svg_of(screen_with("lab> ha\x1b[D"), "t"))
    cursor = [node for node in root.iter(SVG + "rect") if node.get("opacity")]
    assert [node.get("x") for node in cursor] == [str(MARGIN + 6 * CELL_WIDTH)]


def test_the_same_screen_gives_the_same_bytes() -> None:
    assert svg_of(screen_with("a\nb"), "t") == svg_of(screen_with("a\nb"), "t")


def test_the_picture_of_the_readme_is_a_real_run() -> None:
    """`python3 -m tests.support.picture` makes it anew."""
    assert PICTURE.read_text(encoding="utf-8") == svg_of(real_run(), TITLE)
