"""What there is to compute on: the data as sequences within a strategy's length, and how wide they are computed. Pure."""

from __future__ import annotations

import msgspec

from planner.asking.request import DataAsked, Profile
from planner.estimators.sequences import (
    Sequences,
    in_packs,
    laid_out,
    padded_mean,
    share_judged,
    share_left_out,
    share_used,
    times_shown,
)
from remote.contract import WIDTH_MULTIPLE, Strategy, steps_sorted, trained_multiple


class Work(msgspec.Struct, frozen=True):
    """What there is to compute on: sequences, and the tokens of each in the mean, padding included but for `data_mean`."""

    num_examples: int
    train_mean: float
    data_mean: float
    num_held_out: int
    held_out_mean: float


def work_of(data: DataAsked, strategy: Strategy, *, on_cpu: bool, by_length: bool = False, cuda_graphs: bool = False) -> Work:
    """The data within the strategy's sequence length. Sizes that were only stated hold no padding.

    `by_length`: rows of like length make a step, out of those of several steps; so it is as if all of these were one.
    Held-out rows are evaluated beside others of like length (remote/data/batches.py), so only widths are rounded up.
    """
    alike = ((data.mean_tokens, 1.0),)
    num_used = round(data.num_examples * share_used(data, strategy.seq_len) * times_shown(data))
    trained = _within(num_used, data.profile or alike, data, strategy)
    if data.reading.packing:
        trained = in_packs(trained, strategy.seq_len)
    of_the_file = data.held_out_path is None and not data.held_out_profile and data.fate_of_long != "drop"
    share = share_used(data, strategy.seq_len) if of_the_file else share_judged(data, strategy.seq_len)
    to_judge = round(data.held_out_rows * share)
    judged = _within(to_judge, data.held_out_profile or data.profile or alike, data, strategy)
    device = "cpu" if on_cpu else "cuda"
    multiple, trained_in = WIDTH_MULTIPLE[device], trained_multiple(device, strategy.seq_len, cuda_graphs=cuda_graphs)
    if not data.profile:
        return Work(trained.number, trained.mean, trained.mean, judged.number, judged.mean)
    size = strategy.micro_batch_size
    per_step = size * strategy.gradient_accumulation_steps
    num_drawn = per_step * steps_sorted(trained.number, per_step) if by_length else per_step
    return Work(
        num_examples=trained.number,
        train_mean=padded_mean(trained.lengths, num_drawn=num_drawn, per_batch=size, multiple=trained_in),
        data_mean=trained.mean,
        num_held_out=judged.number,
        held_out_mean=padded_mean(judged.lengths, num_drawn=1, per_batch=1, multiple=multiple),
    )


def unpadded(data: DataAsked, strategy: Strategy, *, on_cpu: bool) -> DataAsked:
    """The same data with nothing to fill up, as if each row were alone: no way of cutting a batch computes on fewer tokens."""
    alone = msgspec.structs.replace(strategy, micro_batch_size=1, gradient_accumulation_steps=1)
    work = work_of(data, alone, on_cpu=on_cpu)
    return msgspec.structs.replace(
        data,
        num_examples=work.num_examples,
        mean_tokens=work.train_mean,
        profile=(),
        reading=msgspec.structs.replace(data.reading, packing=False),
        held_out_rows=work.num_held_out,
        held_out_profile=((work.held_out_mean, 1.0),) if work.num_held_out else (),
    )


def _within(num_rows: int, profile: Profile, data: DataAsked, strategy: Strategy) -> Sequences:
    fate = data.fate_of_long
    ours = profile == data.profile
    return laid_out(
        num_rows,
        profile,
        seq_len=strategy.seq_len,
        long_rows=fate,
        exchanges=data.exchanges if ours else (),
        share_left_out=share_left_out(data, strategy.seq_len) if ours else 0.0,
    )
