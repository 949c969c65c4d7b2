"""From a job's files to all that a run holds in memory. Rows become tokens while the base comes: a card is paid meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from remote.adapters import adapt, base_of
from remote.bases import hub
from remote.bases.base import checkpoint_activations, load_base
from remote.bases.heads import ClassHead, Classifier, load_classifier, settled, with_head
from remote.bases.on_disk import hub_weights, prepare_base
from remote.bases.stored import READERS, check_stored, read_stored
from remote.bases.tokenizer import load_tokenizer, tokenizer_ahead
from remote.checkpoints.checkpoint import begin_with, trainable
from remote.checkpoints.files import is_checkpoint
from remote.contract import (
    NO_TEMPLATE,
    ROWS_CACHE_VARIABLE,
    SMOTE,
    TEMPLATE_HINT,
    UNPACKED,
    JobSpec,
    Phase,
    keeps_apart,
    trained_multiple,
)
from remote.data.batches import EVENLY, Drawn, Shape
from remote.data.labelled import class_weights
from remote.data.packs import packs_of, saved_by
from remote.data.split import Data, Warn, load_data
from remote.data.tokens import Example, ready
from remote.desk import Desk
from remote.ends import LoadedAnew, bad_job, first_line, is_out_of_memory
from remote.kernels import compile_blocks, fuse
from remote.loading.beside import Beside, heard
from remote.loading.embedded import with_drawn_rows
from remote.loading.loaded import Loaded
from remote.loading.packed import packed_first
from remote.machine import preflight
from remote.result.samples import prompts_of, prompts_of_pairs
from remote.step import settings_of
from remote.streaming import settle
from remote.training.ladder import streamed_instead, tell_change


class Tokens(NamedTuple):
    """The rows as sequences, and those to learn from as they were before they shared any."""

    data: Data
    apart: tuple[Example, ...]


def load(spec: JobSpec, folder: Path, cache: Path, desk: Desk) -> Loaded:
    """Everything in memory. Raises `LoadedAnew` where that holds the base only streamed, `Ended` for what can't be loaded."""
    try:
        return _load(spec, folder, cache, desk)
    except Exception as error:
        lower = streamed_instead(spec.strategy, spec.device, spec.task)
        if not is_out_of_memory(error) or lower is None:
            raise
        tell_change(desk.events, 0, spec.strategy, lower, f"memory ran out ({first_line(error)})")
        raise LoadedAnew(lower) from None


def _load(spec: JobSpec, folder: Path, cache: Path, desk: Desk) -> Loaded:
    strategy = spec.strategy
    desk.events.enter(Phase.DOWNLOAD)
    bring = _Base(spec, cache, desk)
    tokens_at = Path(os.environ.get(ROWS_CACHE_VARIABLE) or folder / "cache")
    tokenizer = load_tokenizer(tokenizer_ahead(spec.model, cache=cache) or bring(), writes=spec.task != "classification")
    chosen = ready(tokenizer, writes=spec.task == "causal_lm", template=spec.data.chat_template)
    if not chosen:
        desk.events.warn("the base model has no chat template; a plain one is used and saved with the result")
    with heard(desk.events) as warn:
        tokens = Beside(lambda: _tokens(spec, tokenizer, tokens_at, warn, may_chat=bool(chosen)))
        base_folder = bring()
        preflight.check_disk(spec, folder)  # once more: the base may be larger than planned
        base_sha256 = hub_weights(spec.model, Path(base_folder))
        desk.watch.check()
        tokens.check()  # rows that can't be learned from end the run before weights are loaded for them
        desk.events.enter(Phase.LOAD)
        base_folder = packed_first(base_folder, strategy, cache, desk)
        model, fresh = _base(base_folder, spec, tokens.result, tokenizer.pad_token_id, folder)
        data, apart = tokens.result()
    desk.watch.check()
    shape = _shape(spec, data, tokenizer.pad_token_id)
    if spec.data.packing:
        desk.events.emit("packed", **saved_by(apart, data.train, shape, spec.loop.seed)._asdict())
    torch.manual_seed(spec.loop.seed)
    if spec.data.packing and not keeps_apart(model.config.to_dict()):
        raise bad_job(UNPACKED.format(model.config.model_type))
    model = settled(adapt(model, with_head(strategy, fresh), spec.loop), strategy, fresh)
    if spec.loop.init_adapter is not None and is_checkpoint(Path(spec.loop.init_adapter)):
        begin_with(Path(spec.loop.init_adapter), model)
    settle(model)
    preflight.check_placed(model, spec)
    checkpoint_activations(base_of(model), strategy)
    compile_blocks(model, strategy)
    fuse(model, strategy)
    model.train()
    settings = settings_of(strategy, spec.device, spec.loop.max_grad_norm)
    shown: Sequence[Example] = data.train
    if spec.data.balance == SMOTE:
        shown = with_drawn_rows(model, data.train, shape, settings, seed=spec.loop.seed, desk=desk)
        shape = replace(shape, drawn=EVENLY)  # they are all as long
    trainable_params = sum(parameter.numel() for _, parameter in trainable(model))
    desk.watch.check()
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        data=data,
        shown=shown,
        prompts=(prompts_of_pairs if spec.task == "seq2seq" else prompts_of)(
            data.held_out_rows, tokenizer, spec.loop.num_samples
        ),
        fresh=fresh,
        shape=shape,
        settings=settings,
        trainable_params=trainable_params,
        base_sha256=base_sha256,
        packed_by=how if (how := read_stored(base_folder).how) in READERS else None,
    )


