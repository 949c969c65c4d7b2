"""Asking every provider that may hold something of ours: `ls --orphans` and `down --orphans`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from planner.request import HOST
from provision.account.ledger import Ledger, damage
from provision.charge.orphans import Orphans, find_orphans, providers_to_ask
from provision.errors import RentuneError
from provision.installation import known_installation
from provision.prepare.opening import read_launch
from provision.providers import make_provisioner
from provision.provisioner import Answer, Owned

if TYPE_CHECKING:
    from provision.account.ledger import RunState
    from provision.places import Places


def look_for_orphans(places: Places) -> Orphans:
    """The ledger against what each provider lists. Asks the network only where a run was opened."""
    ledger = Ledger(places.ledger)
    runs = ledger.runs()
    owned = {provider: _ask(provider, places) for provider in providers_to_ask(runs.values()) if provider != HOST}
    hosts = {state.run_id: state for state in runs.values() if state.opened.provider == HOST and not state.ended}
    owned |= {f"{HOST} of {run_id}": _ask_host(state, places) for run_id, state in hosts.items()}
    if sentence := damage(ledger):
        owned["ledger"] = Owned(resources=(), complete=Answer.UNKNOWN, message=sentence)
    return find_orphans(runs, owned, installation=known_installation(places), now_s=time.time())


def _ask(provider: str, places: Places) -> Owned:
    try:
        return make_provisioner(provider, places=places, environment=os.environ).owned()
    except RentuneError as error:
        return Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))


def _ask_host(state: RunState, places: Places) -> Owned:
    launch = read_launch(places.run(state.run_id), state)
    try:
        provisioner = make_provisioner(HOST, places=places, user_at_host=launch.user_at_host, host_key=launch.host_key)
        return provisioner.owned(state.run_id)
    except RentuneError as error:
        return Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))
