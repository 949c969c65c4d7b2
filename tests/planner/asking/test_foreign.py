"""Configs of other tools: each key is answered with the line that a job file has for it, and all of them at once."""

from __future__ import annotations

from typing import Any

import pytest

from planner.asking.data import DataFile, Lengths
from planner.asking.jobfile import KEYS_UNDER, asked_by, job_document
from planner.asking.jobfile.faults import read_through
from planner.asking.jobfile.foreign import FOREIGN, WITHOUT, foreign_hint
from planner.asking.jobfile.positions import JobFileError
from planner.asking.jobfile.sections import JobFile

AXOLOTL = """\
base_model: NousResearch/Meta-Llama-3-8B
load_in_4bit: true
load_in_8bit: false
adapter: qlora
lora_r: 32
lora_target_linear: true
sequence_len: 4096
sample_packing: true
micro_batch_size: 2
gradient_checkpointing: true
datasets:
  - path: chats.jsonl
    type: chat_template
"""


def measure(_file: DataFile) -> Lengths:
    return Lengths(num_rows=100, mean_tokens=1, max_tokens=1, profile=(), documents=False, basis="stated")


def refused(text: str) -> JobFileError:
    with pytest.raises(JobFileError) as error:
        asked_by(job_document(text, name="axolotl.yml"), measure=measure, choices=())
    return error.value


def test_all_keys_of_a_config_are_told_at_once_with_the_lines_to_write() -> None:
    sentence, *lines = str(refused(AXOLOTL)).splitlines()
    assert sentence == "axolotl.yml has 11 keys that no job file has there:"
    assert lines == [
        "  line 1, base_model: write `model: NousResearch/Meta-Llama-3-8B`",
        "  line 2, load_in_4bit: write `quant: nf4` under `training:`",
        "  line 3, load_in_8bit: leave it out",
        "  line 4, adapter: write `method: qlora` under `training:`",
        "  line 5, lora_r: write `rank: 32` under `training:`",
        "  line 6, lora_target_linear: write `target_modules: all-linear` under `training:`",
        "  line 7, sequence_len: write `seq_len: 4096` under `training:`",
        "  line 8, sample_packing: write `packing: true` under `data:`",
        "  line 9, micro_batch_size: write it under `training:`",
        "  line 10, gradient_checkpointing: write `gradient_checkpointing: non_reentrant` under `training:`",
        "  line 11, datasets: write `file: chats.jsonl` under `data:`",
    ]


def test_check_tells_each_by_itself_and_misses_no_model() -> None:
    """It is named, by another word."""
    told = [str(fault) for fault in read_through(AXOLOTL, name="axolotl.yml", measure=measure).faults]
    assert len(told) == 11
    assert told[0] == "axolotl.yml:1:1: there is no key base_model"
    assert not any("names no model" in fault for fault in told)


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("model_name_or_path", "Qwen/Qwen2.5-7B", "write `model: Qwen/Qwen2.5-7B`"),
        ("quantization_bit", 4, "write `quant: nf4` under `training:`"),
        ("cutoff_len", 2048, "write `seq_len: 2048` under `training:`"),
        ("per_device_train_batch_size", 8, "write `micro_batch_size: 8` under `training:`"),
        ("lora_target", "all", "write `target_modules: all-linear` under `training:`"),
        ("lora_target", "q_proj,v_proj", "write `target_modules: [q_proj, v_proj]` under `training:`"),
        ("num_train_epochs", 3.0, "write `epochs: 3.0` under `loop:`"),
        ("use_gradient_checkpointing", "unsloth", "write `gradient_checkpointing: offloaded` under `training:`"),
        ("val_set_size", 0.05, "write `held_out_rows: 200` under `data:`"),
        ("save_steps", 500, 'write `checkpoint_every: "500 steps"` under `loop:`'),
        ("flash_attn", "fa2", "write `attention: sdpa` under `training:`"),
        ("tf32", True, "write `tf32: true` under `loop:`"),
        ("tf32", False, "leave it out"),
        ("use_dora", False, "leave it out"),
        ("wandb_project", None, "leave it out"),
    ],
)
def test_a_key_s_value_is_ours(key: str, value: Any, hint: str) -> None:
    assert foreign_hint(key, value) == hint


def test_under_its_own_heading_the_heading_is_not_said_again() -> None:
    assert refused("model: 7b\ntraining: {lora_r: 8}").hint == "write `rank: 8`"
    assert refused("model: 7b\ntraining: {num_epochs: 2}").hint == "write `epochs: 2` under `loop:`"


def test_every_hint_names_a_key_that_a_job_file_has() -> None:
    """And none of its own words is taken for another tool's."""
    for key, ours in FOREIGN.items():
        known = KEYS_UNDER[ours.heading] if ours.heading else JobFile.__struct_fields__
        assert ours.key in known, key
    assert not set(FOREIGN) & set(WITHOUT)
    assert not (set(FOREIGN) | set(WITHOUT)) & set(JobFile.__struct_fields__)
