"""What `training` of a job may hold: keys of the estimate contract that a Strategy carries. Where the others are said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from planner.asking.case import KEYS, Case, check_quant, read_case
from planner.asking.request import RequestError
from planner.asking.rules import AUTO
from planner.methods import METHODS, QLORA, supported_methods
from planner.nearest import nearest
from planner.refusals import CaseError
from remote.contract import Strategy


class Home(msgspec.Struct, frozen=True):
    """Where a job says a key that is not one of its `training`."""

    option: str | None  # None: only a job file says it
    job_file: str


ELSEWHERE: Final[Mapping[str, Home]] = {
    "model": Home("--model", "`model:` at the top"),
    "task": Home(None, "`task:` at the top"),
    "gpu": Home("--gpu", "`gpus:` under `where:`"),
    "num_gpus": Home("--num-gpus", "`num_gpus:` under `where:`"),
    "gpu_memory_gib": Home("--gpu-budget", "`gpu_budget:` under `where:`"),
    "mean_seq_len": Home("--examples and --tokens", "`mean_tokens:` under `data:`"),
}
TRAINING_KEYS: Final = tuple(key for key in KEYS if key not in ELSEWHERE)


def check_training(model: str, training: Mapping[str, Any]) -> None:
    """Refuse what is wrong as a case, and what no Strategy carries: silently planning something else would be worse.

    `method: auto` is resolved before a case is read. Raises CaseError and RequestError.
    """
    said = {key: value for key, value in training.items() if (key, value) != ("method", AUTO)}
    try:
        case = read_case({"model": model} | said)
    except CaseError as error:
        if error.key not in training:
            _check_carried(training, model)  # what no job says has made another key wrong
        raise
    if case.method not in (*METHODS, QLORA):
        raise CaseError(
            "method", f"there is no method {case.method}", nearest(case.method, (AUTO, QLORA, *supported_methods()))
        )
    if case.method != QLORA and METHODS[case.method].trainable is None:
        asked = f"rentune estimate --model {model} --method {case.method} traces one step of it"
        raise CaseError("method", f"a plan reckons by closed forms, and method {case.method} has none", asked)
    check_quant(case.method, training.get("quant"))
    _check_carried(training, model)


def _check_carried(training: Mapping[str, Any], model: str) -> None:
    """Raise RequestError for a key that has another home in a job, or none."""
    defaults = msgspec.to_builtins(Case(model=model))
    for key, value in training.items():
        if key in ELSEWHERE:
            home = ELSEWHERE[key]
            hint = f"say it by {home.option or home.job_file}"
            raise RequestError(f"{key} is no key of `training` in a plan", hint=hint, place=("training", key))
        if key not in Strategy.__struct_fields__ and value != defaults.get(key):
            raise RequestError(
                f"a plan has no place for {key}={value}: the trainer does not know it",
                hint=f"leave {key} out, or ask `rentune estimate` for its memory",
                place=("training", key),
            )
