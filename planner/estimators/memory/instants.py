"""The instants of a step and what is alive in each: the peak is the largest of them, never their sum.

Of most instants there are several: which of two blocks is the larger, or which moment within it, follows from the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from planner.estimators.memory.beside_decoder import (
    bias_gradient_bytes,
    bias_zeros_bytes,
    named_bias_bytes,
    remade_bias_bytes,
    zeros_copy_bytes,
)
from planner.estimators.memory.copies import autocast_copies, copies_made_again, held_copies
from planner.estimators.memory.frames import (
    argument_bytes,
    cached_item,
    prefix_cache_bytes,
    returned_weights_bytes,
    zero_weights_bytes,
)
from planner.estimators.memory.held.optimizers import stepped_bytes
from planner.estimators.memory.kept import (
    all_kept,
    attributes_left,
    batch_bytes,
    beside_blocks,
    idle_bytes,
    kept_above,
    kept_by,
    kept_by_decoder,
    kept_by_first,
)
from planner.estimators.memory.scene import Scene
from planner.estimators.memory.step.head import MAKE_THE_GRADIENT
from planner.estimators.memory.step.letters import cut, highest
from planner.estimators.memory.step.numerics import accumulates
from planner.estimators.memory.step.operations import FP32
from planner.estimators.memory.step.played import PlayedBlock
from planner.estimators.memory.step.tape import Peak
from planner.methods import METHODS, saved_modules
from planner.plan import Instant

Parts = dict[str, int]  # component -> bytes alive, in letters


def instants_of(scene: Scene) -> dict[Instant, dict[int, Parts]]:
    """What may be alive in each instant: all components together, and each. The largest in a batch is what counts."""
    moments: dict[Instant, Iterable[Parts]] = {
        "load": (_load(scene),),
        "prepare": (_prepare(scene),),
        "forward": _in_flight(scene, _forward(scene)),
        "loss": _in_flight(scene, (*_loss_forward(scene), *_loss_backward(scene))),
        "backward": (
            *_in_flight(
                scene, (*_last_block(scene), *_above_encoder(scene), *_lowest_that_trains(scene), *_first_block(scene))
            ),
            *_at_embedding(scene),
        ),
        "optimizer_step": (_optimizer_step(scene),),
    }
    return {instant: _highest(several) for instant, several in moments.items()}


def _in_flight(scene: Scene, moments: Iterable[Parts]) -> Iterable[Parts]:
    """The moments, with what is on its way to the host and back where saved tensors wait there."""
    if not scene.in_flight:
        return moments
    return [_with(parts, activations=size) for parts in moments for size in scene.in_flight]


def _highest(moments: Iterable[Parts]) -> dict[int, Parts]:
    by_total: dict[int, Parts] = {}
    for parts in moments:
        by_total.setdefault(sum(parts.values()), parts)
    return {total: by_total[total] for total in highest(by_total)}


# ── before the step ────────────────────────────────────────────────────────────────────────────────────────────────────


def _load(scene: Scene) -> Parts:
    """Weights as loaded, and one 16-bit tensor while it is being quantized; a checkpoint that is so already quantizes none."""
    return {"weights": scene.share.loaded, "temporaries": scene.weights.largest_loaded}


def _prepare(scene: Scene) -> Parts:
    """Weights after the upcast, the old copy of the largest tensor, and the adapter. A saved module is copied as it is, and
    that copy cast.
    """
    a, n, narrow = scene.architecture, scene.numerics, scene.weights.lm_head_item
    cast = bool(saved_modules(a, scene.strategy)) and n.adapter != narrow
    matrix = scene.trained.stage.of_ends(a.vocabulary_size * narrow)
    return {
        "weights": scene.share.weights,
        "adapter": scene.share.added,
        "temporaries": max(scene.cast_at_once, cast * matrix),
    }


# ── the step ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _with(parts: Parts, **more: int) -> Parts:
    """The parts, with bytes added to some."""
    return parts | {name: parts.get(name, 0) + num_bytes for name, num_bytes in more.items()}


def _cached(scene: Scene) -> int:
    """Of a prefix's cache what no kernel keeps: attention keeps repeated heads, or copies of 16 bits."""
    n = scene.numerics
    apart = n.repeats_kv or cached_item(scene) != (n.autocast or n.weight)
    return prefix_cache_bytes(scene) if apart else 0


