"""The model, its adapter and its optimizer, as the trainer makes them, on the meta device: shapes without numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from planner.estimators.trace.heads import fresh_of, language_maker, maker_of
from planner.estimators.trace.others import by_default
from planner.estimators.trace.recorder import Recorder, Role, Stage
from planner.refusals import OTHERWISE, CaseError, Untraceable
from planner.strategy.stack import KeptOutputs
from remote.contract import Loop, Strategy, Task

DEVICE: Final = "meta"
LOOP: Final = Loop()  # what an optimizer needs beside the Strategy moves no memory


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a step is made of."""

    model: Any
    optimizer: Any
    scaler: Any
    batch: Any  # remote.data.batches.Batch
    settings: Any  # remote.step.StepSettings


def configured(config: Mapping[str, Any]) -> Any:
    """The transformers configuration. Refuses model types whose code transformers does not have."""
    from transformers import CONFIG_MAPPING, AutoConfig

    said = dict(config)
    model_type = said.pop("model_type", "")
    if model_type not in CONFIG_MAPPING or language_maker(found := AutoConfig.for_model(model_type, **said)) is None:
        raise Untraceable("model", f"transformers has no language model of type {model_type}", OTHERWISE)
    if found.is_encoder_decoder:
        found.parted_head = config.get("tie_word_embeddings") is False  # transformers 5 calls T5's and MT5's tied, always
        found.decoder_start_token_id = 0  # which word it is changes no size, and a shape may state none
    return found


def skeleton(config: Any, strategy: Strategy, recorder: Recorder, task: Task = "causal_lm") -> Any:
    """The base model before its weights come: modules and shapes, counted, then quantized linears in their places."""
    import torch
    from transformers.initialization import no_init_weights

    from remote.bases.base import put_in_linears, quantization_config
    from remote.bases.heads import NEVER_QUANTIZED

    dtype = getattr(torch, strategy.param_dtype)
    with torch.device(DEVICE), no_init_weights():
        model = maker_of(config, task).from_config(config, dtype=dtype, attn_implementation=strategy.attention)
        model.tie_weights()
        if task != "classification" and getattr(config, "parted_head", False):
            _part_head(model)
    if not hasattr(model, "prepare_inputs_for_generation"):
        model.prepare_inputs_for_generation = None  # peft wants to hold what an encoder does not have, and calls it never
    recorder.num_base = model.num_parameters()
    quantization = quantization_config(strategy)
    if quantization is not None:
        if task == "classification":
            quantization.llm_int8_skip_modules = list(NEVER_QUANTIZED)
        put_in_linears(model, quantization, dtype)
    return model


def _part_head(model: Any) -> None:
    """Give the output head a matrix of its own, as loading does where a checkpoint holds two that differ.

    transformers 5 calls T5's always tied; a config that says `tie_word_embeddings: false` is of a checkpoint with two.
    """
    import torch

    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.empty_like(head.weight))


def load(model: Any, strategy: Strategy, recorder: Recorder) -> None:
    """Bring the weights, quantized and upcast, in the order of `remote.bases.base.load_base`."""
    from remote.bases.base import upcast

    _materialize(model, strategy, recorder)
    recorder.enter(Stage.PREPARE)
    upcast(model, strategy)


def _materialize(model: Any, strategy: Strategy, recorder: Recorder) -> None:
    """Weights come to the device one after the other; those to be quantized in 16 bits first."""
    with _code_tables_of_our_own(strategy):
        _materialize_modules(model, strategy, recorder)


@contextmanager
def _code_tables_of_our_own(strategy: Strategy) -> Iterator[None]:
    """The code table of bitsandbytes lives as long as the process: one made on meta would poison every real quantization."""
    if strategy.quant == "none":
        yield
        return
    import bitsandbytes

    tables = bitsandbytes.functional.name2qmap
    bitsandbytes.functional.name2qmap = {}
    try:
        yield
    finally:
        bitsandbytes.functional.name2qmap = tables


def _materialize_modules(model: Any, strategy: Strategy, recorder: Recorder) -> None:
    for module in model.modules():
        quantize = _QUANTIZE.get(type(module).__name__)
        if quantize is not None:
            quantize(module, strategy)
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            recorder.saw(tensor)


def _staged(module: Any, strategy: Strategy) -> Any:
    import torch

    shape = (module.out_features, module.in_features)
    return torch.empty(shape, dtype=getattr(torch, strategy.param_dtype), device=DEVICE)


def _quantize_4bit(module: Any, strategy: Strategy) -> None:
    """As Params4bit quantizes itself on its way to a card."""
    import bitsandbytes

    from remote.bases.base import hold_4bit

    old = module.weight
    packed, state = bitsandbytes.functional.quantize_4bit(
        _staged(module, strategy),
        blocksize=old.blocksize,
        compress_statistics=old.compress_statistics,
        quant_type=old.quant_type,
        quant_storage=old.quant_storage,
    )
    hold_4bit(module, packed, state)


