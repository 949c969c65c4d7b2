"""The time line of a step as stacked areas in one SVG: no script, no font, both themes by its own style."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

from planner.course import Course
from planner.estimators.stretches import Stretch, TimeLine
from planner.units import GIB
from provision.report.plot import ticks

WIDTH, HEIGHT = 960, 520  # of the picture: a choice
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 84, 112
LEAST_STRETCH_WIDTH: Final = 74  # pixels; room for the word above it
PEAK_WIDTH: Final = 90  # pixels of its words
LEGEND_COLUMN_WIDTH: Final = 176
LEGEND_ROW_HEIGHT: Final = 18  # pixels: a choice, as all of these are

# From what lies still, at the bottom, to what comes and goes; a colour each for the light and the dark theme.
COLOURS: Final[dict[str, tuple[str, str]]] = {
    "weights": ("#4a6fa5", "#6f95cf"),
    "gathered_weights": ("#7f9cc4", "#93b0dc"),
    "adapter": ("#1b7f79", "#3fb5ac"),
    "optimizer": ("#6b4c9a", "#a386d6"),
    "buckets": ("#8d6e63", "#b79a8f"),
    "workspaces": ("#5f6a72", "#9aa7b0"),
    "inputs": ("#94a3ad", "#c3ced6"),
    "gradients": ("#c2410c", "#ff9d66"),
    "activations": ("#2e8b57", "#6fcf97"),
    "autocast_copies": ("#a3a300", "#d6d65c"),
    "logits": ("#b3261e", "#ff8a80"),
    "temporaries": ("#d99a00", "#ffd166"),
    "kernel_scratch": ("#c04f8f", "#f29ac8"),
}
PAGE_STYLE: Final = (
    ":root{color-scheme:light dark}body{margin:0;background:#fbfbfa}svg{display:block;max-width:80rem;margin:0 auto}"
    "@media(prefers-color-scheme:dark){body{background:#14181b}}"
)
STYLE: Final = (
    "svg{{--ground:#fbfbfa;--ink:#1d2327;--soft:#5d6972;--line:#d9dee2;{light}}}"
    "@media(prefers-color-scheme:dark){{svg{{--ground:#14181b;--ink:#e7ebee;--soft:#9aa7b0;--line:#333c43;{dark}}}}}"
    "text{{font:13px system-ui,sans-serif;fill:var(--soft)}}.title{{font-size:16px;font-weight:600;fill:var(--ink)}}"
    ".grid{{stroke:var(--line)}}.stage{{stroke:var(--soft);stroke-dasharray:2 3}}"
    ".reserved{{fill:none;stroke:var(--ink);stroke-width:1.5;stroke-dasharray:5 3}}"
    ".card{{stroke:var(--ink);stroke-width:2}}.required{{stroke:var(--ink);stroke-dasharray:8 4}}"
    ".strong{{fill:var(--ink);font-weight:600;paint-order:stroke;stroke:var(--ground);stroke-width:3px}}"
)


def render_page(course: Course) -> str:
    """The picture in a document of its own."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(_title(course))}</title><style>{PAGE_STYLE}</style></head>"
        f"<body>{render_svg(course)}</body></html>\n"
    )


def render_svg(course: Course) -> str:
    """An `<svg>` that stands for itself: what is allocated, by component, what is reserved, and what the card has."""
    line, title, subtitle = course.line, _title(course), _subtitle(course)
    frame = _frame(line, course.available_bytes, course.required_bytes)
    parts = [
        f"<style>{_style()}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--ground)"/>',
        _text(LEFT, 24, title, css="title"),
        _text(LEFT, 44, subtitle),
        *_grid(frame),
        *_areas(line, frame),
        *_stages(line, frame),
        *_reserved(line, frame),
        *_level(course.required_bytes, frame, "required", at=WIDTH - RIGHT - 6, anchor="end", css="required"),
        *_level(course.available_bytes, frame, "the card has", at=LEFT + 6, anchor="start", css="card"),
        *_peak(line, frame),
        *_legend(line),
    ]
    label = escape(f"{title}. {subtitle}", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>\n"
    )


def _title(course: Course) -> str:
    return f"GPU memory over one training step of {course.model}"


def _subtitle(course: Course) -> str:
    """What the horizontal axis is: never time."""
    if course.untraced is not None:
        return f"The closed form's instants, since {course.untraced}."
    return f"{course.line.num_events:,} events of a traced step, in their order; widths are numbers of events, not of seconds."


class _Frame(NamedTuple):
    """Pixels: of the left and right edge of each point, and per byte."""

    edges: tuple[tuple[float, float], ...]
    top_bytes: float

    def y(self, num_bytes: float) -> float:
        return HEIGHT - BOTTOM - num_bytes / self.top_bytes * (HEIGHT - TOP - BOTTOM)


def _frame(line: TimeLine, card_bytes: int | None, required_bytes: int | None) -> _Frame:
    """Each stretch as wide as its points ask for, but none too narrow for its name."""
    peak = max(*line.allocated, *line.reserved, required_bytes or 0, 0)
    shown = card_bytes if card_bytes is not None and card_bytes <= 4 * peak else 0  # far above, it would flatten all else
    return _Frame(tuple(_edges(line.stretches)), 1.06 * max(peak, shown))