def _forward(scene: Scene) -> Iterator[Parts]:
    """A last block of each kind, with everything that the blocks before it keep."""
    layers = scene.share.num_layers
    alone = layers > 1 if scene.checkpointed else scene.num_blocks == 1 < layers  # else saved, and counted with the block
    cached = _cached(scene) + named_bias_bytes(scene) + (returned_weights_bytes(scene) if alone else 0)
    around = _with(scene.resident, activations=cached, autocast_copies=autocast_copies(scene) + zeros_copy_bytes(scene))
    for kind in scene.kinds:
        kept = all_kept(scene, without=None if scene.checkpointed else kind) + argument_bytes(scene, kind)
        kept -= kept_by_decoder(scene) if kind is not scene.kinds[0] else 0  # an encoder runs before it
        kept -= kept_above(scene, kind)
        profile = kind.played.profile
        for hump in profile.plain_peak if scene.checkpointed else profile.forward_peak:
            yield _with(around, activations=kept, temporaries=hump)


def _loss_forward(scene: Scene) -> Iterator[Parts]:
    """The head's forward: the logits hump."""
    kept = all_kept(scene) + _saved_by_head(scene) + _cached(scene)
    copies = autocast_copies(scene) + zeros_copy_bytes(scene)
    around = _with(scene.resident, gathered_weights=scene.fetched_head, activations=kept, autocast_copies=copies)
    for hump in scene.head.profile.forward_peak:
        yield _with(around, logits=hump)


def _loss_backward(scene: Scene) -> Iterator[Parts]:
    """The head's backward. Autocast's copies went when its context ended, unless a block's graph holds them."""
    made = scene.head.profile.weight_gradients
    around = _with(
        scene.resident,
        gathered_weights=scene.fetched_head,
        activations=all_kept(scene) + _saved_by_head(scene),
        logits=_kept_outputs(scene) - made,
        gradients=_share_of_gradient(scene, _head_gradients(scene)) + _gradients_before(scene),
        temporaries=made if accumulates(scene.strategy) else 0,  # made in full before it is added
        autocast_copies=held_copies(scene),
    )
    for hump in scene.head.profile.backward_peak:
        yield _with(around, logits=hump)


def _saved_by_head(scene: Scene) -> int:
    return scene.hidden_bytes if scene.head.profile.saves_input else 0


def _kept_outputs(scene: Scene) -> int:
    """What the loop's own variables keep alive through backward."""
    if scene.stack.keep_outputs == "nothing":
        return 0
    cache = 0
    if scene.stack.keep_outputs == "logits_and_cache" and not scene.checkpointed and scene.numerics.repeats_kv:
        # without repeated heads the cache is the very keys and values that attention keeps
        cache = scene.cache_bytes(scene.numerics.tokens, scene.numerics.autocast or scene.numerics.weight)
    return scene.head.returned_bytes + cache


def _share_of_gradient(scene: Scene, num_bytes: int) -> int:
    """A gradient that has just been made: 0 where it goes into another."""
    share = scene.share
    return 0 if accumulates(scene.strategy) else num_bytes * share.gradient_widened // share.gradient_share


def _all_gradients(scene: Scene) -> int:
    """Those of everything that trains, once they have all been made in this step."""
    return 0 if accumulates(scene.strategy) else scene.share.gradients


