"""Line plots as inline SVG: no script, no font, colours from the page's variables so that both themes read."""

from __future__ import annotations

import math
from html import escape

import msgspec

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 16, 44
TICKS = 5  # about so many on each axis


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Points of one line; `marks` draws them as dots as well."""

    name: str
    colour: str  # a CSS colour
    points: tuple[tuple[float, float], ...]
    marks: bool = False


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """A horizontal line: what was planned, what there is."""

    name: str
    y: float


def render_plot(
    series: tuple[Series, ...], *, x_label: str, y_label: str, levels: tuple[Level, ...] = (), from_zero: bool = False
) -> str:
    """An `<svg>` of the series, or an empty string when there is no point to draw. `from_zero`: the y axis starts there."""
    drawn = [line for line in series if line.points]
    if not drawn:
        return ""
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points] + [level.y for level in levels]
    y_low, y_high = _padded(min(ys), max(ys), share=0.06)
    frame = _Frame(*_padded(min(xs), max(xs), share=0.0), 0.0 if from_zero else y_low, y_high)
    parts = [*_grid(frame, x_label, y_label), *(_level(level, frame) for level in levels)]
    parts += [part for line in drawn for part in _line(line, frame)]
    label = escape(f"{y_label} over {x_label}", quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>{_legend(drawn)}'


class _Frame(msgspec.Struct, frozen=True):
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM)


def _padded(low: float, high: float, *, share: float) -> tuple[float, float]:
    if low == high:
        return low - 0.5, high + 0.5
    return low - share * (high - low), high + share * (high - low)


def ticks(low: float, high: float) -> tuple[float, ...]:
    """Round numbers (1, 2 or 5 times a power of ten apart) between the bounds."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return tuple(number * step for number in range(first, math.floor(high / step) + 1))


def _grid(frame: _Frame, x_label: str, y_label: str) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for value in ticks(frame.y_low, frame.y_high):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(frame.x_low, frame.x_high):
        x = frame.x(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    return parts


def _level(level: Level, frame: _Frame) -> str:
    y = frame.y(level.y)
    return (
        f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="level" x="{WIDTH - RIGHT - 4}" y="{y - 5:.1f}" text-anchor="end">{escape(level.name)}</text>'
    )


def _line(series: Series, frame: _Frame) -> list[str]:
    places = [(frame.x(x), frame.y(y)) for x, y in series.points]
    colour = escape(series.colour, quote=True)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round" points="{path}"/>']
    if series.marks or len(places) == 1:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places]
    return parts


def _legend(drawn: list[Series]) -> str:
    keys = "".join(
        f'<span><i style="background:{escape(line.colour, quote=True)}"></i>{escape(line.name)}</span>' for line in drawn
    )
    return f'<p class="legend">{keys}</p>'
