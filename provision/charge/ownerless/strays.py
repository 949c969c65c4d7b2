"""Ending what was found at a provider and carries the tag of a run that is over, or of one that no ledger here knows."""

from __future__ import annotations

from contextlib import nullcontext

from catalogs.user_file import printable, shortened
from provision.account.ledger import Ledger
from provision.charge.ends.afterwards import write_stray_end
from provision.charge.ends.handover import alone_with
from provision.charge.ownerless.orphans import by_hand_words
from provision.errors import BadInput
from provision.seam import Answer, Claim, Resource, ResourceEnd, Teardown
from provision.walk.edges import Edges


def tell_nameless(provider: str, resource: Resource, *, at_s: float) -> Teardown:
    """The verdict on what carries a tag of ours and names no run that can be: it is there, and nothing of ours ends it."""
    end = ResourceEnd(resource=resource, gone=Answer.NO, at_s=at_s)
    tag = shortened(resource.run_id or "")
    said = f"{provider} lists {resource.words}, whose tag '{tag}' is no run's id: {by_hand_words(provider)}."
    return Teardown.orphaned(resource.run_id or "a run without a name", said, resources=(end,))


def end_stray(run_id: str, provider: str, edges: Edges, *, meant: bool = False) -> Teardown:
    """End what carries the tag of a run that this ledger does not know, or knows as over: that is written there. A tag that no
    run of ours can have is somebody else's: what carries it is left, and told.

    The look that found it may have been long ago: raises Held where its run goes on, or a process here has it in hand; not if
    it is `meant`: this very run has passed its deadline, and its ledger is lost.
    """
    places, note = edges.places, edges.display.note
    try:
        claim = Claim(run_id=run_id, provider=provider, folder=places.run(run_id).root)
    except BadInput:
        way = by_hand_words(provider)
        said = f"Something at {provider} carries the tag '{shortened(run_id)}', which is no run's id: {way}."
        return Teardown.unknown(printable(run_id), said)
    with nullcontext() if meant else alone_with(run_id, places.run(run_id), Ledger(places.ledger), note, edges.clocks):
        teardown = edges.provisioners()(claim).destroy(claim)
        write_stray_end(teardown, provider, at_s=edges.clocks.wall(), places=places, note=note)
    return teardown
