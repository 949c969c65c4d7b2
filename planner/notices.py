"""What a case says in vain, and what an answer had to assume: the sentences of `warnings`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Billing, Gpu
from planner.asking.case import Case, stack_of
from planner.asking.request import LOCAL, Basis, DataAsked, Where
from planner.asking.sent import Sent
from planner.estimators.calibration import MULTIPLIES_IN
from planner.estimators.cost import volume_gib
from planner.estimators.sequences import packed_rows, rows_read
from planner.methods import LAYERS, METHODS, NUM_LABELS, QLORA, QLORA_MEANS
from planner.methods.adapters import IDLE_OPTIONS
from planner.plan import HostEstimate, Plan, VramEstimate
from planner.strategy.as_run import departures
from planner.strategy.cuts import cut_of, cuts_weights
from planner.strategy.precision import BITSANDBYTES, FOUR_BIT
from planner.strategy.stack import unprofiled
from planner.units import MIB, SECONDS_PER_MINUTE, gib
from remote.contract import MAX_HELD_OUT_SHARE, Phase, RowsRead, Strategy

ESTIMATED: Final[Basis] = "estimated from characters"
SENT_SHARE: Final = 0.05  # assumed: of a machine's seconds; what takes less is not worth a sentence


class Understood(msgspec.Struct, frozen=True):
    """A case beside what became of it."""

    case: Case
    strategy: Strategy
    architecture: Architecture
    gpu: Gpu | None


def _has_no_rank(strategy: Strategy) -> bool:
    return not METHODS[strategy.method].has_rank


def _hangs_on_nothing(strategy: Strategy) -> bool:
    return METHODS[strategy.method].adapter is None or _has_no_rank(strategy)


def _is_not_four_bit(strategy: Strategy) -> bool:
    return strategy.quant not in FOUR_BIT


def _reads_no_option(strategy: Strategy) -> bool:
    adapter = METHODS[strategy.method].adapter
    return adapter is not None and not set(strategy.method_options) - (IDLE_OPTIONS - {LAYERS})


def _saves_no_module(strategy: Strategy) -> bool:
    method = METHODS[strategy.method]
    return method.adapter is None and method.trainable is not None


Unread = tuple[Callable[[Strategy], bool], str]

# key -> the strategies that do not read it, and why not: in a plan as in an estimate
UNREAD: Final[dict[str, Unread]] = {
    "rank": (_has_no_rank, "the method has no rank"),
    "alpha": (_hangs_on_nothing, "the method has no rank that it would scale"),
    "dropout": (_hangs_on_nothing, "it is the adapter's dropout, and the method has no adapter that drops"),
    "target_modules": (
        lambda strategy: METHODS[strategy.method].adapter is None,
        "the method targets no modules",
    ),
    "modules_to_save": (_saves_no_module, "the method has no adapter that a module would be saved beside"),
    "num_virtual_tokens": (lambda strategy: not METHODS[strategy.method].prompt, "the method has no virtual tokens"),
    "trainable_layers": (
        lambda strategy: not METHODS[strategy.method].top_blocks_only or LAYERS in strategy.method_options,
        "only method freeze reads it, where no blocks are chosen",
    ),
    "double_quant": (_is_not_four_bit, "only nf4 and fp4 have scales to quantize again"),
    "quant_storage": (_is_not_four_bit, "only nf4 and fp4 pack their weights"),
    "kbit_upcast": (lambda strategy: strategy.param_dtype == "float32", "the weights are fp32 already"),
    "adapter_dtype": (
        lambda strategy: bool(METHODS[strategy.method].moves),
        "the method trains the base's own weights, in param_dtype",
    ),
}

# key -> when it moves nothing that an estimate shows, and why
WITHOUT_EFFECT: Final[dict[str, tuple[Callable[[Understood], bool], str]]] = {
    "alpha": (lambda _: True, "it scales the update and moves neither memory nor time"),
    "method_options": (lambda this: _reads_no_option(this.strategy), "they move neither memory nor time"),
    "quantized_experts": (
        lambda this: not this.architecture.num_experts or this.strategy.quant == "none",
        "there are no experts to quantize",
    ),
    "mean_seq_len": (lambda this: this.gpu is None, "it is used for time, and time needs a gpu"),
    "interconnect": (lambda this: this.strategy.num_gpus == 1 or this.gpu is None, "there is one GPU, or no time to estimate"),
    "loss": (lambda this: this.case.task != "causal_lm", "the task has no vocabulary of logits"),
    "matmul_dtype": (
        lambda this: this.case.matmul_dtype != "as_compute" and this.gpu is None,
        "it moves time, and time needs a gpu",
    ),
}


def unread(said: Iterable[str], strategies: Iterable[Strategy]) -> tuple[str, ...]:
    """A sentence for each said key that none of the strategies reads; without strategies there is nothing to say."""
    strategies = tuple(strategies)
    rows = ((key, *UNREAD[key]) for key in said if key in UNREAD)
    return tuple(_vain(key, why) for key, applies, why in rows if strategies and all(map(applies, strategies)))


def notices_of(this: Understood, said: Iterable[str]) -> Iterator[str]:
    """Keys said in vain, then assumptions."""
    for key in said:
        if sentences := unread((key,), (this.strategy,)):
            yield from sentences
        elif key in WITHOUT_EFFECT and WITHOUT_EFFECT[key][0](this):
            yield _vain(key, WITHOUT_EFFECT[key][1])
    yield from _overruled(this.case, said)
    yield from _cut_to_reach(this, said)
    yield from _upcast_by_default(this, said)
    yield from unprofiled(this.case.versions)
    yield from departures(this.architecture, this.strategy, stack_of(this.case))
    for applies, sentence in ASSUMPTIONS:
        if applies(this):
            yield sentence.format(this=this, labels=NUM_LABELS)


def _overruled(case: Case, said: Iterable[str]) -> Iterator[str]:
    """What a short word for a method means, where something else was said beside it."""
    if case.method != QLORA:
        return
    for key in said:
        if key in QLORA_MEANS and key != "method" and getattr(case, key) != QLORA_MEANS[key]:
            asked, meant = (str(value).lower() for value in (getattr(case, key), QLORA_MEANS[key]))
            yield f"{key} {asked} is overruled: method qlora means {key} {meant}; say method lora to choose"


def _cut_to_reach(this: Understood, said: Iterable[str]) -> Iterator[str]:
    """Which length is estimated where none was said, and the model reads less than the default."""
    said, read, usual = tuple(said), this.strategy.seq_len, Case(model="").seq_len
    if said and "seq_len" not in said and read < usual:
        yield f"seq_len: none was said, and {read:,} is estimated, not {usual:,}: {this.architecture.name} reads no more"


def _upcast_by_default(this: Understood, said: Iterable[str]) -> Iterator[str]:
    """What the contract's default of a quantized base stands for, where it was not said: a plan trains otherwise."""
    said, strategy = tuple(said), this.strategy
    if said and "kbit_upcast" not in said and strategy.quant in BITSANDBYTES and strategy.kbit_upcast == "full":
        yield (
            "kbit_upcast: none was said, and full is estimated, as peft's prepare_model_for_kbit_training casts to fp32; "
            "`rentune plan` and its trainer cast the norms alone: say kbit_upcast norms for what they need"
        )


