"""The lines of `benchmarks.streaming.campaign` as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

GB: Final = 1e9
WARM_UP: Final = 2  # steps of an arm that pay for what comes once

Line = Mapping[str, Any]


def table(lines: Sequence[Line]) -> str:
    """All tables, each with what was left out of it."""
    parts = [_gradients([line for line in lines if line["kind"] == "gradients"])]
    parts.append(_trained([line for line in lines if line["kind"] in ("trained", "large")]))
    parts.append("\n".join(f"- {line['name']}: {line[key]}" for line in lines for key in ("left_out", "failed") if key in line))
    return "\n\n".join(part for part in parts if part)


def _gradients(lines: Sequence[Line]) -> str:
    rows = [
        f"| {line['name']} | {line['arm']} | {'equal' if line['must_equal'] else 'unequal'} | "
        f"{line['unequal']} of {line['tensors']} | {line['largest_difference']:.2g} | "
        f"{'yes' if line['as_it_must_be'] else 'NO'} |"
        for line in lines
        if "arm" in line
    ]
    head = "| blocks of | arm | must be | tensors that differ | by at most (of the largest entry) | as it must be |"
    return "\n".join([head, "| --- | --- | --- | --- | --- | --- |", *rows]) if rows else ""


def _trained(lines: Sequence[Line]) -> str:
    rows = [_row(line) for line in lines if "steps" in line]
    head = (
        "| model | arm | tokens | resident blocks | step s | tokens/s | planned step s (p10, p50, p90) | peak GB "
        "| planned GB | fetched GB | link GB/s | host GB | planned GB |"
    )
    return "\n".join([head, "| --- " * 13 + "|", *rows]) if rows else ""


def _row(line: Line) -> str:
    steps = line["steps"][WARM_UP:] or line["steps"]
    seconds = [step["step_s"] for step in steps]
    step_s = statistics.median(seconds)
    plan, built, streaming = line["planned"], line["built"], line["strategy"].get("streaming")
    host = (built.get("streamed") or {}).get("host_bytes")
    cells = (
        line["name"],
        line["arm"],
        f"{steps[0]['tokens']:,}",
        streaming["num_resident_blocks"] if streaming else "all",
        f"{step_s:.3f} ({min(seconds):.3f} to {max(seconds):.3f}, {len(seconds)} steps)",
        f"{steps[0]['tokens'] / step_s:,.0f}",
        ", ".join(f"{each:.3f}" for each in plan["step_s"]) if "step_s" in plan else "-",
        _gb(steps[-1]["peak_bytes"]),
        _gb(plan["allocated_peak_bytes"]),
        _gb(steps[-1]["fetched_bytes"]),
        _gb(built.get("link_bytes_per_s")),
        _gb(host),
        _gb(plan["host_blocks_bytes"]),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _gb(num_bytes: float | None) -> str:
    return "-" if num_bytes is None else f"{num_bytes / GB:.2f}"
