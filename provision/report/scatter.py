"""Dots over two logarithmic axes as inline SVG: no script, no font, colours from the page's variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from html import escape
from itertools import pairwise

import msgspec

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 76, 20, 18, 46
ROOM = 1.25  # assumed: a factor around the outermost dots
STEPS = (1, 2, 5)  # assumed: ticks that people read, of each power of ten


class Dot(msgspec.Struct, frozen=True, kw_only=True):
    """One dot; `words` are shown where a pointer rests on it."""

    x: float
    y: float
    words: str
    css: str  # a class of the page's
    label: str = ""  # stands beside it


def render_scatter(
    dots: tuple[Dot, ...],
    *,
    line: tuple[tuple[float, float], ...],
    x_label: str,
    y_label: str,
    x_words: Callable[[float], str],
    y_words: Callable[[float], str],
) -> str:
    """An `<svg>` of the dots, and of a line of steps through the points of `line`; empty where there is no dot. What is not
    above zero has no place on such an axis, and stands at the lowest that has.
    """
    if not dots:
        return ""
    across, up = _axis([dot.x for dot in dots], LEFT, WIDTH - RIGHT), _axis([dot.y for dot in dots], HEIGHT - BOTTOM, TOP)
    parts = [*_grid(across, up, x_words, y_words, x_label, y_label)]
    if len(line) > 1:
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in _steps(line, across, up))
        parts.append(f'<polyline class="frontier" points="{corners}"/>')
    parts += [_dot(dot, across, up) for dot in dots]
    label = escape(f"{y_label} over {x_label}", quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


class _Axis(msgspec.Struct, frozen=True):
    low: float
    high: float
    start: float  # pixels
    end: float

    def place(self, value: float) -> float:
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)


def _axis(values: list[float], start: float, end: float) -> _Axis:
    above = [value for value in values if value > 0] or [1.0]
    return _Axis(min(above) / ROOM, max(above) * ROOM, start, end)


def marks(low: float, high: float) -> tuple[float, ...]:
    """1, 2 and 5 times powers of ten between the bounds."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return tuple(value for power in powers for step in STEPS if low <= (value := step * 10.0**power) <= high)


def _grid(
    across: _Axis, up: _Axis, x_words: Callable[[float], str], y_words: Callable[[float], str], x_label: str, y_label: str
) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    for value in marks(up.low, up.high):
        y = up.place(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(y_words(value))}</text>'
    for value in marks(across.low, across.high):
        x = across.place(value)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(x_words(value))}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
    turned = f'transform="translate(14 {(TOP + bottom) / 2}) rotate(-90)"'
    yield f'<text class="axis" {turned} text-anchor="middle">{escape(y_label)}</text>'


def _steps(line: tuple[tuple[float, float], ...], across: _Axis, up: _Axis) -> Iterator[tuple[float, float]]:
    """Level to the next point, then up to it: between two points nothing is for sale."""
    places = [(across.place(x), up.place(y)) for x, y in sorted(line)]
    yield places[0]
    for (_, before), (x, y) in pairwise(places):
        yield x, before
        yield x, y


def _dot(dot: Dot, across: _Axis, up: _Axis) -> str:
    place = f'cx="{across.place(dot.x):.1f}" cy="{up.place(dot.y):.1f}"'
    drawn = f'<circle class="{escape(dot.css, quote=True)}" {place} r="4"><title>{escape(dot.words)}</title></circle>'
    return drawn + (_label(dot, across, up) if dot.label else "")


def _label(dot: Dot, across: _Axis, up: _Axis) -> str:
    """Below it, on the side where there is more room: what is cheaper than the recommended one is seldom there."""
    x, y = across.place(dot.x), up.place(dot.y)
    to_the_left = x > (LEFT + WIDTH - RIGHT) / 2
    side = f'x="{x - 8:.1f}" text-anchor="end"' if to_the_left else f'x="{x + 8:.1f}"'
    return f'<text class="label" {side} y="{y + 14:.1f}">{escape(dot.label)}</text>'
