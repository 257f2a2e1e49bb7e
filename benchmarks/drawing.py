"""Bar charts as SVG, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

#: The width of a picture, in pixels, as all sizes below.
_WIDTH = 760
#: The margins left and right of the bars.
_LEFT = 250
_RIGHT = 70
#: The height of a row.
_ROW = 34
#: The top of the first row.
_TOP = 58
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2937; }
  .title { font-size: 15px; font-weight: 600; }
  .small { font-size: 11px; fill: #6b7280; }
  .bar { fill: #2563eb; } .median { fill: #1e3a8a; }
  .grid { stroke: #d1d5db; } .target { stroke: #b45309; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e5e7eb; } .small { fill: #9ca3af; }
    .bar { fill: #60a5fa; } .median { fill: #dbeafe; }
    .grid { stroke: #374151; } .target { stroke: #fbbf24; }
  }
"""


@dataclass(frozen=True)
class Bar:
    """A bar of the picture. ratio: how many times faster. target: the ratio to reach."""

    title: str
    ratio: float
    target: float


@dataclass(frozen=True)
class Wait:
    """Seconds: half of the people waited for at most ``median``, 99% for at most ``p99``."""

    title: str
    median: float
    p99: float


def draw(title: str, bars: Sequence[Bar]) -> str:
    """Bars on a logarithmic scale, each with a line at its target."""
    # The end of the scale: a power of ten, at least 5% more than the longest bar.
    longest = max(bar.ratio for bar in bars)
    top = 10 ** math.ceil(math.log10(longest * 1.05))
    description = "; ".join(f"{bar.title}: {bar.ratio:.0f} times" for bar in bars)
    lines = [f"<desc>{escape(description)}</desc>", *_grid(top, _height(bars))]
    for number, bar in enumerate(bars):
        lines += _bar(bar, _TOP + number * _ROW, top)
    return _page(title, bars, lines, "logarithmic scale; the line across a bar is its target")


def draw_waits(title: str, waits: Sequence[Wait], target: float) -> str:
    """Bars up to ``p99``, with a mark at the median, and one line at the target."""
    longest = max(target, *(wait.p99 for wait in waits))
    pixels_a_second = (_WIDTH - _LEFT - _RIGHT) / longest
    description = "; ".join(
        f"{wait.title}: median {wait.median:.2f} s, 99% {wait.p99:.2f} s" for wait in waits
    )
    lines = [f"<desc>{escape(description)}</desc>"]
    for number, wait in enumerate(waits):
        y = _TOP + number * _ROW
        width = wait.p99 * pixels_a_second
        median_x = _LEFT + wait.median * pixels_a_second
        lines += [
            f'<text x="{_LEFT - 10}" y="{y + 16}" text-anchor="end">{escape(wait.title)}</text>',
            f'<rect class="bar" x="{_LEFT}" y="{y}" width="{width:.1f}" height="22" rx="3"/>',
            f'<rect class="median" x="{median_x - 1.5:.1f}" y="{y}" width="3" height="22"/>',
            f'<text x="{_LEFT + width + 7:.1f}" y="{y + 16}">{wait.p99:.2f} s</text>',
        ]
    x = _LEFT + target * pixels_a_second
    lines.append(
        f'<line class="target" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 10}" '
        f'y2="{_TOP + _ROW * len(waits)}"/>'
    )
    note = f"99th percentile; the mark in a bar is the median, the line is the target, {target:g} s"
    return _page(title, waits, lines, note)


def _height(rows: Sequence[object]) -> int:
    return _TOP + _ROW * len(rows) + 40


def _page(title: str, rows: Sequence[object], lines: Sequence[str], note: str) -> str:
    height = _height(rows)
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'width="{_WIDTH}" height="{height}">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="12" y="24">{escape(title)}</text>',
    ]
    foot = f'<text class="small" x="{_LEFT}" y="{height - 4}">{escape(note)}</text>'
    return "\n".join([*head, *lines, foot, "</svg>"]) + "\n"


def _x(value: float, top: float) -> float:
    """The horizontal position of a ratio; ratios below 1 are at the left end of the scale."""
    share = math.log10(max(value, 1.0)) / math.log10(top)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _grid(top: float, height: int) -> list[str]:
    """SVG of a vertical line with a label at each power of ten. height: the picture's."""
    lines = []
    for power in range(int(math.log10(top)) + 1):
        x = _x(10**power, top)
        lines.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 10}" y2="{height - 34}"/>'
        )
        lines.append(
            f'<text class="small" x="{x:.1f}" y="{height - 20}" text-anchor="middle">'
            f"{10**power}×</text>"
        )
    return lines


def _bar(bar: Bar, y: int, top: float) -> list[str]:
    """SVG of a bar, its title, ratio and target. y: the bar's upper edge. top: the ratio at the end
    of the scale."""
    end = _x(bar.ratio, top)
    target = _x(bar.target, top)
    return [
        f'<text x="{_LEFT - 10}" y="{y + 16}" text-anchor="end">{escape(bar.title)}</text>',
        f'<rect class="bar" x="{_LEFT}" y="{y}" width="{end - _LEFT:.1f}" height="22" rx="3"/>',
        f'<line class="target" x1="{target:.1f}" x2="{target:.1f}" y1="{y - 2}" y2="{y + 24}"/>',
        f'<text x="{end + 7:.1f}" y="{y + 16}">{bar.ratio:.0f}×</text>',
    ]
