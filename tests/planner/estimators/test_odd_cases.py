"""Cases that nobody would write on purpose: odd shapes and odd values are answered by the schema, or refused with a way out."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some
from jsonschema import Draft202012Validator

from catalogs.bases.models import registry
from catalogs.catalog import read_catalog
from planner.estimate import answers
from planner.methods import supported_methods

CATALOG = read_catalog()
SCHEMA = json.loads((files("planner") / "estimate.schema.json").read_text())
ANSWER = Draft202012Validator({**SCHEMA, "$ref": "#/$defs/answer"})
RULES: dict[str, Any] = SCHEMA["$defs"]["case"]["properties"]
BASES = [row.config for row in registry()]
STRANGE_KEYS = ("num_key_value_heads", "head_dim", "layer_types", "text_config", "quantization_config", "sliding_window")

ODD: some.SearchStrategy[Any] = some.one_of(
    some.sampled_from([0, 1, -1, 3, 7, 10**8, 10**30, 1e308, float("nan"), float("inf"), True, None, "", "x", "1"]),
    some.sampled_from([[], {}, [1], {"a": 1}, ["full_attention"]]),
)


@some.composite
def bases(draw: some.DrawFn) -> dict[str, Any]:
    """A config of the registry, in which up to three keys say something else or nothing."""
    config = dict(draw(some.sampled_from(BASES)))
    for _ in range(draw(some.integers(0, 3))):
        key = draw(some.sampled_from([*config, *STRANGE_KEYS]))
        config[key] = draw(ODD)
    return config


def _value(key: str) -> some.SearchStrategy[Any]:
    rule = RULES[key]
    if key == "method":
        return some.sampled_from([*supported_methods(), "qlora", "auto"])
    if "enum" in rule:
        return some.sampled_from(rule["enum"])
    if rule.get("type") == "boolean":
        return some.booleans()
    if rule.get("type") == "integer":
        return some.sampled_from([1, 2, 3, 8, 4_096, 100_000])
    return ODD


@some.composite
def cases(draw: some.DrawFn) -> dict[str, Any]:
    """Such a base, with up to five keys that take what their rule admits or what nobody does."""
    said = {"model": draw(bases()), "gpu": draw(some.sampled_from(["T4", "H100 SXM5", "MI300X"])), "seq_len": 64}
    keys = [key for key in RULES if key not in ("model", "engine", "id")]
    for key in draw(some.lists(some.sampled_from(keys), max_size=5, unique=True)):
        said[key] = draw(_value(key) if draw(some.booleans()) else ODD)
    return said | {"engine": "closed_form"}


@settings(max_examples=150, deadline=None)
@given(cases())
def test_an_odd_case_is_answered_by_the_schema_or_refused_in_a_sentence_with_a_way_out(case: dict[str, Any]) -> None:
    (made,) = answers([json.dumps(case).encode()], CATALOG, None)
    ANSWER.validate(made)
    json.dumps(made, allow_nan=False)
    if "error" in made:
        refused = made["error"]
        assert "can't be answered" not in refused["message"]  # which is what nobody foresaw
        assert refused["message"]
        assert refused["hint"]
        return
    vram = made["vram"]
    assert sum(vram["components"].values()) == vram["allocated_peak_bytes"] > 0
    assert min(vram["components"].values()) >= 0
    assert vram["allocated_peak_bytes"] <= vram["reserved_peak_bytes"] <= vram["process_peak_bytes"]
    assert made["trainable_params"] > 0
