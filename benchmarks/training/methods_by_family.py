"""Each method of the planner's table on each of several families, trained for real on a CPU.

    python -m benchmarks.training.methods_by_family [--only FAMILY] [--write]

Whether it trains, every trainable tensor changes, the loss of one batch falls, the files give the trained model back, and the
planner counts what trains; or what refuses it before anything is rented.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from benchmarks.machine import RESULTS, describe_machine
from benchmarks.training.method_cases import FAMILIES, STEPS, Tried, refusal_of, tried
from planner.methods import supported_methods

RESULT: Final = RESULTS / "methods_by_family.md"
REFUSED: Final = "–"

Cells = Mapping[tuple[str, str], Tried | str]  # (method, family) → what came of it, or the refusal


def cells(families: tuple[str, ...]) -> Iterator[tuple[tuple[str, str], Tried | str]]:
    """One after the other, each told as it ends."""
    for family in families:
        for method in supported_methods():
            found = cell(family, method)
            print(f"{method} on {family}: {found}", file=sys.stderr, flush=True)
            yield (method, family), found


def cell(family: str, method: str) -> Tried | str:
    """What came of it, the refusal, or how it failed."""
    why = refusal_of(family, method)
    if why is not None:
        return why
    with tempfile.TemporaryDirectory() as folder:
        try:
            return tried(family, method, Path(folder))
        except Exception as error:  # noqa: BLE001 - the table says what fails, and the exit code
            return f"**failed: {type(error).__name__}: {str(error).splitlines()[0]}**"


def words_of(found: Tried | str) -> str:
    """A cell of the table: how many parameters train, and what is not as it should be."""
    if isinstance(found, str):
        return "**failed**" if found.startswith("**") else REFUSED
    wrong = [
        *[f"planner counts {found.planned_params:,}"] * (not found.counts_agree),
        *[f"{found.tensors - found.moved} of {found.tensors} tensors stayed"] * (not found.all_moved),
        *["the loss did not fall"] * (not found.learns),
    ]
    return f"{found.params:,}" + f" **{'; '.join(wrong)}**" * bool(wrong)


def is_whole(found: Tried | str) -> bool:
    """Whether a method does all that is looked at."""
    return isinstance(found, Tried) and found.counts_agree and found.all_moved and found.learns


def reasons(found: Cells) -> Iterator[str]:
    """Each refusal once, with what it is about."""
    about: dict[str, list[str]] = {}
    for (method, family), what in found.items():
        if isinstance(what, str):
            about.setdefault(what.rstrip("."), []).append(f"{method} on {family}")
    return (f"- {', '.join(places)}: {why}." for why, places in about.items())


def report(found: Cells) -> str:
    """The result file."""
    families = tuple(dict.fromkeys(family for _, family in found))
    methods = tuple(dict.fromkeys(method for method, _ in found))
    done = [what for what in found.values() if isinstance(what, Tried)]
    tasks = ", ".join(f"{family} {FAMILIES[family].task}" for family in families if FAMILIES[family].task != "causal_lm")
    lines = [f"| method | {' | '.join(families)} |", f"| --- |{' --- |' * len(families)}"]
    lines += [f"| {method} | {' | '.join(words_of(found[method, family]) for family in families)} |" for method in methods]
    off = max((what.off for what in done), default=0.0)
    found_of_all = (
        f"Of {len(found)} pairs {len(done)} train and {len(found) - len(done)} are refused before anything is rented. In "
        f"{sum(map(is_whole, done))} of the {len(done)} every trainable tensor changed, the loss of one batch fell over "
        f"{STEPS} steps, the files gave the trained model back (logits differ by at most {off:.1g} of the largest), and the "
        "planner counts the parameters that train. Bases of random weights with two blocks, in fp32; tasks: "
        f"{tasks}, the others causal_lm."
    )
    parts = (
        "# Each method on each family",
        describe_machine(),
        found_of_all,
        "\n".join(lines),
        f"A number: the parameters that train, by planner and trainer alike. {REFUSED}: refused, for these reasons.",
        "\n".join(reasons(found)),
        "By `python -m benchmarks.training.methods_by_family --write`.",
    )
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Print the table; 0 where nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--only", choices=tuple(FAMILIES), action="append", help="only this family")
    said = parser.parse_args()
    warnings.simplefilter("ignore")  # peft says things to nobody in particular
    logging.disable(logging.WARNING)
    found = dict(cells(tuple(said.only or FAMILIES)))
    text = report(found)
    print(text)
    if said.write:
        RESULT.write_text(text)
    return 0 if all(is_whole(what) for what in found.values() if isinstance(what, Tried) or what.startswith("**")) else 1


if __name__ == "__main__":
    sys.exit(main())
