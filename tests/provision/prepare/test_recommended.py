"""Whatever `plan` recommends can be handed over: its JobSpec is one that the trainer carries out, and somebody can rent it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.asking.data import default_data
from planner.asking.request import Budget, Request, Where
from planner.edges import Edges
from planner.plan import Plan
from planner.search import search
from planner.search.market.offers import on_sale
from provision.clouds.orders.images import fitted
from provision.clouds.programs import CLOUDS, load_cloud
from provision.handoff import hand_off
from provision.home.places import read_places
from provision.prepare.inputs import BaseModel
from provision.providers import known_providers, make_provisioner
from remote.contract import CAPABILITIES, JobSpec, decode

CATALOG = read_catalog()
WISHES = {
    "anything": Where(),
    "spot": Where(spot=True),
    "16 GB on demand": Where(gpu_memory_gib=16.0, spot=False),
    **{cloud: Where(providers=(cloud,)) for cloud in CLOUDS if any(each.provider == cloud for each in CATALOG.offers)},
}


def runnable(where: Where, model: str = "7b") -> list[Plan]:
    """All plans that are said to be runnable; among them is the best for each goal."""
    request = Request(model=model, data=default_data(), where=where, budget=Budget(goal="balanced"), top=3)
    edges = Edges(providers=known_providers(), capabilities=CAPABILITIES, today=dt.date(2026, 11, 26))
    result = search(request, resolve_model(model), edges, on_sale(CATALOG, edges))
    return [plan for plan in result.plans if plan.why_not is None]


@pytest.mark.parametrize("wish", WISHES)
def test_every_recommended_row_becomes_a_job_and_finds_its_provisioner(wish: str, tmp_path: Path) -> None:
    """Nothing is promised that the next step would refuse."""
    plans = runnable(WISHES[wish])
    assert plans != []
    base = BaseModel(kind="hub", hub_id="owner/name", revision="a" * 40, sha256={"model.safetensors": "b" * 64})
    places = read_places({"HOME": str(tmp_path)})
    for plan in plans:
        data = msgspec.structs.replace(plan.request.data, path="/home/rows.jsonl")
        asked = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, data=data))
        handed = hand_off(asked, base, run_id="r1", job_folder="/b", billed_since_s=0, started_at_s=0.0, deadline_at_s=9e9)
        spec = decode(msgspec.json.encode(handed.spec), JobSpec)
        assert spec.strategy == plan.strategy
        assert CAPABILITIES.missing(spec.strategy, plan.request.task) == ()
        cloud = load_cloud(plan.offer.provider)
        assert fitted(cloud, plan.offer, cloud.IMAGE, CATALOG.gpus).misfit is None
        assert make_provisioner(plan.offer.provider, places=places, environment={}) is not None
