"""A method on a tiny base of random weights: what is said of it, and what comes of it when it is really trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, strategy_of
from planner.estimators.memory import estimate_vram
from planner.methods import trainable_params
from planner.refusals import CaseRefused
from remote.contract import CAPABILITIES, DataSource, JobSpec, Loop, ModelSource, Strategy, Task

if TYPE_CHECKING:
    from remote.data.batches import MicroBatch


class Family(NamedTuple):
    """A type of model, as small as it can be, and what it is tuned for."""

    config: Mapping[str, Any]
    task: Task = "causal_lm"


_STOPS: Final = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
_SMALL: Final = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 320,
    "max_position_embeddings": 512,
}
_GROUPED: Final = {**_SMALL, **_STOPS, "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True}

FAMILIES: Final[Mapping[str, Family]] = {
    "llama": Family({"model_type": "llama", **_GROUPED}),
    "qwen3": Family({"model_type": "qwen3", **_GROUPED}),
    "qwen2": Family({"model_type": "qwen2", **_GROUPED}),
    "gemma3_text": Family({"model_type": "gemma3_text", **_GROUPED, "query_pre_attn_scalar": 16, "sliding_window": 64}),
    "gpt2": Family(
        {
            "model_type": "gpt2",
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "vocab_size": 320,
            "n_positions": 512,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            **_STOPS,
        }
    ),
    "gpt_neox": Family({"model_type": "gpt_neox", **_SMALL, **_STOPS, "tie_word_embeddings": False}),
    "mixtral": Family(
        {"model_type": "mixtral", **_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False}
    ),
    "t5": Family(
        {
            "model_type": "t5",
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 128,
            "num_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "vocab_size": 320,
            "dropout_rate": 0.0,
            "decoder_start_token_id": 0,
            **_STOPS,
        },
        task="seq2seq",
    ),
    "bert": Family(
        {
            "model_type": "bert",
            **_SMALL,
            "type_vocab_size": 2,
            "pad_token_id": 0,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        task="classification",
    ),
}

# What a method is given beside its name: of its own where peft's default is too large for so small a base.
FIELDS: Final[Mapping[str, dict[str, Any]]] = {
    "adalora": {"rank": 4, "method_options": {"init_r": 6}},
    "oft": {"method_options": {"oft_block_size": 16}},
    "vera": {"rank": 16},
    "fourierft": {"method_options": {"n_frequency": 50}},
    "freeze": {"trainable_layers": 1},
    **{name: {"num_virtual_tokens": 6} for name in ("prompt_tuning", "p_tuning", "prefix_tuning")},
    "lora_prompt": {"rank": 4, "num_virtual_tokens": 6},
}
_RANKED: Final = ("lora", "rslora", "pissa", "lora_plus", "dora", "loha", "lokr", "bottleneck")
CLASSES: Final = ("no", "yes")
ROWS, TOKENS, STEPS = 4, 16, 12
# assumed: a few steps show that each method learns; no judgement of it. A head that begins anew wants a lower one.
LEARNING_RATES: Final[Mapping[Task, float]] = {"causal_lm": 2e-2, "seq2seq": 2e-2, "classification": 2e-3}


def base_of(family: str, method: str) -> tuple[dict[str, Any], Architecture]:
    """(config, as the planner reads it). A Llama and a Qwen 2 have biases only if they are told so, which BitFit needs."""
    config = dict(FAMILIES[family].config)
    if method == "bitfit" and family == "llama":
        config |= {"attention_bias": True, "mlp_bias": True}
    return config, resolve_model(config)


def strategy_for(family: str, method: str, **said: Any) -> Strategy:
    """The planner's own strategy of a case, in fp32. Raises CaseRefused."""
    config, _ = base_of(family, method)
    fields = ({"rank": 4} if method in _RANKED else {}) | FIELDS.get(method, {}) | said
    case = {
        "model": config,
        "method": method,
        "param_dtype": "float32",
        "autocast": "none",
        "optimizer": "adamw_torch",
        "gradient_checkpointing": "off",
        "seq_len": TOKENS,
        "micro_batch_size": ROWS,
        "task": FAMILIES[family].task,
    }
    return msgspec.structs.replace(strategy_of(read_case(case | fields)), padded=True)


def refusal_of(family: str, method: str) -> str | None:
    """What the planner or the trainer says before anything is rented, where the two won't do it; None where they will."""
    _, architecture = base_of(family, method)
    task = FAMILIES[family].task
    try:
        strategy = strategy_for(family, method)
        estimate_vram(architecture, strategy, task=task)
    except CaseRefused as refusal:
        return refusal.message.replace(architecture.name, "this base")
    missing = CAPABILITIES.missing(strategy, task)
    return f"this trainer can't do {', '.join(missing)}" if missing else None


