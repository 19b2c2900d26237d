"""Line plots as SVG: both axes logarithmic, readable on light and on dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Point = tuple[float, float, float, float]
"""x, median, least, most."""

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 216, 36, 48
COLOURS = ("#0b7285", "#e8590c", "#862e9c", "#2b8a3e", "#c92a2a", "#495057")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:14px}"
    ".grid{stroke:#8884;stroke-width:1}.back{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.back{fill:#161b22}}"
)


def _ticks(low: float, high: float) -> list[float]:
    """Return 1, 2, 5, 10, … within the bounds."""
    ticks = []
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        ticks += [digit * 10.0**power for digit in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick * 1.0001 and tick <= high * 1.0001]


def lines(title: str, x_label: str, y_label: str, series: Mapping[str, Sequence[Point]]) -> str:
    """Draw one line for each series, with a bar from the least to the most of each point."""
    points = [point for line in series.values() for point in line]
    x_low, x_high = min(p[0] for p in points), max(p[0] for p in points)
    y_low = 10 ** math.floor(math.log10(max(min(p[2] for p in points), 0.1)))
    y_high = 10 ** math.ceil(math.log10(max(p[3] for p in points)))
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    middle = TOP + inner_height / 2

    def at_x(value: float) -> float:
        span = math.log(x_high / x_low) or 1.0
        return LEFT + inner_width * math.log(value / x_low) / span

    def at_y(value: float) -> float:
        return TOP + inner_height * (1 - math.log(max(value, y_low) / y_low) / math.log(y_high / y_low))

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>',
        f'<text x="{LEFT + inner_width / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    for tick in _ticks(y_low, y_high):
        y = at_y(tick)
        out.append(f'<path class="grid" d="M{LEFT} {y:.1f}h{inner_width}"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for value in sorted({point[0] for point in points}):
        x = at_x(value)
        out.append(f'<path class="grid" d="M{x:.1f} {TOP}v{inner_height}"/>')
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - 30}" text-anchor="middle">{value:g}</text>')
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{at_x(p[0]):.1f},{at_y(p[1]):.1f}" for p in line)
        out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
        for x, median, least, most in line:
            out.append(f'<circle cx="{at_x(x):.1f}" cy="{at_y(median):.1f}" r="3" fill="{colour}"/>')
            bar = f"M{at_x(x):.1f} {at_y(least):.1f}V{at_y(most):.1f}"
            out.append(f'<path stroke="{colour}" d="{bar}"/>')
        y = TOP + 14 + 20 * number
        legend = WIDTH - RIGHT + 14
        out.append(f'<path stroke="{colour}" stroke-width="3" d="M{legend} {y - 4}h16"/>')
        out.append(f'<text x="{legend + 22}" y="{y}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"
