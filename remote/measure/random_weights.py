"""A model with random weights, and tokens for it. 4- and 8-bit weights are made as random codes, so that no 16-bit copy of them
ever exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from remote.bases.base import hold_4bit, hold_int8, put_in_linears, upcast
from remote.contract import Strategy
from remote.streaming import stream

WEIGHTS_SCALE: Final = 0.02  # assumed: transformers' usual initializer_range
BLOCKSIZE: Final = 64  # derived: bitsandbytes' default, of 4-bit weights
STATES_BLOCKSIZE: Final = 256  # derived: of the scales that double quantization quantizes again


def random_batch(strategy: Strategy, *, vocabulary: int, device: str) -> tuple[Any, ...]:
    """The micro-batches of a step. Every label counts; where the Strategy says padding, one row is a token short."""
    import torch

    from remote.data.batches import MicroBatch

    shape = (strategy.micro_batch_size, strategy.seq_len)
    micros = []
    for _ in range(strategy.gradient_accumulation_steps):
        tokens = torch.randint(0, vocabulary, shape, device=device)
        mask = torch.ones(shape, dtype=torch.int64, device=device) if strategy.padded else None
        if mask is not None:
            mask[0, -1] = 0
        targets = strategy.micro_batch_size * max(1, strategy.seq_len - 1)
        micros.append(MicroBatch(input_ids=tokens, labels=tokens.clone(), attention_mask=mask, num_targets=targets))
    return tuple(micros)


def vocabulary_of(config: Mapping[str, Any], model: Any) -> int:
    """How many tokens there are to draw from."""
    return int(config.get("vocab_size") or model.config.get_text_config().vocab_size)


def random_model(
    config: Mapping[str, Any], strategy: Strategy, device: str, *, lane: Any = None, disk: Path | None = None
) -> Any:
    """The base on `device` with random weights, quantized as the Strategy says; one that is streamed is made block by block.

    `lane`: what carries a streamed one's blocks, where it is not the usual one.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from remote.bases.base import quantization_config

    said = dict(config)
    known = AutoConfig.for_model(said.pop("model_type"), **said)
    quantization = quantization_config(strategy)
    dtype = getattr(torch, strategy.param_dtype)
    streams = strategy.offload == "stream"
    with on(device), _linears_without_weights(wanted=streams or quantization is not None):
        model = AutoModelForCausalLM.from_config(known, dtype=dtype, attn_implementation=strategy.attention)
    if quantization is not None:
        put_in_linears(model, quantization, dtype)

    def fill(module: Any) -> None:
        _fill(module, dtype, device)
        upcast(module, strategy)
        if module is model:
            model.tie_weights()

    if streams:
        stream(model, strategy, device, fill=fill, lane=lane, disk=disk)
    else:
        _fill(model, dtype, device)
        model.tie_weights()
    return model


@contextmanager
def on(device: str) -> Iterator[None]:
    """What is made inside is made there."""
    import torch

    with torch.device(device):
        yield


@contextmanager
def _linears_without_weights(*, wanted: bool) -> Iterator[None]:
    """Linears are made on the meta device: those of a quantized base get their codes later, without weights before."""
    import torch

    if not wanted:
        yield
        return
    made = torch.nn.Linear.__init__

    def on_meta(self: Any, *arguments: Any, **options: Any) -> None:
        made(self, *arguments, **{**options, "device": "meta"})

    torch.nn.Linear.__init__ = on_meta
    try:
        yield
    finally:
        torch.nn.Linear.__init__ = made


def _fill(model: Any, dtype: Any, device: str) -> None:
    """Give whatever has no weights yet random ones: codes where it is quantized, 16 bits where it stays so."""
    import torch

    for module in model.modules():
        fill = _CODES.get(type(module).__name__)
        if fill is not None and module.weight.is_meta and not getattr(module.weight, "bnb_quantized", False):
            fill(module, dtype, device)
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_meta and (fill is None or name != "weight"):  # codes lie there by now, on whatever device
                weights = torch.empty(parameter.shape, dtype=dtype, device=device).normal_(0, WEIGHTS_SCALE)
                setattr(module, name, torch.nn.Parameter(weights, requires_grad=parameter.requires_grad))


def _four_bit(module: Any, dtype: Any, device: str) -> None:
    """Random codes and scales in the layout of bitsandbytes.functional.quantize_4bit."""
    import bitsandbytes
    import torch

    old, functional = module.weight, bitsandbytes.functional
    numel = module.in_features * module.out_features
    blocks = -(-numel // BLOCKSIZE)
    item_bytes = torch.empty((), dtype=old.quant_storage).element_size()
    codes = torch.randint(0, 256, (-(-numel // 2),), dtype=torch.uint8, device=device)
    packed = codes.view(old.quant_storage).reshape(-1, 1) if codes.numel() % item_bytes == 0 else codes.reshape(-1, 1)
    state = functional.QuantState(
        absmax=torch.full((blocks,), WEIGHTS_SCALE, dtype=torch.float32, device=device),
        shape=torch.Size((module.out_features, module.in_features)),
        dtype=dtype,
        blocksize=BLOCKSIZE,
        code=functional.get_4bit_type(old.quant_type, device=device),
        quant_type=old.quant_type,
    )
    if old.compress_statistics:
        state.offset = torch.tensor(WEIGHTS_SCALE, device=device)
        state.state2 = functional.QuantState(
            absmax=torch.full((-(-blocks // STATES_BLOCKSIZE),), WEIGHTS_SCALE / 100, dtype=torch.float32, device=device),
            code=functional.create_dynamic_map().to(device),
            blocksize=STATES_BLOCKSIZE,
            dtype=torch.float32,
        )
        state.absmax = torch.randint(0, 256, (blocks,), dtype=torch.uint8, device=device)
        state.nested = True
    hold_4bit(module, packed, state)


def _int8(module: Any, _dtype: Any, device: str) -> None:
    import torch

    codes = torch.randint(-127, 128, (module.out_features, module.in_features), dtype=torch.int8, device=device)
    scales = torch.full((module.out_features,), WEIGHTS_SCALE, dtype=torch.float32, device=device)
    hold_int8(module, codes, scales)


_CODES: Final[Mapping[str, Callable[[Any, Any, str], None]]] = {"Linear4bit": _four_bit, "Linear8bitLt": _int8}