class Tried(NamedTuple):
    """What came of it."""

    planned_params: int  # that train, by the planner
    params: int  # by the model
    moved: int  # tensors, of those that train
    tensors: int
    losses: tuple[float, ...]  # over one batch, step by step
    off: float  # the largest difference of a logit after the files were read back, over the largest logit

    @property
    def counts_agree(self) -> bool:
        """Whether the planner counts what trains."""
        return self.planned_params == self.params

    @property
    def learns(self) -> bool:
        """Whether the loss of the batch fell."""
        return self.losses[-1] < self.losses[0]

    @property
    def all_moved(self) -> bool:
        """Whether every tensor that trains is another than before."""
        return self.moved == self.tensors


def tried(family: str, method: str, folder: Path, **said: Any) -> Tried:
    """Train, save, and read back onto the base, by the trainer's own functions. `folder`: for base and result.

    Raises `remote.ends.Ended` where the trainer won't, or the files don't give the trained model back.
    """
    from remote.checkpoints.checkpoint import trainable
    from remote.data.byte_tokenizer import byte_tokenizer
    from remote.result.save import save_weights
    from remote.result.verify import sums_of, verify
    from remote.step import settings_of, step
    from remote.trainer import quiet
    from remote.training.optimizers import build_optimizer, set_learning_rate

    quiet()
    task, strategy = FAMILIES[family].task, strategy_for(family, method, **said)
    model = _adapted(family, method, strategy, folder / "base")
    before, settings = sums_of(model), settings_of(strategy, "cpu", 1.0)
    loop = Loop(learning_rate=LEARNING_RATES[task])
    optimizer, batch = build_optimizer(strategy, model, loop), [batch_for(task)]
    set_learning_rate(optimizer, loop.learning_rate)
    params = sum(parameter.numel() for _, parameter in trainable(model))
    model.train()
    losses = tuple(float(step(model, batch, optimizer, settings).loss) for _ in range(STEPS))
    source = ModelSource(kind="folder", location=str(folder / "base"), name=family)
    spec = JobSpec(run_id="r", model=source, data=DataSource(train="data.jsonl"), strategy=strategy, loop=loop, task=task)
    save_weights(folder / "result", model, byte_tokenizer(), spec)
    found = verify(folder / "result", model, batch[0], settings, strategy, before)
    return Tried(
        planned_params=trainable_params(base_of(family, method)[1], strategy, task=task),
        params=params,
        moved=found.moved_tensors,
        tensors=found.trainable_tensors,
        losses=losses,
        off=found.max_difference / found.max_logit,
    )


def _adapted(family: str, method: str, strategy: Strategy, base: Path) -> Any:
    """The base, drawn and written to `base`, as a run loads it and makes it trainable."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from remote.adapters import adapt
    from remote.bases.base import load_base
    from remote.bases.heads import ClassHead, load_classifier, settled, with_head

    task, (said, _) = FAMILIES[family].task, base_of(family, method)
    maker = {"causal_lm": AutoModelForCausalLM, "seq2seq": AutoModelForSeq2SeqLM}.get(task, AutoModel)
    torch.manual_seed(0)
    maker.from_config(AutoConfig.for_model(**said)).save_pretrained(base)
    if task != "classification":
        return adapt(load_base(str(base), strategy, "cpu", task), strategy, Loop())
    loaded = load_classifier(str(base), strategy, "cpu", ClassHead(CLASSES, pad_token_id=0, seed=1))
    return settled(adapt(loaded.model, with_head(strategy, loaded.fresh), Loop()), strategy, loaded.fresh)


def batch_for(task: Task) -> MicroBatch:
    """A few rows to be learned by heart."""
    import torch

    from remote.data.batches import MicroBatch

    drawn = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 300, (ROWS, TOKENS), generator=drawn)
    mask = torch.ones_like(ids)
    if task == "classification":
        labels = torch.arange(ROWS) % len(CLASSES)
        return MicroBatch(input_ids=ids, labels=labels, attention_mask=mask, num_targets=ROWS)
    if task == "seq2seq":
        labels = torch.randint(5, 300, (ROWS, TOKENS // 2), generator=drawn)
        return MicroBatch(input_ids=ids, labels=labels, attention_mask=mask, num_targets=labels.numel(), apart=True)
    return MicroBatch(input_ids=ids, labels=ids, attention_mask=mask, num_targets=ROWS * (TOKENS - 1))
