"""The estimates of one search, each computed once however often it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Billing, Gpu, Offer
from planner.advise import Advice
from planner.asking.request import LOCAL, OWN_MACHINES, Request
from planner.asking.sent import NOTHING, Sent
from planner.estimators.calibration import ORDERED_DISK_BYTES_PER_S
from planner.estimators.cost import Dearest, dearest_of
from planner.estimators.host import estimate_host
from planner.estimators.memory import estimate_needs, estimate_vram, resting_bytes
from planner.estimators.memory.card.process import Needs, Outside, outside_of
from planner.estimators.memory.held.offloading import blocks_kept, keeping, streamed_plainly
from planner.estimators.memory.scene import memory_class
from planner.estimators.memory.step.numerics import has_flash
from planner.estimators.time.demand import Demand, demand_of, kept_as, streamed_as
from planner.estimators.time.duration import (
    Errand,
    Here,
    checkpoint_bytes,
    duration_on,
    errand_of,
    estimate_duration,
    least_learned,
    training_on,
    wait_of,
)
from planner.estimators.time.learned import Seen, machine_of
from planner.estimators.time.speed import StepTime, step_on
from planner.estimators.work import unpadded
from planner.methods import adapter_file_bytes
from planner.plan import DurationEstimate, HostEstimate, Range, VramEstimate
from planner.refusals import CaseRefused
from planner.search.ways.fit import Fit
from planner.search.ways.ladders import Ladder, Ladders
from planner.search.ways.strategies import strategies
from planner.strategy.packed import packed_of, require_taken
from planner.strategy.stack import PINNED_STACK
from remote.contract import Dtype, Quant, Strategy, Task, disk_blocks

# In these the strategies of one search differ; the rest of a Strategy is the same for all of them.
VARYING: Final = (
    "quant",
    "double_quant",
    "quant_storage",
    "kbit_upcast",
    "adapter_dtype",
    "optimizer",
    "param_dtype",
    "autocast",
    "micro_batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "sharding",
    "num_gpus",
    "offload",
    "streaming",
    "loss",
)

# What of these moves nothing that rests on a GPU
OF_A_PASS: Final = frozenset({"micro_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "loss"})

DTYPES_SAID: Final = frozenset({"param_dtype", "autocast"})  # who says one of them chooses how a packed base is computed with

key_of: Final[Callable[[Strategy], tuple[Any, ...]]] = attrgetter(*VARYING)  # what tells the strategies of one search apart
_resting_key_of: Final[Callable[[Strategy], tuple[Any, ...]]] = attrgetter(*(name for name in VARYING if name not in OF_A_PASS))


class Figures:
    """Memoized estimates of one job. Refusals of the estimators are remembered, too, as the error they raised."""

    def __init__(
        self,
        architecture: Architecture,
        request: Request,
        advice: Advice,
        *,
        seq_len: int,
        seen: tuple[Seen, ...] = (),
        sent: Sent = NOTHING,
        driver_installers: frozenset[str] = frozenset(),
    ) -> None:
        self.architecture = architecture
        self._packed = None if request.training.keys() & DTYPES_SAID else packed_of(architecture)
        self._request = request
        self._task = request.task
        self._data = request.data
        self._advice = advice
        self._seq_len = seq_len
        self.seen = seen
        self._sent = sent
        self._driver_installers = driver_installers  # providers whose first boot may have to put a GPU's driver in
        self._seen_on = frozenset(each.machine for each in seen)
        self._ladders: dict[tuple[int, Dtype], Ladders] = {}
        self._least: dict[tuple[int, Dtype, int], float] = {}
        self._needs: dict[tuple[Any, ...], tuple[Needs, Outside] | CaseRefused] = {}
        self._resting: dict[tuple[Any, ...], int] = {}
        self._host: dict[tuple[Any, ...], HostEstimate] = {}
        self._duration: dict[tuple[Any, ...], DurationEstimate] = {}
        self._demands: dict[tuple[Any, ...], Demand] = {}
        self._errands: dict[tuple[Any, ...], Errand] = {}
        self._within: dict[int, Figures] = {}
        self._dearest: Dearest | None = None
        self._filled: dict[tuple[Any, ...], tuple[Fit, ...]] = {}

    def filled(self, steps: Ladder, gpu: Gpu, has_bytes: int, fill: Callable[[], tuple[Fit, ...]]) -> tuple[Fit, ...]:
        """What `fill` makes of steps that fit and the room that they leave on such a card: made once."""
        key = (gpu.name, has_bytes, len(steps), *key_of(steps[0]))
        if key not in self._filled:
            self._filled[key] = fill()
        return self._filled[key]

    def within(self, seq_len: int) -> Figures:
        """Of the same job with sequences of that length."""
        if seq_len not in self._within:
            self._within[seq_len] = self._like(self._request, self._advice, seq_len=seq_len)
        return self._within[seq_len]

    def asking(self, request: Request, advice: Advice) -> Figures:
        """Of the same base and data, trained in another way."""
        return self._like(request, advice, seq_len=self._seq_len)

    def _like(self, request: Request, advice: Advice, *, seq_len: int) -> Figures:
        driver_installers, sent = self._driver_installers, self._sent
        return Figures(
            self.architecture, request, advice, seq_len=seq_len, seen=self.seen, sent=sent, driver_installers=driver_installers
        )

    def cut(self, strategy: Strategy) -> Strategy:
        """A strategy of the same job with sequences of this length."""
        return msgspec.structs.replace(strategy, seq_len=self._seq_len)

    def ladders(self, num_gpus: int, *, computes_in: Dtype) -> Ladders:
        """What is tried on so many GPUs that multiply fastest in this dtype; over a base that was packed in float16 in that,
        not in bfloat16: such cards multiply in both, and the two have no closed form together.
        """
        if computes_in == "bfloat16" and self._packed is not None and self._packed.dtype == "float16":
            computes_in = "float16"
        key = (num_gpus, computes_in)
        if key not in self._ladders:
            usual = strategies(
                self._advice,
                model=self._request.model,
                seq_len=self._seq_len,
                num_gpus=num_gpus,
                computes_in=computes_in,
                eager=self.architecture.eager_only,
                layers=self._request.loop.layers,
            )
            self._ladders[key] = Ladders(tuple(usual), said=self._advice.training)
        return self._ladders[key]

    def least_resting_bytes(self, num_gpus: int, *, computes_in: Dtype, lever: int) -> float:
        """What rests on a GPU at least with this lever pulled: on a card with less nothing of that fits."""
        key = (num_gpus, computes_in, lever)
        if key not in self._least:
            steps = self.ladders(num_gpus, computes_in=computes_in).last_steps(lever)
            self._least[key] = min((self._known_resting_bytes(step) for step in steps), default=math.inf)
        return self._least[key]

    def _known_resting_bytes(self, strategy: Strategy) -> float:
        try:
            return self.resting_bytes(strategy)
        except CaseRefused:
            return math.inf

    def vram(self, strategy: Strategy, gpu: Gpu | None) -> VramEstimate:
        """GPU memory on this very card. Raises CaseRefused for what has no closed form."""
        return estimate_vram(self.architecture, strategy, task=self._task, gpu=gpu)

    def needs(self, strategy: Strategy, gpu: Gpu | None) -> Needs:
        """What of it decides whether such a card holds the job, from one estimate per class of cards: what only the card's name
        decides is exchanged. This keeps a search over a hundred cards under a tenth of a second.
        """
        key = (*memory_class(gpu), *key_of(strategy))
        here = outside_of(gpu, strategy)
        if key not in self._needs:
            try:
                require_taken(self._packed, strategy)
                self._needs[key] = (estimate_needs(self.architecture, strategy, task=self._task, gpu=gpu), here)
            except CaseRefused as error:
                self._needs[key] = error
        found = self._needs[key]
        if isinstance(found, CaseRefused):
            raise found
        needs, elsewhere = found
        return needs.beside(here, elsewhere)

    def resting_bytes(self, strategy: Strategy) -> int:
        """What no GPU can do with less of. Raises CaseRefused for what has no closed form."""
        key = _resting_key_of(strategy)
        if key not in self._resting:
            require_taken(self._packed, strategy)
            self._resting[key] = resting_bytes(self.architecture, strategy, task=self._task)
        return self._resting[key]

    def host(self, strategy: Strategy, *, on_cpu: bool) -> HostEstimate:
        """RAM and disk of the box."""
        key = (on_cpu, *key_of(strategy))
        if key not in self._host:
            require_taken(self._packed, strategy)
            self._host[key] = estimate_host(
                self.architecture, strategy, num_gpus=strategy.num_gpus, on_cpu=on_cpu, task=self._task
            )
        return self._host[key]

    @property
    def task(self) -> Task:
        """What is trained for."""
        return self._task

    def step(self, strategy: Strategy, gpu: Gpu) -> StepTime:
        """Of sequences that are as long as they may be, on one card over PCIe."""
        loop, demand = self._request.loop, self._demand(strategy, float(strategy.seq_len), flash=has_flash(gpu))
        return step_on(gpu, demand, interconnect="pcie", tf32=loop.tf32, cuda_graphs=loop.cuda_graphs)

    def _demand(self, strategy: Strategy, mean_seq_len: float, *, flash: bool) -> Demand:
        """Of one that is streamed which blocks reside is asked a dozen times."""
        plain = streamed_plainly(strategy)
        key = (flash, mean_seq_len, *key_of(plain))
        if key not in self._demands:
            self._demands[key] = self._demand_of_kept(plain, mean_seq_len, flash=flash)
        return self._demands[key] if plain is strategy else streamed_as(self._demands[key], strategy)

    def _demand_of_kept(self, plain: Strategy, mean_seq_len: float, *, flash: bool) -> Demand:
        """Of one that is streamed which blocks keep what they save is asked often as well, and follows from none and all."""
        kept, depth = blocks_kept(plain, self.architecture.depth), self.architecture.depth
        if 0 < kept < depth:
            none, every = (self._demand(keeping(plain, number), mean_seq_len, flash=flash) for number in (0, depth))
            return kept_as(none, every, plain)
        return demand_of(self.architecture, plain, PINNED_STACK, task=self._task, mean_seq_len=mean_seq_len, flash=flash)

    def duration(self, strategy: Strategy, gpu: Gpu | None, offer: Offer) -> DurationEstimate:
        """Seconds by phase: the same for all rented machines that use the same GPUs over the same links, and wait for no disk
        or for the same.
        """
        return self._timed(strategy, gpu, offer, padded=True, waits=True)

    def scaling(self, strategy: Strategy, gpu: Gpu | None, offer: Offer, *, tokens_per_s: float) -> float | None:
        """What several GPUs reach of so many times the speed that one has by itself with the same micro-batches, whether
        it holds them or not. None: one GPU computes.
        """
        if strategy.num_gpus == 1 or gpu is None:
            return None
        alone = msgspec.structs.replace(strategy, num_gpus=1, num_nodes=1, sharding="none")
        return min(1.0, tokens_per_s / strategy.num_gpus / self.duration(alone, gpu, offer).tokens_per_s.p50)

    def least_duration(self, strategy: Strategy, gpu: Gpu | None, offer: Offer) -> DurationEstimate:
        """The same without a token of padding: rows of one length, so no other micro-batch computes on less; and without a
        wait for the disk. Of what earlier runs taught the least is taken that any of the ladders may gain by it.
        """
        return self._timed(strategy, gpu, offer, padded=False, waits=False)

    def _timed(self, strategy: Strategy, gpu: Gpu | None, offer: Offer, *, padded: bool, waits: bool) -> DurationEstimate:
        padded = padded or not (self._data.profile or self.seen)  # sizes that were only stated hold no padding
        waits = waits and offer.provider in ORDERED_DISK_BYTES_PER_S  # of most no more is to be known, and so nothing asked
        wait = wait_of(offer, self._errand(strategy, gpu, padded=padded)) if waits else None
        disk = offer.provider if disk_blocks(strategy) else None
        key = (self.pace(gpu, offer, num_gpus=strategy.num_gpus), disk, wait, padded, *key_of(strategy))
        if key not in self._duration:
            local = offer.provider == LOCAL  # its environment stands already, and so does the model
            self._duration[key] = duration_on(
                Here(
                    gpu,
                    offer,
                    reused_environment=local,
                    model_on_box=local,
                    may_install_driver=self.may_install_driver(gpu, offer),
                ),
                self._errand(strategy, gpu, padded=padded),
                disk_wait=wait,
                seen=self.seen,
                learned=None
                if padded or not self.seen
                else least_learned(self.seen, self._quants(), gpu=gpu, offer=offer, num_gpus=strategy.num_gpus),
            )
        return self._duration[key]

    def may_install_driver(self, gpu: Gpu | None, offer: Offer) -> bool:
        """Whether a first boot there may have to put the card's driver in."""
        return gpu is not None and gpu.vendor == "nvidia" and offer.provider in self._driver_installers

    def pace(self, gpu: Gpu | None, offer: Offer, *, num_gpus: int) -> tuple[object, ...]:
        """What of a machine decides how long a job takes on so many of its GPUs: where that is the same, so is the time."""
        kind = (offer.vcpus, offer.provider) if gpu is None else (gpu.name, offer.provider in OWN_MACHINES)
        link = offer.interconnect if num_gpus > 1 else None  # one GPU has nobody to talk to, in whatever box
        machine = machine_of(offer.provider, offer.instance_type)
        own = machine if machine in self._seen_on else None  # to all others earlier runs teach the same
        return (*kind, own, offer.provider == LOCAL, link, self.may_install_driver(gpu, offer))

    def _errand(self, strategy: Strategy, gpu: Gpu | None, *, padded: bool) -> Errand:
        flash = None if gpu is None else has_flash(gpu)
        key = (flash, padded, *key_of(strategy))
        if key not in self._errands:
            self._errands[key] = self._errand_of(strategy, flash=flash, padded=padded)
        return self._errands[key]

    def _errand_of(self, strategy: Strategy, *, flash: bool | None, padded: bool) -> Errand:
        data = self._data if padded else unpadded(self._data, strategy, on_cpu=flash is None)
        return errand_of(
            self.architecture,
            strategy,
            data=data,
            loop=self._request.loop,
            task=self._task,
            flash=flash,
            sent=self._sent,
            demand=None if flash is None else lambda mean_seq_len: self._demand(strategy, mean_seq_len, flash=flash),
        )

    def training(self, strategy: Strategy, gpu: Gpu) -> Range:
        """Seconds of the training alone on cards in one machine, whichever that is, linked by PCIe."""
        return training_on(gpu, self._errand(strategy, gpu, padded=True), interconnect="pcie", seen=self.seen)

    def uncached(self, strategy: Strategy, gpu: Gpu | None, offer: Offer) -> tuple[DurationEstimate, HostEstimate]:
        """Of a strategy on several machines, of which few are asked for: nothing is kept."""
        duration = estimate_duration(
            self.architecture,
            strategy,
            Here(gpu, offer, may_install_driver=self.may_install_driver(gpu, offer)),
            data=self._data,
            loop=self._request.loop,
            task=self._task,
            sent=self._sent,
        )
        return duration, estimate_host(self.architecture, strategy, num_gpus=strategy.num_gpus, on_cpu=False, task=self._task)

    def _quants(self) -> frozenset[Quant]:
        """In which ways the weights are held, in all that is tried."""
        return frozenset(ladder[0].quant for ladders in self._ladders.values() for ladder in ladders.usual)

    def dearest(self, billing: Mapping[str, Billing]) -> Dearest:
        """The dearest price of each kind that anybody states; the market is the same for all of a search."""
        if self._dearest is None:
            self._dearest = dearest_of(billing.values())
        return self._dearest

    def adapter_bytes(self, strategy: Strategy) -> int:
        """Bytes that come home."""
        return adapter_file_bytes(self.architecture, strategy, task=self._task)

    def checkpoint_bytes(self, strategy: Strategy) -> int:
        """Bytes of one checkpoint on the way."""
        return checkpoint_bytes(self.architecture, strategy, self._task)