def _quantize_int8(module: Any, strategy: Strategy) -> None:
    """As Int8Params quantizes itself: by way of fp16."""
    import bitsandbytes
    import torch

    from remote.bases.base import hold_int8

    quantized, scales, _ = bitsandbytes.functional.int8_vectorwise_quant(_staged(module, strategy).to(torch.float16))
    hold_int8(module, quantized, scales)


_QUANTIZE: Final = {"Linear4bit": _quantize_4bit, "Linear8bitLt": _quantize_int8}


def adapted(model: Any, strategy: Strategy, recorder: Recorder, task: Task = "causal_lm") -> Any:
    """`model` with what the Strategy trains, in training mode; trained tensors and their gradients get their roles."""
    import torch

    from remote.adapters import ADAPTERS, adapt, base_of
    from remote.bases.base import checkpoint_activations
    from remote.bases.heads import settled, with_head
    from remote.ends import Ended

    try:
        with torch.device(DEVICE):
            fresh = fresh_of(model, task)
            said = with_head(strategy, fresh)
            model = adapt(model, said, LOOP) if strategy.method in ADAPTERS else by_default(model, said)
            model = settled(model, said, fresh)
    except Ended as end:
        raise CaseError("method", str(end)) from end
    checkpoint_activations(base_of(model), strategy)
    role = Role.WEIGHTS if strategy.method in ADAPTERS and ADAPTERS[strategy.method].trains_base else Role.ADAPTER
    for parameter in model.parameters():
        if parameter.requires_grad:
            recorder.num_trained += parameter.numel()
            recorder.assign(parameter, role)
            parameter.register_post_accumulate_grad_hook(lambda trained: recorder.assign(trained.grad, Role.GRADIENTS))
    return model.train()


def with_optimizer(model: Any, strategy: Strategy, recorder: Recorder, task: Task = "causal_lm") -> Subject:
    """All that a step takes. The optimizer's states are there, as after an earlier step, and what AdaLoRA remembers."""
    import torch

    from remote.adapters.ranks import Ranks, tuner_of
    from remote.step import scaler_of, settings_of
    from remote.training.optimizers import build_optimizer

    recorder.enter(Stage.STATES)
    settings = settings_of(strategy, "cuda", LOOP.max_grad_norm)
    optimizer = build_optimizer(strategy, model, LOOP)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    tuner = tuner_of(model)
    if tuner is not None:
        Ranks(tuner, total_steps=None).take_note()
    optimizer.zero_grad(set_to_none=True)
    return Subject(
        model=model, optimizer=optimizer, scaler=scaler_of(settings), batch=_batch(strategy, recorder, task), settings=settings
    )


def _batch(strategy: Strategy, recorder: Recorder, task: Task) -> Any:
    """The micro-batches of a step, all of them on the device from the start."""
    batch = tuple(
        micro_batch(strategy.micro_batch_size, strategy.seq_len, padded=strategy.padded, task=task)
        for _ in range(strategy.gradient_accumulation_steps)
    )
    for micro in batch:
        for tensor in (micro.input_ids, micro.labels, micro.attention_mask):
            if tensor is not None:
                recorder.assign(tensor, Role.INPUTS)
    return batch


def micro_batch(size: int, length: int, *, padded: bool, apart: bool = False, task: Task = "causal_lm") -> Any:
    """Token ids of `size` sequences and as many labels, or a class of each; every label counts. `apart`: labels are a text of
    their own.
    """
    import torch

    from remote.data.batches import MicroBatch

    is_of_classes = task == "classification"

    def tokens() -> Any:
        return torch.empty((size, length), dtype=torch.int64, device=DEVICE)

    return MicroBatch(
        input_ids=tokens(),
        labels=torch.empty(size, dtype=torch.int64, device=DEVICE) if is_of_classes else tokens(),
        attention_mask=tokens() if padded else None,
        num_targets=size if is_of_classes else size * max(1, length - 1),
        apart=apart,
    )


def keep_outputs(model: Any, kept: KeptOutputs) -> None:
    """Let the model's outputs outlive the forward pass, as loops do that hold on to them."""
    if kept == "nothing":
        return
    held: list[Any] = []

    def hold(_module: Any, _arguments: Any, output: Any) -> None:
        held[:] = [output.logits, *([output.past_key_values] if kept == "logits_and_cache" else [])]

    model.register_forward_hook(hold)
    if kept == "logits_and_cache":
        model.register_forward_pre_hook(lambda _, args, kwargs: (args, {**kwargs, "use_cache": True}), with_kwargs=True)