def held_out_words(data: DataAsked) -> str:
    """How many rows are kept back to be judged on, and why fewer than was said."""
    words = f"{data.held_out_rows:,} rows held out"
    if data.held_out_wanted is None:
        return words
    return f"{words}, not {data.held_out_wanted:,}: at most {MAX_HELD_OUT_SHARE:.0%} of the rows are"


def short_words(data: DataAsked) -> str | None:
    """That fewer rows are there than were asked for, as a sentence; None where as many are, or none were named."""
    there = data.num_examples + (data.held_out_rows if data.held_out_path is None else 0)
    if data.reading.max_rows is None or there >= data.reading.max_rows:
        return None
    return f"{data.reading.max_rows:,} rows were asked for and the data has {there:,}: all of them count, and no more"


def kept_words(name: str, host: HostEstimate, billing: Billing) -> str:
    """What a volume that is kept costs, as a sentence. No part of the job's dollars: it is billed until somebody ends it."""
    size_gib, price = volume_gib(host), billing.volume_usd_per_gib_month
    usd = "at a price that is not known" if price is None else f"at ${size_gib * price:.2f} a month"
    return f"the volume {name} is kept: {size_gib} GiB {usd}, beside the job's dollars, until `rentune down --volumes {name}`"


def unread_labels(task: str, num_rows: int) -> tuple[str, ...]:
    """That labels stand in the rows, and are learned by no task but another."""
    if task == "classification" or not num_rows:
        return ()
    rows = "1 row has" if num_rows == 1 else f"{num_rows:,} rows have"
    return (f"{rows} a label beside the text, which task {task} does not learn; --task classification does",)