def _head_gradients(scene: Scene) -> int:
    """Those of the output matrix where that trains, or of all of a head that tells classes apart."""
    trained = scene.trained
    return trained.head_params * trained.head_item or trained.stage.of_ends(scene.head.profile.weight_gradients)


def _waiting_for_embedding(scene: Scene) -> int:
    """The head's gradient where it is added to one that stands: of a tied matrix not before the embedding's has come."""
    return _head_gradients(scene) if _tied(scene) and accumulates(scene.strategy) else 0


def _tied(scene: Scene) -> bool:
    """Whether embedding and head train as one matrix: what peft saves are copies, and labels have a head apart."""
    return scene.writes and scene.architecture.tied_embeddings and METHODS[scene.strategy.method].moves_all


def _gradients_before(scene: Scene) -> int:
    """Those that a term of the loss over the trained tensors themselves makes: added last, it is met first."""
    adapter = METHODS[scene.strategy.method].adapter
    return _all_gradients(scene) if adapter is not None and adapter.regularized else 0


def _humps(scene: Scene, played: PlayedBlock) -> Peak:
    """A block in backward, above what it keeps outside; its recomputation included where it is checkpointed."""
    profile = played.profile
    if not scene.checkpointed:
        return tuple(size - profile.saved for size in profile.backward_peak)
    leaves_nodes = scene.strategy.gradient_checkpointing == "non_reentrant"
    once = played.attribute_bytes - played.attributes_again if leaves_nodes else 0
    beside = zero_weights_bytes(scene) + copies_made_again(scene)
    return (*(size - once + beside for size in profile.backward_peak), *_humps_again(scene, played))


def _humps_again(scene: Scene, played: PlayedBlock) -> Peak:
    """A checkpointed block while it is computed again, beside the gradients that wait for it."""
    profile = played.profile
    stops = scene.strategy.gradient_checkpointing == "non_reentrant" and not scene.checkpoints_leave
    waiting = profile.waiting if scene.strategy.gradient_checkpointing != "reentrant" else scene.hidden_bytes
    beside = waiting + zero_weights_bytes(scene) + copies_made_again(scene)
    return tuple(size + beside for size in (profile.again_peak if stops else profile.forward_peak))


def _last_block(scene: Scene) -> Iterator[Parts]:
    """The last block, with everything still kept: any kind may be it."""
    around = _with(
        scene.resident,
        activations=all_kept(scene),
        logits=_kept_outputs(scene),
        gradients=_share_of_gradient(scene, _head_gradients(scene)) + _gradients_before(scene),
        temporaries=_waiting_for_embedding(scene) + bias_zeros_bytes(scene),
        autocast_copies=held_copies(scene),
    )
    for kind in scene.kinds:
        for hump in _humps(scene, kind.played):
            yield _with(around, temporaries=hump)


def _above_encoder(scene: Scene) -> Iterator[Parts]:
    """The decoder's last block but one, and its first: gradients of shared biases have come, the encoder's states are kept."""
    decoder = scene.kinds[0]
    if scene.architecture.kind != "encoder_decoder" or not scene.checkpointed:
        return
    kept, depth = kept_by(scene, decoder), scene.architecture.depth
    num_blocks, each = scene.num_blocks * decoder.num_layers, decoder.played.profile.weight_gradients
    around = _with(
        scene.resident,
        activations=all_kept(scene) - kept,
        temporaries=bias_gradient_bytes(scene) + _waiting_for_embedding(scene),
        logits=_kept_outputs(scene),
        gradients=_share_of_gradient(scene, _head_gradients(scene) + each),
        autocast_copies=held_copies(scene),
    )
    for hump in _humps(scene, decoder.played):
        yield _with(around, temporaries=hump)
    below, made = (cut(size, max(0, num_blocks - 2 * depth), depth) for size in (kept, each))
    first = _with(around, activations=-below, gradients=_share_of_gradient(scene, made))
    for size in _humps_again(scene, decoder.played):
        yield _with(first, temporaries=size + remade_bias_bytes(scene))


