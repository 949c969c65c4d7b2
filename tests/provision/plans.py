"""A small plan by hand: a two-layer Llama with random weights, trained on this machine's CPU."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from catalogs.bases.models import resolve_model
from catalogs.hardware import Billing, Offer
from planner.asking.data import measured_again
from planner.asking.request import DataAsked, Request
from planner.estimators.memory import estimate_vram
from planner.plan import CostEstimate, DurationEstimate, HostEstimate, Plan, Range, VramEstimate
from provision.account.ledger import Ledger
from provision.account.lines import Attempted, Ended, Tried
from provision.account.runs import Rental
from provision.errors import Reason, Scope
from provision.prepare.asking import data_measure
from provision.seam import Teardown
from remote.contract import Loop, Phase, Strategy

TINY_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 259,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
FREE = Billing(
    provider="local",
    increment_s=1,
    minimum_s=0,
    stopped_compute_bills=False,
    stopped_disk_bills=False,
    minimum_disk_gib=0,
    disk_usd_per_gib_month=Decimal(0),
    egress_usd_per_gb=Decimal(0),
    egress_free_gb=0,
    source="test",
    as_of=None,
)


def exactly(value: float) -> Range:
    return Range(p10=value, p50=value, p90=value)


def attempted(run_id: str, plan: Plan | None = None, *, at_s: float, deadline_at_s: float = 1e10) -> Attempted:
    """The ledger's line before a box of the plan is asked for."""
    plan = plan or tiny_plan(Path("/model"), Path("/data"))
    return Attempted(run_id=run_id, at_s=at_s, offer=plan.offer, billing=plan.billing, disk_gib=1, deadline_at_s=deadline_at_s)


def between_attempts(run_id: str, ledger: Ledger) -> None:
    """The last one came to nothing and left nothing; another may follow."""
    tried = Tried(
        run_id=run_id, at_s=3.0, offer="x", reason=Reason.CAPACITY, scope=Scope.OFFER, message="", took_s=1.0, usd=Decimal(0)
    )
    gone = Ended(run_id=run_id, at_s=2.0, teardown=Teardown.destroyed(run_id, ""))
    for line in (attempted(run_id, at_s=1.0), gone, tried):
        ledger.append(line)


def rental(plan: Plan, **fields: Any) -> Rental:
    """A box of the plan; by its fields, when it was there and what went on."""
    known: dict[str, Any] = {"offer": plan.offer, "billing": plan.billing, "disk_gib": 1, "asked_at_s": 0.0}
    return Rental(**(known | {"up_at_s": fields["started_at_s"]} | fields))


def about(value: float) -> Range:
    return Range(p10=0.8 * value, p50=value, p90=1.3 * value)


def tiny_files(folder: Path, *, rows: int = 24) -> tuple[Path, Path]:
    """A config.json and a data file: (model folder, data file)."""
    model = folder / "tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(TINY_CONFIG))
    data = folder / "rows.jsonl"
    lines = [
        json.dumps({"prompt": f"What is {number} plus one?", "completion": f"It is {number + 1}."}) for number in range(rows)
    ]
    data.write_text("\n".join(lines) + "\n")
    return model, data


def tiny_texts(data: Path, *, rows: int = 24) -> Path:
    """Rows of text, which ask for no answer: random weights come to no end of one, and a result like that is in doubt."""
    data.write_text("".join(json.dumps({"text": f"{number} plus one is {number + 1}."}) + "\n" for number in range(rows)))
    return data


def tiny_plan(model: Path, data: Path, *, steps: int = 8, usd_per_hour: Decimal = Decimal("3.60"), **request: object) -> Plan:
    """A plan that runs as it stands; `request` overrides fields of its Request."""
    asked = Request(
        model=str(model),
        training={"method": "lora"},
        loop=Loop(epochs=float(steps), max_steps=steps, evaluations=1, num_samples=1, sample_tokens=4, checkpoint_every_s=1.0),
        data=DataAsked(
            path=str(data), num_examples=24, mean_tokens=40, max_tokens=64, basis="estimated from characters", held_out_rows=8
        ),
    )
    phases = (Phase.CREATE, Phase.BOOT, Phase.ENVIRONMENT, Phase.LOAD, Phase.PROBE, Phase.TRAIN, Phase.EVALUATE, Phase.SAVE)
    return Plan(
        request=msgspec.structs.replace(asked, **request),
        strategy=Strategy(
            method="lora",
            rank=4,
            alpha=8.0,
            target_modules=("q_proj", "v_proj"),
            param_dtype="float32",
            autocast="none",
            optimizer="adamw_torch",
            micro_batch_size=4,
            seq_len=64,
            gradient_checkpointing="off",
        ),
        offer=Offer(
            provider="local",
            region="here",
            instance_type="this-machine",
            purchase="on_demand",
            gpu=None,
            num_gpus=Decimal(0),
            vcpus=2,
            ram_gib=8,
            usd_per_hour=usd_per_hour,
            hosts="data centre",
            source="test",
        ),
        gpu=None,
        billing=FREE,
        vram=VramEstimate(
            allocated_peak_bytes=0,
            reserved_peak_bytes=0,
            process_peak_bytes=0,
            required_bytes=0,
            evaluation_peak_bytes=0,
            peak_instant="backward",
            components={},
            by_instant={},
        ),
        host=HostEstimate(ram_peak_bytes=600 * 2**20, ram_components={}, disk_peak_bytes=10 * 2**20, disk_components={}),
        duration=DurationEstimate(
            tokens_per_s=about(4000),
            step_s=about(0.06),
            bound="host",
            num_steps=steps,
            num_tokens=steps * 256,
            phase_s={phase.value: about(2.0) for phase in phases},
            wall_s=about(16.0),
            energy_kwh=exactly(0.0),
        ),
        cost=CostEstimate(
            compute_usd=about(0.016),
            disk_usd=exactly(0.0),
            egress_usd=exactly(0.0),
            total_usd=about(0.016),
            billed_s=about(16.0),
            usd_per_million_tokens=1.0,
        ),
        verdict="fits",
        margin_bytes=2**30,
        why_not=None,
        provider_status="runs on this machine",
        assumptions=(),
        catalog_as_of=None,
        planned_on=dt.date(2026, 11, 25),
        versions={"rentune": "0.1.0"},
    )


def as_its_files_are(plan: Plan) -> Plan:
    """The same plan, made for the rows and the base that lie there, as one that was saved has to be."""
    data = measured_again(plan.request, measure=data_measure(quiet=True))
    vram = estimate_vram(resolve_model(plan.request.model, base=Path.cwd()), plan.strategy, task=plan.request.task)
    return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, data=data), vram=vram)