def electricity_words(where: Where) -> str:
    """What is counted of the electricity of a card of one's own."""
    if where.power_usd_per_kwh is None:
        return "this machine's electricity is not counted; --power-price 0.30 counts it"
    return f"electricity at ${where.power_usd_per_kwh} per kWh, for all that the card may draw and 100 W beside it"


def cut_words(data: DataAsked, seq_len: int) -> str | None:
    """How many rows the trainer will cut at that length or leave out, as a sentence; None for none. Documents are split."""
    read = rows_read(data, seq_len)
    split = read.split if data.reading.long_rows is not None else 0
    number, total = read.cut + read.left_out + split, read.used + read.left_out
    if not number:
        return None
    exact = number == total or (
        data.basis != ESTIMATED and data.beginnings is not None and number < len(data.beginnings.longest)
    )
    rows = f"{'' if exact else 'about '}{number:,} of {total:,} rows {'is' if number == 1 else 'are'}"
    longest = f"the longest has {data.max_tokens:,}{', as estimated' if data.basis == ESTIMATED else ''}"
    return f"{rows} longer than {seq_len:,} tokens{_fate(read, split, documents=data.documents)} (--seq-len); {longest}"


def packed_words(data: DataAsked, seq_len: int) -> str | None:
    """How many rows the trainer will lay into how many, as a sentence; None where none are packed."""
    if not data.reading.packing or not data.profile:
        return None
    rows, packs = packed_rows(data, seq_len)
    return (
        f"packing lays {rows.number:,} rows of {rows.mean:,.0f} tokens in the mean into about {packs.number:,} of at most "
        f"{seq_len:,}, which are {packs.mean / seq_len:.1%} full; a step's batch counts these"
    )


def _fate(read: RowsRead, split: int, *, documents: bool) -> str:
    """What becomes of them: as one clause, or each number with its own."""
    why = "nothing to learn is left of " + ("it" if read.left_out == 1 else "them")
    if read.too_long:
        why = "long_rows: drop says so"
    where = f" ({read.lines_words})" if read.left_out_lines else ""
    fates = [
        (number, words)
        for number, words in (
            (split, "split" if documents else "split between turns"),
            (read.cut, "cut"),
            (read.left_out, f"left out, for {why}{where}"),
        )
        if number
    ]
    if len(fates) == 1:
        return f" and will be {fates[0][1]}"
    (first, words), *others = fates
    return f": {first:,} will be {words} and " + " and ".join(f"{number:,} {words}" for number, words in others)


