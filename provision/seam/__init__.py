"""The one seam between the walk and whatever rents: a cloud through Pulumi, the local box, a host that exists.

Whoever drives a run by it does not know which kind it is; what looks into an account, without a run, asks the cloud's own
module. Each probe answers yes, no or *unknown*, and unknown never destroys, restarts or bills.

provisioner.py  Provisioner: what every kind does
claim.py        Claim: what finds a run at its provider; Own: the part of it that may be ended
launch.py       Launch: what a new box needs beside a claim
box.py          Box: a machine that can be reached over SSH
resource.py     Resource: a thing at a provider that carries our tag
owned.py        Owned: what a provider lists of ours, and whether it showed everything
teardown.py     Teardown: the verdict on an end
ends.py         Ends: when a box ends itself
layer.py        Layer: one of the things that end a box which nobody comes back to
answer.py       Answer: yes, no, unknown
clocks.py       how far two clocks may be apart, and how long past its deadline a box is still its controller's
"""

from __future__ import annotations

from provision.seam.answer import Answer
from provision.seam.box import Box
from provision.seam.claim import Claim, Own
from provision.seam.clocks import CLOCK_ERROR_S, CLOCKS_AGREE_S, DEADLINE_GRACE_S, SET_CLOCK, clock_trouble
from provision.seam.ends import Ends
from provision.seam.launch import Launch
from provision.seam.layer import IDLE_LIMIT, LEASE, Layer
from provision.seam.owned import Owned, seen
from provision.seam.provisioner import InCharge, Provisioner, unshared
from provision.seam.resource import MACHINE, VOLUME, Resource
from provision.seam.teardown import ResourceEnd, Teardown

__all__ = [
    "CLOCKS_AGREE_S",
    "CLOCK_ERROR_S",
    "DEADLINE_GRACE_S",
    "IDLE_LIMIT",
    "LEASE",
    "MACHINE",
    "SET_CLOCK",
    "VOLUME",
    "Answer",
    "Box",
    "Claim",
    "Ends",
    "InCharge",
    "Launch",
    "Layer",
    "Own",
    "Owned",
    "Provisioner",
    "Resource",
    "ResourceEnd",
    "Teardown",
    "clock_trouble",
    "seen",
    "unshared",
]
