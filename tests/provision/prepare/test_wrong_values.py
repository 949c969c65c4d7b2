"""A wrong value of a job file: one sentence with file, line and column, and what to type instead, under whatever key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from catalogs.failure import Failure
from planner.asking.jobfile.sections import HEADINGS
from provision.prepare.choosing import KeyQuestion, choose_plan
from tests.planner.builders import parsed

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/job-file.schema.json").read_text())
OF_RUN: dict[str, Any] = {"assume_price": None, "host_key": None, "keep_box_on_failure": False, "as_json": True}

# Under each key of the schema one value or more that nobody can mean.
WRONG: dict[str, tuple[str, ...]] = {
    "version": ("2", "new"),
    "model": ("modle-7b", "13.5b", "7", "missing/config.json.d"),
    "revision": ('""', "5"),
    "task": ("causal",),
    "tags": ("{a: 1}", "[a]", "{rentune-x: a}", '{"": a}'),
    "training": ("5", "[rank]"),
    "loop": ("fast",),
    "data": ("rows.jsonl",),
    "purpose": ("chat",),
    "budget": ("5",),
    "where": ("3",),
    "keep": ("adapter",),
    "training.id": ("5",),
    "training.objective": ("sftt", "dpo"),
    "training.method": ("lorra", "5", "randlora"),
    "training.rank": ("-1", "1e400", "eight", "1.5"),
    "training.alpha": ("1e400", ".nan", "-2"),
    "training.dropout": ("2", "none"),
    "training.target_modules": ("[q_prj]", "q_prj", "[]", "5", "all_linear"),
    "training.modules_to_save": ("[lm_haed]", "lm_head"),
    "training.num_virtual_tokens": ("0",),
    "training.trainable_layers": ("0", "all"),
    "training.method_options": ("{foo: 1}", "4", "{layers_to_transform: [400]}"),
    "training.vision": ("{foo: 1}", "{image_tokens: 4}"),
    "training.quant": ("nf5", "int3"),
    "training.double_quant": ("3",),
    "training.quantized_experts": ("yes",),
    "training.quant_storage": ("uint9",),
    "training.kbit_upcast": ("all",),
    "training.param_dtype": ("bf16",),
    "training.autocast": ("bf16",),
    "training.matmul_dtype": ("fp4",),
    "training.adapter_dtype": ("fp32",),
    "training.optimizer": ("adam",),
    "training.optimizer_in_backward": ("1",),
    "training.micro_batch_size": ("0", "1.5", "1e400"),
    "training.gradient_accumulation_steps": ("99999999999",),
    "training.global_batch_size": ("0", "many", "1e400"),
    "training.seq_len": ("10000000", "512k"),
    "training.padded": ("maybe",),
    "training.gradient_checkpointing": ("on", "true"),
    "training.activation_offload": ("2",),
    "training.attention": ("flash",),
    "training.loss": ("cross_entropy",),
    "training.kernels": ("triton",),
    "training.keep_outputs": ("everything",),
    "training.evaluation": ("off", "{micro_batch: 2}"),
    "training.num_nodes": ("0", "2"),
    "training.interconnect": ("ib",),
    "training.sharding": ("zero", "fully"),
    "training.tensor_parallel_size": ("0", "2"),
    "training.context_parallel_size": ("0",),
    "training.pipeline_parallel_size": ("0",),
    "training.expert_parallel_size": ("0",),
    "training.offload": ("cpu",),
    "training.host_ram_gib": ("0", "64GB"),
    "training.stack": ("peft",),
    "training.versions": ("{torch: 2}",),
    "training.engine": ("closed",),
    "loop.epochs": ("1e400", "-1", "three"),
    "loop.max_steps": ("0", "1e400"),
    "loop.learning_rate": ("fast", "-1", ".nan"),
    "loop.schedule": ("cosinus",),
    "loop.cycles": ("0", "many"),
    "loop.warmup_ratio": ("2", "10%"),
    "loop.warmup_steps": ("-1", "half"),
    "loop.warmup_epochs": ("-1", "one"),
    "loop.weight_decay": ("-1",),
    "loop.max_grad_norm": ("0",),
    "loop.seed": ("-1", "1e400"),
    "loop.tf32": ("fast", "1"),
    "loop.cuda_graphs": ("often", "1"),
    "loop.report_to": ("[mlflow]", "tensorboard"),
    "loop.row_order": ("sorted",),
    "loop.evaluations": ("many", "-1"),
    "loop.best_by": ("f1",),
    "loop.early_stopping_evaluations": ("0",),
    "loop.early_stopping_min_delta": ("-1", "some"),
    "loop.on_spike": ("ignore",),
    "loop.checkpoint_every_s": ("2m", "0"),
    "loop.checkpoint_every": ("often", "0 steps", "5"),
    "loop.keep_checkpoints": ("1", "all"),
    "loop.init_adapter": ("nowhere", "5"),
    "loop.layers": ("[]", "[500]", "[-1]", '"0-3"', "[1, x]", "3"),
    "loop.num_samples": ("-1",),
    "loop.sample_tokens": ("-1", "long"),
    "data.file": ("nowhere.jsonl", "5", "*.csv"),
    "data.held_out": ("nowhere.jsonl",),
    "data.held_out_rows": ("-4", "10%"),
    "data.format": ("jsonl",),
    "data.columns": ("prompt", "{txt: prompt}", "{text: nowhere}", "{label: prompt}", "{text: 5}"),
    "data.max_rows": ("0", "1e400"),
    "data.long_rows": ("chop", "true"),
    "data.chat_template": ("nowhere.jinja", "5"),
    "data.target_tokens": ("0", "long"),
    "data.packing": ("apart", "5"),
    "data.balance": ("heavy", "true"),
    "data.examples": ("1k", "1e400", "0"),
    "data.mean_tokens": (".inf", "0"),
    "data.max_tokens": ("20.5", "5"),
    "purpose.use_case": ("chatting",),
    "purpose.deployment": ("cloud",),
    "purpose.accuracy": ("high",),
    "purpose.imbalance": ("0", ".inf"),
    "budget.max_cost": ("5 dollars", "1e400", ".nan", "-5"),
    "budget.max_hours": ("2h", "1e400", "0"),
    "budget.lease": ("soon", "5m", "0", "1e400", "[2h]"),
    "budget.goal": ("cheap",),
    "where.gpu_budget": ("1e400", "-5", "0", "lots", "9999999999999999999999GB", "[24]"),
    "where.gpus": ("A100", "[A1100]", "[L4, L5]", "[24GB]", "[4]"),
    "where.num_gpus": ("0", "two"),
    "where.providers": ("aws", "[amazn]", "[5]"),
    "where.regions": ("[us-esat-1]", "us-*"),
    "where.instance_types": ("[g5.xlarg]", "g5.xlarge"),
    "where.spot": ("yes", "1"),
    "where.offload_disk": ("yes", "1"),
    "where.host": ('"user@"', "a b@c", "5"),
    "where.allow_from": ("[1.2.3]", "[0.0.0.0/0]", "192.0.2.7"),
    "where.power_price": ("cheap", "1e400", "-1"),
    "keep.adapter": ("5", "/proc/adapter"),
    "keep.box_on_failure": ("yes",),
    "keep.volume_name": ("A B", "5"),
    "keep.environment": ("no",),
}
INSTEAD_OF_A_FILE = {"data.file", "data.examples", "data.mean_tokens", "data.max_tokens"}
ROWS = [pytest.param(key, value, id=f"{key}: {value}") for key, values in WRONG.items() for value in values]


def keys_of_the_schema() -> set[str]:
    """Every key, with its section before it."""
    top = SCHEMA["$defs"]["JobFile"]["properties"]
    found = set(top)
    for section in HEADINGS - {"tags"}:
        reference = top[section]
        reference = reference.get("allOf", [reference])[0] if "$ref" not in reference else reference
        lines = SCHEMA["$defs"][reference["$ref"].rpartition("/")[2]] if "$ref" in reference else reference
        found |= {f"{section}.{key}" for key in lines["properties"]}
    return found


def test_every_key_of_the_schema_has_a_wrong_value_here() -> None:
    """A new key has to say what is wrong under it."""
    assert WRONG.keys() == keys_of_the_schema()


def job_with(key: str, value: str) -> tuple[str, int]:
    """A job that could be run but for one value, and the line on which that stands."""
    section, _, name = key.rpartition(".")
    text = [] if key == "model" else ["model: HuggingFaceTB/SmolLM2-135M"]
    text += [] if key == "data" or key in INSTEAD_OF_A_FILE else ["data:", "  file: rows.jsonl"]
    text += [f"{section}:"] if section and f"{section}:" not in text else []
    text += [f"  {name}: {value}" if section else f"{key}: {value}"]
    return "\n".join(text) + "\n", len(text)


@pytest.mark.parametrize(("key", "value"), ROWS)
def test_a_wrong_value_is_told_with_its_place_and_what_to_type(
    key: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `run`, which asks all that `plan` asks, before anything is rented."""
    text, line = job_with(key, value)
    (tmp_path / "job.yaml").write_text(text)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "What?", "completion": "That."}\n' * 20)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure) as refused:
        choose_plan(parsed("job.yaml") | OF_RUN, KeyQuestion(None, ask=None))
    assert refused.value.message.startswith(f"job.yaml:{line}:"), refused.value.message
    assert refused.value.message.count("\n") == 0
    assert refused.value.hint, refused.value.message
