"""docs/advice.md, made from the rules that the planner itself goes by. `make docs`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from planner.advise import (
    ADVISED_METHODS,
    BITS_PER_PARAMETER,
    BITS_PER_TOKEN,
    GLOBAL_BATCH_SIZE,
    LORA_DEFAULTS,
    METHOD_CHOICE,
    MINIMUM_STEPS,
    OF_STEPS,
)
from planner.choice.concessions import CONCESSIONS, REACH_WORDS
from planner.choice.recipes import MEANINGS, REGRET, RULES, SERVING_RULES, USE_CASES, Choice, Fact, Rule
from remote.contract import Loop

PAGE: Final = Path(__file__).parents[1] / "docs" / "advice.md"
BEGIN: Final = f"""\
# What the planner advises

Made from the code by `make docs`. What nobody says, the planner fills in; every choice stands with its reason and its source in
`plan --explain`, in `--json` (`choices` of each plan) and in a saved job file. Saying a key overrules it, each by itself.

`rentune plan --model 7b --use-case code --examples 5000` names what the job is for, or a job file does:

```yaml
purpose:
  use_case: code             # {", ".join(USE_CASES)}
  deployment: many_adapters  # many_adapters: on one base; merged: into it; edge: on a device that holds it in 4 bits
  accuracy: highest          # where the last point counts more than memory
  imbalance: 20              # rows of the commonest class for each of the rarest
```

Memory is no row below: how the base is held (16, 8 or 4 bits), checkpointing and micro-batch are what the search tries, and
takes the cheapest that fits. Without a use case nothing but the first table holds.

These are starting points. None of the papers tuned your data, and where two of them disagree (the schedule above all) the rule
follows the one whose task is nearest.
"""


OF_RULES: Final = ("where", "key", "value", "whose value", "why", "source")


def render_page() -> str:
    """The whole page."""
    loop = Loop()
    usual = (
        METHOD_CHOICE,
        *LORA_DEFAULTS,
        Choice(
            key="global_batch_size",
            value=GLOBAL_BATCH_SIZE,
            reason=f"as for 7B and 13B; halved until there are {MINIMUM_STEPS} steps",
            source=f"Dettmers et al., QLoRA, arXiv:2305.14314; the {MINIMUM_STEPS} steps are {OF_STEPS}",
        ),
        Choice(
            key="learning_rate",
            value=loop.learning_rate,
            reason="ten times that of full tuning, whatever the rank",
            source=REGRET,
        ),
    )
    later = (
        "A later row has the word over an earlier one. The rules on rank, dropout and how the base is held are about\n"
        f"{' and '.join(ADVISED_METHODS)}, whether the planner chose the method or somebody said it."
    )
    capacity = (
        "With a use case, and unless the rank is said, it is at least the lowest power of two whose trained numbers hold\n"
        f"what one pass over the data tells: {BITS_PER_TOKEN} bit a token, {BITS_PER_PARAMETER} bits a number ({REGRET}).\n"
        "What the place of its answers can bear comes after that."
    )
    conceded = (
        "Nothing of this is given up to save money. Where no machine does the job as asked (memory, money, hours) the search\n"
        "goes down these steps, tells the first with which one does, what it goes against and why, and prints the command\n"
        "that takes it. What was said, and not advised, comes after every other wish that may be given up."
    )
    return (
        "\n\n".join(
            (
                BEGIN.rstrip(),
                "## Where nothing is known",
                _table(("key", "value", "why", "source"), (_row(choice) for choice in usual)),
                "## What the job is for",
                later,
                _table(OF_RULES, (_ruled(rule) for rule in RULES)),
                capacity,
                "## Where it will answer",
                _table(OF_RULES, (_ruled(rule) for rule in SERVING_RULES)),
                "## Where nothing can be run as advised",
                conceded,
                _table(
                    ("rank at most", "adapters on", "what it means", "source"),
                    ((f"{row.rank}", REACH_WORDS[row.reach], row.reason, row.source) for row in CONCESSIONS),
                ),
            )
        )
        + "\n"
    )


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *rows))


def _row(choice: Choice) -> tuple[str, ...]:
    return (f"`{choice.key}`", f"{choice.value}", choice.reason, choice.source)


def _ruled(rule: Rule) -> tuple[str, ...]:
    where = "; ".join(_words(fact, named) for fact, named in rule.when.items() if named != USE_CASES)
    value = str(rule.value) if rule.bound == "is" else f"{rule.bound} {rule.value}"
    return (where, f"`{rule.key}`", value, rule.basis, rule.reason, rule.source)


def _words(fact: Fact, named: tuple[str, ...]) -> str:
    figures = [MEANINGS[fact, word] for word in named if (fact, word) in MEANINGS]
    return " or ".join(figures) if figures else f"{fact.replace('_', ' ')}: {' or '.join(named)}"
