"""What a run is driven or ended by, whichever run it is: this home, whoever watches, the providers, the clocks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from provision.home.clocks import CLOCKS, Clocks
from provision.home.places import Places
from provision.providers import Confirm, provisioner_of_run
from provision.seam import Claim, Provisioner
from provision.walk.phases import Display

MakeProvisioner = Callable[[Claim], Provisioner]


def provisioners(places: Places, environment: Mapping[str, str], *, confirm: Confirm | None = None) -> MakeProvisioner:
    """What makes the provisioner of a run from where its box is; `confirm` is asked for the key of a host that is new."""
    return partial(provisioner_of_run, places=places, environment=environment, confirm=confirm)


@dataclass(frozen=True)
class Edges:
    """All that is touched beside the run itself."""

    places: Places
    display: Display
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)  # keys lie in it
    make: MakeProvisioner | None = None  # from where a run's box is; None = what this home has for its provider
    clocks: Clocks = CLOCKS

    def provisioners(self, *, confirm: Confirm | None = None) -> MakeProvisioner:
        """Its own maker, else this home's."""
        return self.make or provisioners(self.places, self.environment, confirm=confirm)

    def by(self, make: MakeProvisioner) -> Edges:
        """These edges with `make` as the maker of provisioners."""
        return replace(self, make=make)