def _edges(stretches: Sequence[Stretch]) -> Iterator[tuple[float, float]]:
    room = WIDTH - LEFT - RIGHT - LEAST_STRETCH_WIDTH * len(stretches)
    num_points = sum(stretch.end - stretch.start for stretch in stretches)
    x = float(LEFT)
    for stretch in stretches:
        points = stretch.end - stretch.start
        each = (LEAST_STRETCH_WIDTH + max(0.0, room) * points / num_points) / points
        for _ in range(points):
            yield x, x + each
            x += each


def _style() -> str:
    light, dark = ("".join(f"--{name}:{shades[theme]};" for name, shades in COLOURS.items()) for theme in range(2))
    return STYLE.format(light=light, dark=dark)


def _text(x: float, y: float, words: str, *, css: str = "", anchor: str = "start") -> str:
    named = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(words)}</text>'


def _grid(frame: _Frame) -> Iterator[str]:
    for value in ticks(0.0, frame.top_bytes / GIB):
        y = frame.y(value * GIB)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(LEFT - 8, y + 4, f"{value:g}", anchor="end")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">GiB</text>'


def _stacked(line: TimeLine) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Each component with the sums below and above it."""
    below = (0,) * len(line.allocated)
    for name in sorted(line.components, key=list(COLOURS).index):
        above = tuple(low + size for low, size in zip(below, line.components[name], strict=True))
        yield name, below, above
        below = above


def _areas(line: TimeLine, frame: _Frame) -> Iterator[str]:
    for name, below, above in _stacked(line):
        there = _steps(above, frame)
        back = [*reversed(_steps(below, frame))]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*there, *back))
        words = f"{_words(name)}: at most {max(line.components[name]) / GIB:.2f} GiB"
        yield f'<polygon fill="var(--{name})" points="{points}"><title>{escape(words)}</title></polygon>'


def _steps(sizes: Sequence[int], frame: _Frame) -> list[tuple[float, float]]:
    """Memory changes by steps: level over a point, upright between two. What lies on a level line is left out."""
    corners = [(x, frame.y(size)) for (left, right), size in zip(frame.edges, sizes, strict=True) for x in (left, right)]
    inner = zip(corners, corners[1:], corners[2:], strict=False)
    return [corners[0], *(here for before, here, after in inner if not before[1] == here[1] == after[1]), corners[-1]]


def _stages(line: TimeLine, frame: _Frame) -> Iterator[str]:
    for stretch in line.stretches:
        left, right = frame.edges[stretch.start][0], frame.edges[stretch.end - 1][1]
        if stretch.start:
            yield f'<line class="stage" x1="{left:.1f}" x2="{left:.1f}" y1="{TOP - 18}" y2="{HEIGHT - BOTTOM}"/>'
        yield _text((left + right) / 2, TOP - 8, _words(stretch.instant).removeprefix("optimizer "), anchor="middle")


def _reserved(line: TimeLine, frame: _Frame) -> Iterator[str]:
    if line.reserved:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in _steps(line.reserved, frame))
        yield f'<polyline class="reserved" points="{points}"><title>reserved by the caching allocator</title></polyline>'


def _level(num_bytes: int | None, frame: _Frame, name: str, *, at: float, anchor: str, css: str) -> Iterator[str]:
    """A line across, named on its own side: the two may lie close to one another."""
    if num_bytes is not None and num_bytes <= frame.top_bytes:
        y = frame.y(num_bytes)
        yield f'<line class="{css}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(at, y - 5, f"{name} {num_bytes / GIB:.2f}", css="strong", anchor=anchor)


def _peak(line: TimeLine, frame: _Frame) -> Iterator[str]:
    allocated = line.allocated
    at = max(range(len(allocated)), key=allocated.__getitem__)
    x, y = sum(frame.edges[at]) / 2, frame.y(allocated[at])
    inside = min(max(x, LEFT + PEAK_WIDTH / 2), WIDTH - RIGHT - PEAK_WIDTH / 2)
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="var(--ink)" stroke="var(--ground)"/>'
    yield _text(inside, y - 9, f"peak {allocated[at] / GIB:.2f}", css="strong", anchor="middle")


def _legend(line: TimeLine) -> Iterator[str]:
    """Every component with what it takes at the peak, and the line of what is reserved."""
    allocated = line.allocated
    at = max(range(len(allocated)), key=allocated.__getitem__)
    yield _text(LEFT, HEIGHT - BOTTOM + 24, "GiB at the peak:")
    entries = [(name, f"{_words(name)} {line.components[name][at] / GIB:.2f}") for name, *_ in _stacked(line)]
    for number, (name, words) in enumerate(entries):
        x, y = _legend_place(number)
        yield f'<rect x="{x}" y="{y - 10}" width="12" height="12" rx="2" fill="var(--{name})"/>'
        yield _text(x + 18, y, words)
    if line.reserved:
        x, y = _legend_place(len(entries))
        yield f'<line class="reserved" x1="{x}" x2="{x + 14}" y1="{y - 4}" y2="{y - 4}"/>'
        yield _text(x + 18, y, f"reserved {max(line.reserved) / GIB:.2f}")


def _legend_place(number: int) -> tuple[int, int]:
    per_row = (WIDTH - LEFT - RIGHT) // LEGEND_COLUMN_WIDTH
    row, column = divmod(number, per_row)
    return LEFT + column * LEGEND_COLUMN_WIDTH, HEIGHT - BOTTOM + 46 + row * LEGEND_ROW_HEIGHT


def _words(name: str) -> str:
    return name.replace("_", " ")


RENDERERS: Final[Mapping[str, Callable[[Course], str]]] = {".svg": render_svg, ".html": render_page}  # by a file's suffix
