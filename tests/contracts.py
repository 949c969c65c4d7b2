"""The values that cross a border, by the name of their schema file, and the schemas written out: `make docs`.

The job file has its own beside the planner's tests.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from planner.explain import Explanation
from planner.plan import Plan, SearchResult
from planner.search.bases import BasesHeld
from provision.account.lines import AnyLine
from provision.account.receipt.calibration import Calibration
from provision.account.receipt.value import Receipt
from provision.commands.ending import EndedRun
from provision.envelope import Envelope
from provision.seam import Box, Owned, Teardown
from provision.watch.alerts import Alert
from remote.contract import Event, JobSpec, Outcome, Strategy

SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas"
CONTRACTS: dict[str, Any] = {
    "strategy": Strategy,
    "job-spec": JobSpec,
    "event": Event,
    "outcome": Outcome,
    "plan": Plan,
    "plan-answer": SearchResult,
    "bases-answer": BasesHeld,
    "explanation": Explanation,
    "box": Box,
    "teardown": Teardown,
    "ended-run": EndedRun,
    "owned": Owned,
    "ledger-line": AnyLine,
    "receipt": Receipt,
    "calibration-row": Calibration,
    "alert": Alert,
    "envelope": Envelope,
}


def render_schema(name: str) -> str:
    """The JSON schema of one contract, without what only concerns Python."""
    schema = msgspec.json.schema(CONTRACTS[name])
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"rentune {name}", **schema}
    # A class without a docstring lends msgspec its base's; such a description says nothing about the value.
    return re.sub(r'\n +"description": "Base of every value[^\n]*', "", json.dumps(schema, indent=1, sort_keys=True)) + "\n"


def main() -> None:
    """Write every schema."""
    for name in CONTRACTS:
        (SCHEMAS / f"{name}.schema.json").write_text(render_schema(name))


if __name__ == "__main__":
    main()