# ── rows ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tokens(spec: JobSpec, tokenizer: Any, cache: Path, warn: Warn, *, may_chat: bool) -> Tokens:
    """Raises `Ended` (bad job) for rows that can't be learned from."""
    seq_len = spec.strategy.seq_len
    data = load_data(spec.data, tokenizer, seq_len=seq_len, seed=spec.loop.seed, warn=warn, task=spec.task, cache=cache)
    if data.chats and not may_chat:
        raise bad_job(f"{NO_TEMPLATE}; {TEMPLATE_HINT}")
    if not spec.data.packing:
        return Tokens(data, apart=data.train)
    return Tokens(replace(data, train=packs_of(data.train, seq_len)), apart=data.train)


def _shape(spec: JobSpec, data: Data, pad_token_id: int) -> Shape:
    strategy = spec.strategy
    by_length = spec.loop.row_order == "by_length"
    return Shape(
        micro_batch_size=strategy.micro_batch_size,
        gradient_accumulation_steps=strategy.gradient_accumulation_steps,
        seq_len=strategy.seq_len,
        padded=strategy.padded,
        pad_token_id=pad_token_id,
        device=spec.device,
        class_weights=class_weights(data.classes, spec.data.balance),
        trained_multiple=trained_multiple(spec.device, strategy.seq_len, cuda_graphs=spec.loop.cuda_graphs),
        drawn=Drawn(shares=data.row_shares, lengths=tuple(row.num_tokens for row in data.train) if by_length else ()),
    )


# ── base ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Base:
    """The base on the disk, brought there once. Of one from the hub is said how much of it had to be fetched: on a kept volume
    it may lie already.
    """

    def __init__(self, spec: JobSpec, cache: Path, desk: Desk) -> None:
        self._spec, self._cache, self._desk = spec, cache, desk
        self._is_fetched = spec.model.kind == "hub"
        self._held_bytes = hub.held_bytes(spec.model.location) if self._is_fetched else 0
        self._folder: str | None = None

    def __call__(self) -> str:
        """Its folder."""
        if self._folder is None:
            self._folder = self._brought()
        return self._folder

    def _brought(self) -> str:
        model, strategy = self._spec.model, self._spec.strategy
        folder = prepare_base(model, cache=self._cache, dtype=strategy.param_dtype, seed=self._spec.loop.seed)
        if self._is_fetched:
            self._desk.events.emit("base", fetched_bytes=hub.held_bytes(model.location) - self._held_bytes)
        check_stored(folder, strategy, self._spec.task)
        return folder


def _base(folder: str, spec: JobSpec, tokens: Callable[[], Tokens], pad_token_id: int, disk: Path) -> Classifier:
    """The base as its task wants it. Only what tells classes apart has to wait for the rows that name them."""
    if spec.task != "classification":
        return Classifier(load_base(folder, spec.strategy, spec.device, spec.task, disk), fresh=())
    head = ClassHead(tuple(each.name for each in tokens().data.classes), pad_token_id, spec.loop.seed)
    return load_classifier(folder, spec.strategy, spec.device, head)