def _lowest_that_trains(scene: Scene) -> Iterator[Parts]:
    """The lowest block that trains, where others lie below it: all gradients but its own are made, those blocks still kept."""
    if not scene.num_below:
        return
    made = _all_gradients(scene)
    waiting = _waiting_for_embedding(scene)
    around = _with(scene.resident, logits=_kept_outputs(scene), gradients=made, temporaries=waiting)
    for kind in scene.kinds:
        here = scene.num_below * scene.share.num_layers * (kind.of // scene.architecture.depth)
        kept = cut(kept_by(scene, kind), here, kind.of) + kept_by(scene, kind) + beside_blocks(scene)
        for hump in _humps(scene, kind.played):
            yield _with(around, activations=kept, temporaries=hump - kind.played.profile.weight_gradients)


def _first_block(scene: Scene) -> Iterator[Parts]:
    """The first block, with every gradient made but the embedding's."""
    made = _all_gradients(scene)
    a = scene.architecture  # a decoder's embedding has had its share of the gradient that an encoder's adds to
    begun = _tied(scene) or a.kind == "encoder_decoder"
    to_come = 0 if begun else _share_of_gradient(scene, _embedding_gradient(scene))
    waiting = _embedding_gradient(scene) if begun and accumulates(scene.strategy) else 0
    around = _with(scene.resident, logits=_kept_outputs(scene), gradients=made - to_come, temporaries=waiting)
    left = attributes_left(scene)
    for kind in scene.lowest:
        kept = kept_by_first(scene, kind) - idle_bytes(scene) + beside_blocks(scene) + left
        for hump in _humps(scene, kind.first):
            yield _with(around, activations=kept, temporaries=hump - kind.first.profile.weight_gradients)


def _at_embedding(scene: Scene) -> Iterator[Parts]:
    """The embedding's gradient, which is made last and in full.

    Tied to the output head, both wait here, and their sum is a matrix of its own. derived: the head's gradient is a view when
    it comes to be summed, so autograd does not add in place; it does where that was cast from a copy's, or where a loss in
    chunks has made it whole. An encoder's embedding is its decoder's as well: what that has given waits for the encoder's,
    which is added in place.
    """
    a, n = scene.architecture, scene.numerics
    in_place = (n.copies_weights and n.weight != n.autocast) or scene.strategy.loss in MAKE_THE_GRADIENT
    summed = (1 if in_place else 2) if _tied(scene) else int(a.kind == "encoder_decoder")
    matrices = summed + accumulates(scene.strategy)
    scratch = n.batch.scattered * a.hidden_size * FP32 if scene.embedding_trains else 0
    yield _with(
        scene.resident,
        activations=batch_bytes(scene),
        temporaries=scene.hidden_bytes + matrices * _embedding_gradient(scene) + scratch,
        logits=_kept_outputs(scene),
        gradients=_all_gradients(scene),
    )


def _embedding_gradient(scene: Scene) -> int:
    """Bytes of the gradient of the matrix that words are looked up in; 0 where it does not train."""
    a, n = scene.architecture, scene.numerics
    item = n.weight if METHODS[scene.strategy.method].moves_all else n.adapter
    return scene.trained.stage.of_ends(a.vocabulary_size * item) if scene.embedding_trains else 0


def _optimizer_step(scene: Scene) -> Parts:
    """Gradients, states and the optimizer's own temporaries; no activations, unless it runs in backward: then the head is the
    first that is stepped, with everything still kept.
    """
    kept = all_kept(scene) if scene.strategy.optimizer_in_backward else 0
    together = stepped_bytes(scene.architecture, scene.strategy, scene.trained) // scene.share.gradient_share
    parts = _with(scene.resident, temporaries=scene.share.step_scratch, activations=kept)
    return parts | {"gathered_weights": 0, "gradients": min(together, scene.share.gradients)}
