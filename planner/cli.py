"""What `plan` does between the command line and the answer. The caller hands in who can be rented from, and today's date.

read_asked   options (and a job file, a saved plan, a data file) -> Request, or a saved Plan
answer       Request -> SearchResult, with the shipped catalog
run_plan     both, shown: the body of the `plan` command
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from catalogs.catalog import Catalog
from catalogs.hardware import Offer
from planner.plan import Plan, Provider, SearchResult
from planner.request import Request
from remote.contract import Capabilities


def read_asked(options: Mapping[str, Any], *, folder: Path) -> Request | Plan:
    """What the options ask for. Job file and data are read here; relative paths start from `folder`, those in a job file
    from where it lies. A saved plan is returned as it is when no option changes it, else its request is asked anew.
    """
    raise NotImplementedError


def answer(
    request: Request,
    *,
    catalog: Catalog,
    providers: Mapping[str, Provider],
    capabilities: Capabilities,
    today: dt.date,
    offers: tuple[Offer, ...] = (),
    versions: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> SearchResult:
    """Search the catalog's offers, and `offers` beside them (this machine, a host that exists)."""
    raise NotImplementedError


def run_plan(
    options: Mapping[str, Any],
    *,
    providers: Mapping[str, Provider],
    capabilities: Capabilities,
    today: dt.date,
    offers: tuple[Offer, ...] = (),
    versions: Mapping[str, str] | None = None,
    folder: Path | None = None,
    write: Callable[[str], None],
    width: int,
    colour: bool,
    enclose: Callable[[SearchResult], str],
) -> int:
    """Answer the options on `write`: as tables `width` columns wide, or with --json as `enclose` renders the result.

    Returns 0 when there is a plan, runnable or not, and 2 when nothing does the job. Raises RequestError and the other
    typed refusals for what can't be understood.
    """
    raise NotImplementedError
