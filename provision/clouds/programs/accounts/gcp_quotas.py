"""How many GPUs a project of Google's may have: a quota a card and region, and one for all of them together.

Compute Engine tells both beside what is in use. A card that it lists no quota of is one whose quota lies elsewhere (Cloud
Quotas), which is not asked. A spot machine counts against a quota of its own or, where the project was granted none, against
the one on demand: which, it does not tell, so of spot nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from catalogs.hardware import ANYWHERE, Offer
from provision.clouds.programs.accounts.gcp_api import connect, project_of
from provision.clouds.programs.accounts.quotas import Quota
from provision.clouds.programs.rest import Json

EVERYWHERE: Final = "GPUS_ALL_REGIONS"
# The catalog's GPU -> the region's quota (docs.cloud.google.com/compute, "GPU quotas", and the API's list of metrics; recalled,
# 2026-11).
METRICS: Final = {
    "A100-SXM4-40GB": "NVIDIA_A100_GPUS",
    "A100-SXM4-80GB": "NVIDIA_A100_80GB_GPUS",
    "H100 SXM5": "NVIDIA_H100_GPUS",
    "L4": "NVIDIA_L4_GPUS",
}
GPU_QUOTAS: Final = (EVERYWHERE,)


def needs(offer: Offer) -> dict[str, float]:
    """Its GPUs, of the quota for all regions and of the card's own in its region."""
    if offer.gpu is None or offer.purchase == "spot":
        return {}
    names = [EVERYWHERE, *([METRICS[offer.gpu]] if offer.gpu in METRICS else [])]
    return dict.fromkeys(names, float(offer.num_gpus))


def quotas(region: str, names: Iterable[str], environment: Mapping[str, str]) -> tuple[Quota, ...]:
    """Those of the project, and those of the region where one is named."""
    api, project = connect(environment), f"/projects/{project_of(environment)}"
    told = _told(api.ask("GET", project), "the whole project")
    if region != ANYWHERE:
        told |= _told(api.ask("GET", f"{project}/regions/{region}"), region)
    return tuple(told.get(name) or Quota(name=name, unit="GPUs", where=region, limit=None, used=None) for name in names)


def _told(answer: Json, where: str) -> dict[str, Quota]:
    return {
        row["metric"]: Quota(name=row["metric"], unit="GPUs", where=where, limit=row["limit"], used=row["usage"])
        for row in answer.get("quotas", [])
    }