def cache_notice(vram: VramEstimate) -> Iterator[str]:
    """Why a card may do that has less than the process will take."""
    over_bytes = vram.process_peak_bytes - vram.required_bytes
    if over_bytes >= MIB:
        yield (
            f"process_peak_bytes is {over_bytes / MIB:,.0f} MiB above required_bytes ({gib(vram.required_bytes)}): "
            "that is the allocator's spare cache, which it gives back where the card is full"
        )


def _vain(key: str, why: str) -> str:
    return f"{key} has no effect here: {why}"


def _shards_packed_bytes(this: Understood) -> bool:
    return cuts_weights(this.strategy) and this.strategy.quant in FOUR_BIT and this.strategy.quant_storage == "uint8"


def _unpacks_fp8(this: Understood) -> bool:
    """Whether the card is older than FP8. derived: transformers' FineGrainedFP8HfQuantizer then loads it as 16 bits."""
    return this.strategy.quant == "fp8" and this.gpu is not None and this.gpu.architecture not in MULTIPLIES_IN["fp8"]


def _lacks_products(this: Understood) -> bool:
    """Whether the card has no units for the products that are asked for."""
    asked = this.case.matmul_dtype
    return this.gpu is not None and asked in MULTIPLIES_IN and this.gpu.architecture not in MULTIPLIES_IN[asked]


def _rank_reaches_width(this: Understood) -> bool:
    """Whether the rank is no lower than a width of the model: factors of it are then as large as what they stand for."""
    rank = this.strategy.rank
    return rank is not None and METHODS[this.strategy.method].adapter is not None and rank >= this.architecture.hidden_size


