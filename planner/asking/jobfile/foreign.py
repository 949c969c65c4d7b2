"""Keys of other tools' training configs, and what a job file calls them: Axolotl's, LLaMA-Factory's, TRL's and Unsloth's.

Key maps as those tools' sources had them in 2026-07 and 2026-08 (axolotl 0.18, LLaMA-Factory 0.9.6, TRL 1.10).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from catalogs.failure import KeyPath
from planner.asking.instead import Bare
from planner.asking.jobfile.lines import written

TOP: Final = ""  # of a job file, under no heading


class Ours(NamedTuple):
    """Where a job file says it. `value`: theirs as ours, or text to put one's own in the place of."""

    heading: str
    key: str
    value: Callable[[Any], Any] = lambda value: value


def _of(words: Mapping[Any, Any], otherwise: Any = None) -> Callable[[Any], Any]:
    """The word of ours for one of theirs; `otherwise`, else the same, for one that is none of these."""
    return lambda value: words.get(value, value if otherwise is None else otherwise) if _hashable(value) else otherwise


def _hashable(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _says(text: str) -> Callable[[Any], Any]:
    return lambda _value: Bare(text)


def _parted(value: Any) -> Any:
    """A list that is written as one text."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) and value != "all-linear" else value


def _rows(value: Any) -> Any:
    """The file of a list of data sets, of one, or of a name that stands in another file."""
    first = value[0] if isinstance(value, list) and value else value
    path = first.get("path") if isinstance(first, dict) else first
    return path if isinstance(path, str) and "." in path else Bare("FILE.jsonl")


def _held_out(value: Any) -> Any:
    """A job file counts rows; a share of them is for whoever knows how many there are."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else Bare("200")


CHECKPOINTING: Final = {True: "non_reentrant", False: "off", "unsloth": "offloaded", "offload": "offloaded"}
KERNEL: Final = {"eager": "eager"}  # else sdpa: torch's own, of which the trainer makes use, is such a kernel too
OPTIMIZER: Final = {"adamw_bnb_8bit": "adamw_8bit", "adamw_hf": "adamw_torch", "adamw_torch_8bit": "adamw_8bit"}
SCHEDULE: Final = {"constant_with_warmup": "constant"}
DTYPES: Final = {"auto": "bfloat16", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
BITS: Final = {4: "nf4", 8: "int8", "4": "nf4", "8": "int8"}  # derived: bitsandbytes has one kind of each

_MODEL = Ours(TOP, "model")
_QUANT = Ours("training", "quant", _of(BITS))
_TARGETS = Ours("training", "target_modules", lambda value: "all-linear" if value == "all" else _parted(value))
_SAVED = Ours("training", "modules_to_save", _parted)
_DOUBLE = Ours("training", "double_quant")
_ATTENTION = Ours("training", "attention", _of(KERNEL, "sdpa"))
_FILE = Ours("data", "file", _rows)
_LENGTH = Ours("training", "seq_len")
_PACKS = Ours("data", "packing")
_EPOCHS = Ours("loop", "epochs")
_HELD_OUT = Ours("data", "held_out_rows", _held_out)
_LIGER = Ours("training", "loss", _says("liger"))
_SHARDS = Ours("training", "sharding", _says("zero3"))
_RATE = Ours("loop", "learning_rate")
_DORA, _RSLORA = (Ours("training", "method", _says(method)) for method in ("dora", "rslora"))

# their key -> ours; where two of these are one of ours, what the last says is meant by both
FOREIGN: Final[Mapping[str, Ours]] = {
    "base_model": _MODEL, "model_name_or_path": _MODEL, "model_name": _MODEL, "model_id": _MODEL,
    "adapter": Ours("training", "method"), "finetuning_type": Ours("training", "method"),
    "use_peft": Ours("training", "method", _says("lora")),
    "peft_use_dora": _DORA, "use_dora": _DORA, "peft_use_rslora": _RSLORA, "use_rslora": _RSLORA,
    "loraplus_lr_ratio": Ours("training", "method", _says("lora_plus")),
    "pissa_init": Ours("training", "method", _says("pissa")),
    "load_in_4bit": Ours("training", "quant", _of({False: "none"}, "nf4")),
    "load_in_8bit": Ours("training", "quant", _of({False: "none"}, "int8")),
    "quantization_bit": _QUANT, "bnb_4bit_quant_type": _QUANT, "quantization_type": _QUANT,
    "bnb_4bit_use_double_quant": _DOUBLE, "use_bnb_nested_quant": _DOUBLE, "double_quantization": _DOUBLE,
    "lora_r": Ours("training", "rank"), "lora_rank": Ours("training", "rank"), "r": Ours("training", "rank"),
    "lora_alpha": Ours("training", "alpha"), "lora_dropout": Ours("training", "dropout"),
    "lora_target_linear": Ours("training", "target_modules", _says("all-linear")), "lora_target_modules": _TARGETS,
    "lora_target": _TARGETS,
    "lora_modules_to_save": _SAVED, "additional_target": _SAVED,
    "freeze_trainable_layers": Ours("training", "trainable_layers"),
    "sequence_len": _LENGTH, "cutoff_len": _LENGTH, "max_seq_length": _LENGTH, "max_length": _LENGTH,
    "model_max_length": _LENGTH,
    "sample_packing": _PACKS, "packing": _PACKS, "neat_packing": _PACKS,
    "per_device_train_batch_size": Ours("training", "micro_batch_size"), "batch_size": Ours("training", "micro_batch_size"),
    "optimizer": Ours("training", "optimizer", _of(OPTIMIZER)), "optim": Ours("training", "optimizer", _of(OPTIMIZER)),
    "gradient_checkpointing": Ours("training", "gradient_checkpointing", _of(CHECKPOINTING)),
    "use_gradient_checkpointing": Ours("training", "gradient_checkpointing", _of(CHECKPOINTING)),
    "disable_gradient_checkpointing": Ours("training", "gradient_checkpointing", _of({True: "off", False: "non_reentrant"})),
    "flash_attention": _ATTENTION, "flash_attn": _ATTENTION, "attn_implementation": _ATTENTION,
    "xformers_attention": _ATTENTION,
    "sdp_attention": _ATTENTION, "use_liger_kernel": _LIGER, "enable_liger_kernel": _LIGER,
    "liger_fused_linear_cross_entropy": _LIGER,
    "bf16": Ours("training", "autocast", _says("bfloat16")), "fp16": Ours("training", "autocast", _says("float16")),
    "tf32": Ours("loop", "tf32", _of({"auto": True})),
    "dtype": Ours("training", "param_dtype", _of(DTYPES)), "torch_dtype": Ours("training", "param_dtype", _of(DTYPES)),
    "deepspeed": _SHARDS, "fsdp": Ours("training", "sharding", _says("fsdp")),
    "fsdp_config": Ours("training", "sharding", _says("fsdp")),
    "learning_rate": _RATE, "lr": _RATE, "num_epochs": _EPOCHS, "num_train_epochs": _EPOCHS,
    "lr_scheduler": Ours("loop", "schedule", _of(SCHEDULE)), "lr_scheduler_type": Ours("loop", "schedule", _of(SCHEDULE)),
    "gradient_clipping": Ours("loop", "max_grad_norm"), "early_stopping_patience": Ours("loop", "early_stopping_evaluations"),
    "save_total_limit": Ours("loop", "keep_checkpoints"),
    "save_steps": Ours("loop", "checkpoint_every", lambda value: f"{value} steps"),
    "group_by_length": Ours("loop", "row_order", _says("by_length")), "random_state": Ours("loop", "seed"),
    "evals_per_epoch": Ours("loop", "evaluations"), "resume_from_checkpoint": Ours("loop", "init_adapter"),
    "datasets": _FILE, "dataset": _FILE, "dataset_name": _FILE, "dataset_path": _FILE, "train_file": _FILE, "data_path": _FILE,
    "test_datasets": Ours("data", "held_out", _rows), "eval_dataset": Ours("data", "held_out", _rows),
    "val_set_size": _HELD_OUT, "val_size": _HELD_OUT, "max_samples": Ours("data", "max_rows"),
    "output_dir": Ours("keep", "adapter"), "base_model_revision": Ours(TOP, "revision"),
    "num_processes": Ours("where", "num_gpus"), "wandb_project": Ours("loop", "report_to", _says("[wandb]")),
}  # fmt: skip

_NOTHING = "leave it out"
_ALWAYS = "leave it out: it is always so here"
_BY_FILE = "leave it out: how rows are read follows from the file"
_BY_TYPE = "leave it out: it follows from the model"

# their key -> why a job file has none
WITHOUT: Final[Mapping[str, str]] = {
    "stage": "leave it out: completions are what is learned here; preferences (dpo, rm, ppo, kto) are not",
    "rl": "leave it out: completions are what is learned here; preferences (dpo, kto, grpo) are not",
    "do_train": _ALWAYS, "bf16_full_eval": _NOTHING, "strict": _NOTHING,
    "train_on_inputs": "leave it out: the answers alone are learned",
    "train_on_prompt": "leave it out: the answers alone are learned",
    "template": "leave it out: the base's own chat template is used; `chat_template` under `data:` names another",
    "chat_template": "write it under `data:` where it is a file, or leave it out: the base's own is used",
    "dataset_dir": _BY_FILE, "dataset_text_field": "write `columns: {text: NAME}` under `data:`, or leave it out",
    "dataset_prepared_path": _NOTHING, "preprocessing_num_workers": _NOTHING, "dataloader_num_workers": _NOTHING,
    "model_type": _BY_TYPE, "tokenizer_type": _BY_TYPE, "is_llama_derived_model": _BY_TYPE, "special_tokens": _BY_TYPE,
    "pad_to_sequence_len": "leave it out: rows are padded to the longest of their batch", "eval_sample_packing": _NOTHING,
    "logging_steps": _NOTHING, "logging_dir": _NOTHING, "plot_loss": _NOTHING, "overwrite_output_dir": _NOTHING,
    "overwrite_cache": _NOTHING,
    "save_strategy": _NOTHING, "save_only_model": _NOTHING, "saves_per_epoch": _NOTHING, "eval_strategy": _NOTHING,
    "evaluation_strategy": _NOTHING, "eval_steps": "write `evaluations: 4` under `loop:`: how many there are in all",
    "per_device_eval_batch_size": _NOTHING, "eval_batch_size": _NOTHING, "wandb_entity": _NOTHING, "wandb_watch": _NOTHING,
    "wandb_name": _NOTHING, "wandb_log_model": _NOTHING, "wandb_run_id": _NOTHING, "run_name": _NOTHING,
    "ddp_timeout": _NOTHING,
    "debug": _NOTHING, "local_rank": _NOTHING, "xformers": _NOTHING, "plugins": _NOTHING, "hub_model_id": _NOTHING,
    "push_to_hub": _NOTHING,
}  # fmt: skip


# What a key of theirs switches on alone: where it says false there is nothing to write
SWITCHED: Final = frozenset(
    {"method", "quant", "double_quant", "target_modules", "attention", "loss", "autocast", "row_order", "tf32"}
)


def foreign_hint(key: str, value: Any, *, heading: str = TOP) -> str | None:
    """What to write instead of a key of another tool that stands under `heading`; None for a key that none of them has."""
    ours = FOREIGN.get(key)
    if ours is None:
        return WITHOUT.get(key)
    if value is None or (value is False and ours.key in SWITCHED):
        return _NOTHING
    said = ours.value(value)
    where = "" if ours.heading == heading else f" under `{ours.heading}:`" if ours.heading else " at the top"
    return f"write `{written(ours.key, said)}`{where}"


def names_model(path: KeyPath) -> bool:
    """Whether the key at this place is another tool's word for the model."""
    return len(path) == 1 and FOREIGN.get(str(path[0])) is _MODEL
