"""Two kinds of plot as SVG text: horizontal bars in groups, and lines on logarithmic axes.

A white card with its own background, so that it reads on any page; evloop in one strong colour,
the others in fixed colours by name, so that a peer looks the same in every plot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH = 760
FONT = "font-family='system-ui, sans-serif'"
INK, FAINT, GRID = "#1f2430", "#667080", "#e3e6eb"
COLOURS = {
    "evloop": "#d1495b",
    "asyncio Protocol": "#30638e",
    "uvloop": "#00798c",
    "asyncio streams": "#7a9cc6",
    "threads": "#8d6a9f",
    "Python floor": "#a0a7b4",
    "C epoll": "#4a4e57",
    "ngircd": "#30638e",
    "inspircd": "#00798c",
    "miniircd": "#8d6a9f",
}
SPARE = ("#edae49", "#5b8e4d", "#c06c2b", "#555b6e")

Point = tuple[float, float]


def _colour(name: str, number: int) -> str:
    return COLOURS.get(name) or SPARE[number % len(SPARE)]


def _short(value: float) -> str:
    """A figure as a person writes it: 3 digits, thousands as k, millions as M."""
    for size, mark in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{mark}"
    return f"{value:.3g}"


def _text(x: float, y: float, text: str, *, size: int = 12, more: str = "") -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' font-size='{size}'"
    return f"<text {place} fill='{INK}' {more}>{escape(text)}</text>"


def _card(height: float, title: str, subtitle: str, body: list[str]) -> str:
    head = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height:.0f}' "
        f"viewBox='0 0 {WIDTH} {height:.0f}' role='img' {FONT}>",
        f"<title>{escape(title)}</title>",
        f"<rect width='{WIDTH}' height='{height:.0f}' rx='6' fill='#ffffff'/>",
        _text(20, 28, title, size=16, more="font-weight='600'"),
        _text(20, 46, subtitle, more=f"style='fill:{FAINT}'"),
    ]
    return "\n".join([*head, *body, "</svg>", ""])


def bars(
    title: str,
    unit: str,
    groups: Sequence[str],
    series: dict[str, list[float | None]],
) -> str:
    """One block of bars a group, one bar a series; each bar carries its figure."""
    left, bar, top = 150, 20, 64
    body = []
    y = float(top)
    for number, group in enumerate(groups):
        values = {n: v[number] for n, v in series.items() if v[number] is not None}
        if not values:
            continue
        if len(groups) > 1:
            body.append(_text(20, y + 14, group, size=13, more="font-weight='600'"))
            y += 22
        most = max(v for v in values.values() if v is not None) or 1.0
        for position, (name, value) in enumerate(values.items()):
            assert value is not None
            length = max(1.0, (WIDTH - left - 90) * value / most)
            weight = "font-weight='600'" if name == "evloop" else ""
            body.append(_text(left - 8, y + 14, name, more=f"text-anchor='end' {weight}"))
            body.append(
                f"<rect x='{left}' y='{y + 2:.1f}' width='{length:.1f}' height='{bar - 4}' "
                f"rx='2' fill='{_colour(name, position)}'/>"
            )
            body.append(_text(left + length + 6, y + 14, _short(value), more=weight))
            y += bar
        y += 12
    return _card(y + 8, title, unit, body)


def lines(
    title: str,
    x_label: str,
    y_label: str,
    series: dict[str, list[Point]],
    *,
    log_y: bool = True,
) -> str:
    """Lines through measured points; x logarithmic, y logarithmic or from zero."""
    series = {name: sorted(points) for name, points in series.items() if points}
    if not series:
        return _card(80, title, "nothing was measured", [])
    left, right, top, bottom = 70, WIDTH - 150, 70, 340
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points if y > 0 or not log_y]
    x_low, x_high = math.log10(min(xs)), math.log10(max(xs))
    if log_y:
        y_low = float(math.floor(math.log10(min(ys))))
        y_high = max(float(math.ceil(math.log10(max(ys)))), y_low + 1)
    else:
        y_low, y_high = 0.0, _nice_above(max(ys))

    def place(x: float, y: float) -> Point:
        across = (math.log10(x) - x_low) / ((x_high - x_low) or 1)
        height = math.log10(max(y, 1e-12)) if log_y else y
        up = (height - y_low) / ((y_high - y_low) or 1)
        return left + across * (right - left), bottom - min(max(up, 0), 1) * (bottom - top)

    body = _axes(place, sorted(set(xs)), _ticks(y_low, y_high, log_y), (left, right, top, bottom))
    body.append(_text((left + right) / 2, bottom + 40, x_label, more="text-anchor='middle'"))
    names_at: list[float] = []
    order = sorted(series, key=lambda name: place(*series[name][-1])[1])
    for number, name in enumerate(order):
        points = [place(x, y) for x, y in series[name]]
        colour = _colour(name, number)
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        width = 2.5 if name.startswith("evloop") else 1.5
        body.append(
            f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='{width}'/>"
        )
        body += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in points]
        at = max(points[-1][1], names_at[-1] + 15 if names_at else 0.0)
        names_at.append(at)
        body.append(_text(right + 10, at + 4, name, more=f"style='fill:{colour}'"))
    return _card(bottom + 58, title, y_label, body)


def _nice_above(value: float) -> float:
    size = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(size * step for step in (1, 2, 2.5, 5, 10) if size * step >= value)


def _ticks(low: float, high: float, log_y: bool) -> list[float]:
    if log_y:
        return [10.0**power for power in range(int(low), int(high) + 1)]
    return [low + (high - low) * part / 4 for part in range(5)]


def _axes(
    place: object, xs: list[float], ticks: list[float], box: tuple[int, int, int, int]
) -> list[str]:
    left, right, _, bottom = box
    assert callable(place)
    body = []
    for tick in ticks:
        _, y = place(xs[0], tick)
        body.append(f"<path d='M{left} {y:.1f}H{right}' stroke='{GRID}'/>")
        body.append(_text(left - 8, y + 4, _short(tick), more="text-anchor='end'"))
    last = -100.0
    for value in xs:
        x, _ = place(value, ticks[-1])
        body.append(f"<path d='M{x:.1f} {bottom}v5' stroke='{FAINT}'/>")
        if x - last >= 34:
            body.append(_text(x, bottom + 19, _short(value), more="text-anchor='middle'"))
            last = x
    body.append(f"<path d='M{left} {bottom}H{right}' stroke='{FAINT}'/>")
    return body