ASSUMPTIONS: Final[tuple[tuple[Callable[[Understood], bool], str], ...]] = (
    (
        lambda this: this.strategy.seq_len > this.architecture.max_positions,
        "seq_len is longer than the {this.architecture.max_positions} positions of {this.architecture.name}",
    ),
    (
        _rank_reaches_width,
        "rank {this.strategy.rank} is not below the width of {this.architecture.name}, {this.architecture.hidden_size}",
    ),
    (
        lambda this: this.case.num_virtual_tokens is None and this.strategy.num_virtual_tokens is not None,
        "num_virtual_tokens {this.strategy.num_virtual_tokens} is taken, as nobody said how many",
    ),
    (
        lambda this: this.case.trainable_layers is None and this.strategy.trainable_layers is not None,
        "trainable_layers {this.strategy.trainable_layers} is taken, as nobody said how many",
    ),
    (
        lambda this: this.architecture.attention_softcap and this.strategy.attention == "sdpa",
        "{this.architecture.model_type} caps its attention scores, which sdpa can't: eager attention is estimated",
    ),
    (
        lambda this: not this.architecture.fused_attention and this.strategy.attention == "sdpa",
        "transformers has no fused attention for {this.architecture.model_type}: eager attention is estimated",
    ),
    (
        lambda this: this.architecture.part_of is not None,
        "the language model of {this.architecture.part_of} alone is estimated, without its vision tower",
    ),
    (
        lambda this: this.architecture.remote_code,
        "the code of {this.architecture.name} comes with its weights: shapes are as published, operations as in its kin",
    ),
    (_shards_packed_bytes, "4-bit weights stored as uint8 can't be cut into shards; quant_storage bfloat16 is estimated"),
    (
        lambda this: (
            this.gpu is not None and not this.gpu.bf16 and "bfloat16" in (this.strategy.param_dtype, this.strategy.autocast)
        ),
        "{this.gpu.name} does not compute in bfloat16; float16 needs the same memory and is what to run",
    ),
    (
        lambda this: this.gpu is not None and this.strategy.quant in BITSANDBYTES and this.gpu.bitsandbytes == "no",
        "bitsandbytes does not run on {this.gpu.name}: quant none, or another card",
    ),
    (
        lambda this: (
            this.gpu is not None
            and this.strategy.quant in BITSANDBYTES
            and this.gpu.bitsandbytes in ("partial", "build-dependent")
        ),
        "{this.gpu.name}: bitsandbytes support is {this.gpu.bitsandbytes}; quant none needs none",
    ),
    (
        lambda this: (
            this.gpu is not None and this.strategy.attention == "flash_attention_2" and this.gpu.flash_attention == "no"
        ),
        "FlashAttention-2 does not run on {this.gpu.name}: attention sdpa is what to run",
    ),
    (
        lambda this: this.strategy.quant in BITSANDBYTES and stack_of(this.case).reads_ahead,
        "transformers 5.0 to 5.22 read weights ahead of packing them: loading may take up to all in 16 bits, not counted here",
    ),
    (
        _unpacks_fp8,
        "transformers unpacks FP8 weights to 16 bits on {this.gpu.name}, which has no FP8 of its own: estimate quant none",
    ),
    (
        _lacks_products,
        "{this.gpu.name} does not multiply in {this.case.matmul_dtype}: the speed of its 16-bit products is estimated",
    ),
    (
        lambda this: this.strategy.quant == "mxfp4" and this.case.stack in ("transformers", "trl"),
        "transformers unpacks MXFP4 experts to 16 bits to train (quant none); kernels that train on packed ones are meant",
    ),
    (
        lambda this: this.case.task in ("classification", "token_classification"),
        "{labels} labels are assumed; more move memory by kilobytes",
    ),
    (
        lambda this: this.strategy.kernels == "compiled",
        "compiled kernels: what torch.compile fuses is assumed, not measured",
    ),
    (
        lambda this: this.architecture.num_experts > 0,
        "experts: grouped products over evenly routed tokens are assumed; not checked against a measured peak",
    ),
    (
        lambda this: stack_of(this.case).model_parallel > 1,
        "parallel sizes cut weights and activations evenly here; not checked against a measured peak",
    ),
    (
        lambda this: stack_of(this.case).pipeline_parallel_size > 1 and this.gpu is not None,
        "a pipeline's stages wait for one another as a step begins and ends: one stage a GPU is estimated, not interleaved",
    ),
    (
        lambda this: (cut_of(this.strategy).states or cut_of(this.strategy).spreads_blocks) and this.strategy.num_gpus > 1,
        "sharded memory follows from the code of FSDP and DeepSpeed; not checked against a measured peak",
    ),
    (
        lambda this: this.strategy.offload != "none" or this.strategy.activation_offload,
        "offload follows from the code of DeepSpeed, FSDP and torchtune; not checked against a measured peak",
    ),
    (
        lambda this: this.strategy.offload == "stream" and this.strategy.streaming is None,
        "streaming: two blocks lie on the GPU at a time, the others in pinned host memory",
    ),
    (
        lambda this: this.strategy.quant.startswith("gptq") and this.strategy.sharding == "fsdp" and this.strategy.num_gpus > 1,
        "GPTQ under FSDP: packed integers looked at as 16-bit numbers, as fms-acceleration does, are estimated",
    ),
    (
        lambda this: this.case.evaluation is not None and this.case.evaluation.logits == "kept_gpu",
        "logits kept on the GPU are counted for one evaluation batch; they grow with every further batch",
    ),
)


def sent_words(plan: Plan, sent: Sent) -> str | None:
    """That a base goes to the plan's machine from here while that bills, where it takes much of its time; else None."""
    if sent.base_bytes is None or plan.offer.provider == LOCAL:
        return None
    brought, whole = plan.duration.phase_s[Phase.DOWNLOAD], plan.duration.wall_s
    if brought.p50 < SENT_SHARE * whole.p50:
        return None
    least, most = (max(1, round(seconds / SECONDS_PER_MINUTE)) for seconds in (brought.p50, brought.p90))
    return (
        f"the base goes there from this machine ({gib(sent.base_bytes)}), {least} to {most} min of the machine's time by an "
        "assumed uplink; one on the hub (--model OWNER/NAME) is fetched there, and `rentune quantize` makes a folder smaller"
    )
