"""Small line charts as SVG, written by hand: panels with titled axes, ticks and a legend.

Text stays text (it can be searched and read aloud), colours are told apart by the colour-blind
(Okabe and Ito), and what is theory is dashed.
"""

from __future__ import annotations

from math import log10
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 520, 360  # of a panel, pixels
LEFT, RIGHT, TOP, BOTTOM = 64, 32, 64, 56  # its margins
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
INK, FAINT, PAPER = "#222222", "#e3e3e3", "#ffffff"
BLUE, SKY, ORANGE, GREEN, GREY = "#0072b2", "#56b4e9", "#d55e00", "#009e73", "#666666"

Point = tuple[float, float]


class Series(NamedTuple):
    """One line; `theory` draws it dashed and without dots. `bars`: (x, lowest, highest)."""

    label: str
    colour: str
    points: list[Point]
    theory: bool = False
    bars: list[tuple[float, float, float]] = []  # noqa: RUF012 - read only


class Axis(NamedTuple):
    """One axis with its title, its ticks in data units, and whether it is logarithmic."""

    title: str
    ticks: list[float]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where `value` lies: 0 at the first tick, 1 at the last."""
        low, high = self.ticks[0], self.ticks[-1]
        if self.logarithmic:
            return (log10(value) - log10(low)) / (log10(high) - log10(low))
        return (value - low) / (high - low)


class Panel(NamedTuple):
    """One chart."""

    title: str
    across: Axis
    up: Axis
    series: list[Series]


def _text(x: float, y: float, words: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def _line(a: Point, b: Point, colour: str, width: float = 1, more: str = "") -> str:
    return (
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"'
        f' stroke="{colour}" stroke-width="{width}"{more}/>'
    )


def _number(value: float) -> str:
    return f"{value:,.10g}"


class _Frame:
    """Turns data into pixels of one panel."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel

    def place(self, x: float, y: float) -> Point:
        """Pixels of a point; what is above the last tick is drawn at the edge."""
        across, up = self.panel.across.share(x), min(self.panel.up.share(y), 1.0)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    def axes(self) -> list[str]:
        across, up = self.panel.across, self.panel.up
        parts = []
        for tick in up.ticks:
            left = self.place(across.ticks[0], tick)
            parts.append(_line(left, (WIDTH - RIGHT, left[1]), FAINT))
            parts.append(_text(left[0] - 8, left[1] + 4, _number(tick), "end"))
        for tick in across.ticks:
            foot = self.place(tick, up.ticks[0])
            parts.append(_line(foot, (foot[0], foot[1] + 5), INK))
            parts.append(_text(foot[0], foot[1] + 20, _number(tick)))
        corner = self.place(across.ticks[0], up.ticks[0])
        parts.append(_line(corner, (WIDTH - RIGHT, corner[1]), INK))
        parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, across.title))
        middle = (TOP + HEIGHT - BOTTOM) / 2
        turned = f' transform="translate(18 {middle:.1f}) rotate(-90)"'
        parts.append(_text(0, 0, up.title, more=turned))
        return parts

    def line(self, series: Series) -> list[str]:
        places = [self.place(x, y) for x, y in series.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dashes = ' stroke-dasharray="6 4"' if series.theory else ""
        parts = [
            f'<polyline points="{path}" fill="none" stroke="{series.colour}"'
            f' stroke-width="2"{dashes}/>'
        ]
        for x, low, high in series.bars:
            parts.append(_line(self.place(x, low), self.place(x, high), series.colour))
        if not series.theory:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{series.colour}"/>'
                for x, y in places
            ]
        return parts

    def legend(self) -> list[str]:
        parts = []
        x = float(LEFT)
        for series in self.panel.series:
            dashes = ' stroke-dasharray="6 4"' if series.theory else ""
            parts.append(_line((x, 42), (x + 22, 42), series.colour, 2, dashes))
            parts.append(_text(x + 28, 46, series.label, "start"))
            x += 44 + 6.3 * len(series.label)
        return parts


def draw(title: str, panels: list[Panel], columns: int = 2) -> str:
    """All `panels` in one SVG document, row by row."""
    rows = -(-len(panels) // columns)
    width, height = columns * WIDTH, rows * HEIGHT + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="{FONT}" font-size="12" fill="{INK}"'
        f' role="img" aria-labelledby="title">',
        f'<title id="title">{escape(title)}</title>',
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        _text(width / 2, 28, title, more=' font-size="17" font-weight="600"'),
    ]
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        frame = _Frame(panel)
        parts.append(f'<g transform="translate({column * WIDTH} {row * HEIGHT + 40})">')
        parts.append(_text(LEFT, 24, panel.title, "start", ' font-size="14" font-weight="600"'))
        parts += frame.axes()
        for series in panel.series:
            parts += frame.line(series)
        parts += frame.legend()
        parts.append("</g>")
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
