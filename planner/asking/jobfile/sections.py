"""What a job file may hold: its sections as types, and its schema."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from planner.asking.request import JOB_PLACES, Keep, Purpose
from planner.asking.training_keys import TRAINING_KEYS
from planner.choice.goals import CHEAPEST, Goal
from remote.contract import Loop, Reading, Task

JOB_FILE_VERSION: Final = 1


class DataSection(Reading, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`data:` a file, whose rows are counted, or the size of one."""

    file: str | tuple[str, ...] | None = None
    held_out: str | None = None
    held_out_rows: int | None = None
    examples: int | None = None
    mean_tokens: float | None = None
    max_tokens: int | None = None


class BudgetSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`budget:` dollars and hours that the plan keeps at its p90, the goal within them, and how long nobody need be there."""

    max_cost: Decimal | None = None
    max_hours: float | None = None
    lease: str | float | None = None
    goal: Goal = CHEAPEST


class WhereSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`where:` what may be rented. Empty lists mean: any."""

    gpu_budget: str | float | None = None
    gpus: tuple[str, ...] = ()
    num_gpus: int | None = None
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    spot: bool | None = None
    host: str | None = None
    allow_from: tuple[str, ...] = ()
    offload_disk: bool = False
    power_price: Decimal | None = None


class JobFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Only `model` is needed."""

    version: Literal[1] = JOB_FILE_VERSION
    model: str
    revision: str | None = None
    task: Task = "causal_lm"
    training: dict[str, Any] = {}
    loop: Loop = msgspec.field(default_factory=Loop)
    data: DataSection = DataSection()
    purpose: Purpose = Purpose()
    budget: BudgetSection = BudgetSection()
    where: WhereSection = WhereSection()
    keep: Keep = Keep()
    tags: dict[str, str] = {}


SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "loop": Loop,
    "data": DataSection,
    "purpose": Purpose,
    "budget": BudgetSection,
    "where": WhereSection,
    "keep": Keep,
}
HEADINGS: Final = frozenset({*SECTIONS, "training", "tags"})  # keys that lines stand under
GLOBAL_BATCH_SIZE: Final = "global_batch_size"  # a key of the planner's own, beside those of the contract


def spelled(field: str, value: Any = None) -> str:
    """A field of the Request as a job file has it, with its value if there is one: "budget.max_cost: 5.00"."""
    key = ".".join(JOB_PLACES.get(field, (field,)))
    return key if value is None else f"{key}: {value}"


def job_schema(contract: Mapping[str, Any]) -> dict[str, Any]:
    """The job file as a JSON schema; `contract` is the estimate contract, whose keys `training:` takes."""
    schema = msgspec.json.schema(JobFile)
    keys = contract["$defs"]["case"]["properties"]
    definitions = schema["$defs"]
    for section in ("Loop", "Purpose", "Keep"):
        definitions[section]["additionalProperties"] = False
    definitions["BudgetSection"]["properties"]["max_cost"]["anyOf"].insert(0, {"type": "number", "minimum": 0})
    training = {key: keys[key] for key in TRAINING_KEYS} | {GLOBAL_BATCH_SIZE: {"type": "integer", "minimum": 1}}
    definitions["JobFile"]["properties"]["training"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": training,
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "rentune job file", **schema}
