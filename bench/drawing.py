"""A curve as a small SVG, by hand: panels side by side, sizes from left to right in powers of ten, each point with its figure.

It brings its own ground, light or dark as the reader's system is, so that it can be read on any page.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 380, 260  # of a panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 24, 24, 64, 44  # what is kept free around its curve

STYLE = """
    text { fill: #1f2328; font: 12px sans-serif; text-anchor: middle }
    .name { font-weight: bold }
    .ground { fill: #ffffff }
    .floor { stroke: #818b98 }
    .curve { fill: none; stroke: #0969da; stroke-width: 2 }
    circle { fill: #0969da }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .ground { fill: #0d1117 }
      .curve { stroke: #4493f8 }
      circle { fill: #4493f8 }
    }
"""


class Panel(NamedTuple):
    """One curve: what it shows, its points (size, value), and how a value is written."""

    name: str
    points: Sequence[tuple[int, float]]
    form: str


def draw(title: str, panels: Sequence[Panel]) -> str:
    """Return the SVG of *panels*, which begin at zero each."""
    width = WIDTH * len(panels)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" role="img">',
        f"  <title>{escape(title)}</title>",
        f"  <style>{STYLE}  </style>",
        f'  <rect class="ground" width="{width}" height="{HEIGHT}" rx="6"/>',
        f'  <text class="name" x="{width / 2:.0f}" y="22">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        lines += [f'  <g transform="translate({number * WIDTH} 0)">', *(f"    {line}" for line in _drawn(panel)), "  </g>"]
    return "\n".join([*lines, "</svg>", ""])


def _drawn(panel: Panel) -> list[str]:
    sizes = [math.log10(size) for size, _ in panel.points]
    highest = max(value for _, value in panel.points)
    floor, ceiling = HEIGHT - BOTTOM, TOP + 16  # a figure stands above its point

    def across(size: float) -> float:
        span = (sizes[-1] - sizes[0]) or 1
        return LEFT + 16 + (math.log10(size) - sizes[0]) / span * (WIDTH - LEFT - RIGHT - 32)

    places = [(across(size), floor - value / highest * (floor - ceiling)) for size, value in panel.points]
    lines = [
        f'<text x="{WIDTH / 2:.0f}" y="46">{escape(panel.name)}</text>',
        f'<path class="floor" d="M{LEFT} {floor}H{WIDTH - RIGHT}"/>',
        f'<polyline class="curve" points="{" ".join(f"{x:.0f},{y:.0f}" for x, y in places)}"/>',
    ]
    for (x, y), (size, value) in zip(places, panel.points, strict=True):
        lines += [
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3.5"/>',
            f'<text class="value" x="{x:.0f}" y="{y - 9:.0f}">{panel.form.format(value)}</text>',
            f'<text x="{x:.0f}" y="{floor + 18}">{size:,}</text>',
        ]
    return lines
