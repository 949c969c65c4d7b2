"""The instants of a step and what is alive in each: the peak is the largest of them, never their sum.

Of most instants there are several: which of two blocks is the larger, or which moment within it, follows from the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from planner.estimators.memory.beside_decoder import (
    bias_gradient_bytes,
    encoder_end_bytes,
    remade_bias_bytes,
    shared_bias_bytes,
)
from planner.estimators.memory.copies import autocast_copies, held_copies
from planner.estimators.memory.held.optimizers import stepped_bytes
from planner.estimators.memory.scene import Kind, Scene
from planner.estimators.memory.step.attention import weights_item
from planner.estimators.memory.step.letters import cut, highest
from planner.estimators.memory.step.numerics import accumulates
from planner.estimators.memory.step.operations import FP32
from planner.estimators.memory.step.played import PlayedBlock
from planner.estimators.memory.step.tape import Peak
from planner.methods import METHODS, saved_modules, trains_embedding
from planner.plan import Instant

BATCH_BYTES_PER_TOKEN: Final = 24  # derived: int64 token ids, labels and positions (or mask)

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
        "temporaries": max(scene.weights.largest_upcast, cast * matrix),
    }


# ── the step ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def resident(scene: Scene) -> Parts:
    """Alive through the whole step."""
    kept = scene.strategy.gradient_accumulation_steps > 1 and not scene.strategy.optimizer_in_backward
    return {
        "weights": scene.share.weights,
        "gathered_weights": scene.share.gathered,
        "adapter": scene.share.added,
        "gradients": scene.share.gradients if kept else 0,
        "optimizer": scene.share.states + scene.share.masters,
        "buckets": scene.share.buckets,
        "workspaces": scene.workspaces,
    }


def _with(parts: Parts, **more: int) -> Parts:
    """The parts, with bytes added to some."""
    return parts | {name: parts.get(name, 0) + num_bytes for name, num_bytes in more.items()}


def _kept_by(scene: Scene, kind: Kind) -> int:
    """Bytes that a block keeps until its backward, outside of it."""
    played = kind.played
    if not scene.checkpointed:
        return played.profile.saved + played.profile.saves_input * scene.hidden_bytes
    attributes = played.attribute_bytes if scene.strategy.gradient_checkpointing == "non_reentrant" else 0
    return attributes + (0 if scene.checkpoints_leave else scene.hidden_bytes)


def _activations(scene: Scene, *, without: Kind | None = None) -> int:
    """What all blocks keep, but for one of a kind; the batch itself, and the embedding where it is held apart."""
    kept = sum(cut(_kept_by(scene, kind), scene.num_blocks * kind.num_layers, kind.of) for kind in scene.kinds)
    if without is None or scene.num_blocks > 1:
        kept -= _idle_bytes(scene)
    return kept - (_kept_by(scene, without) if without is not None else 0) + _around(scene)


def _around(scene: Scene) -> int:
    """What lies beside the blocks' own: checkpoints in flight, the batch, the embedding."""
    in_flight = 2 * scene.hidden_bytes if scene.checkpoints_leave else 0  # one out, one computing
    return in_flight + _batch_bytes(scene) + _embedding_bytes(scene) + encoder_end_bytes(scene)


def _idle_bytes(scene: Scene) -> int:
    """What the first trained block does not keep, since nothing before it trains. Checkpointing makes its input ask for one."""
    reached = scene.checkpointed or _trains_embedding(scene) or _learned_in_sequence(scene)
    stacks = scene.kinds if scene.architecture.kind == "encoder_decoder" else scene.kinds[-1:]
    return 0 if reached else sum(kind.played.idle_bytes for kind in stacks)


def _learned_in_sequence(scene: Scene) -> bool:
    """Whether what comes into the first block is learned itself: a prompt stands in front."""
    prompt = METHODS[scene.strategy.method].prompt
    return prompt is not None and prompt.stands_in == "sequence"


def _embedding_bytes(scene: Scene) -> int:
    """What the embedding's own operations keep, where a gradient reaches them: full training, or checkpointing.

    With a frozen base, checkpointing needs the embedding's output to ask for a gradient. Autograd then holds it as a leaf,
    beside the first block's input wherever something is done to it in between. BERT's norm keeps its input, dropout a mask.
    """
    a, n = scene.architecture, scene.numerics
    leaf = scene.checkpointed and not _trains_embedding(scene)
    if not leaf and not _trains_embedding(scene):
        return 0
    apart = a.scaled_embeddings or not a.rotary or _learned_in_sequence(scene)
    normed = n.tokens * a.hidden_size * (FP32 if n.autocast else n.residual) if a.layout == "post" else 0
    mask = n.tokens * a.hidden_size if a.hidden_dropout and not a.rotary else 0
    stacks = 2 if a.kind == "encoder_decoder" else 1
    return stacks * (leaf * apart * n.tokens * a.hidden_size * scene.weights.lm_head_item + normed + mask)


def _batch_bytes(scene: Scene) -> int:
    """Token ids, labels, positions, the mask of every pair, T5's biases."""
    n = scene.numerics
    return n.tokens * BATCH_BYTES_PER_TOKEN + n.pairs * scene.mask_item + shared_bias_bytes(scene)


def _cached(scene: Scene) -> int:
    """Keys and values that the cache of a prefix holds while the model runs, where attention keeps repeated ones."""
    n = scene.numerics
    if not n.prefix or not n.repeats_kv:
        return 0
    item = max(n.cache, n.autocast or n.weight)
    return scene.cache_bytes(n.keys, item)


def _forward(scene: Scene) -> Iterator[Parts]:
    """A last block of each kind, with everything that the blocks before it keep."""
    layers = scene.share.num_layers
    alone = layers > 1 if scene.checkpointed else scene.num_blocks == 1 < layers  # else saved, and counted with the block
    cached = _cached(scene) + (returned_weights(scene) if alone else 0)
    around = _with(resident(scene), activations=cached, autocast_copies=autocast_copies(scene))
    for kind in scene.kinds:
        kept = _activations(scene, without=None if scene.checkpointed else kind)
        profile = kind.played.profile
        for hump in profile.plain_peak if scene.checkpointed else profile.forward_peak:
            yield _with(around, activations=kept, temporaries=hump)


def _loss_forward(scene: Scene) -> Iterator[Parts]:
    """The head's forward: the logits hump."""
    kept = _activations(scene) + _saved_by_head(scene) + _cached(scene)
    around = _with(resident(scene), activations=kept, autocast_copies=autocast_copies(scene))
    for hump in scene.head.profile.forward_peak:
        yield _with(around, logits=hump)


def _loss_backward(scene: Scene) -> Iterator[Parts]:
    """The head's backward. Autocast's copies went when its context ended, unless a block's graph holds them."""
    made = scene.head.profile.weight_gradients
    around = _with(
        resident(scene),
        activations=_activations(scene) + _saved_by_head(scene),
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
    return scene.trained.stage.of_ends(scene.head.profile.weight_gradients)


def _waiting_for_embedding(scene: Scene) -> int:
    """The head's gradient where it is added to one that stands: of a tied matrix not before the embedding's has come."""
    return _head_gradients(scene) if _tied(scene) and accumulates(scene.strategy) else 0


def _tied(scene: Scene) -> bool:
    """Whether embedding and head train as one matrix: what peft saves are copies, each by itself."""
    return scene.architecture.tied_embeddings and METHODS[scene.strategy.method].moves_all


def _trains_embedding(scene: Scene) -> bool:
    return trains_embedding(scene.architecture, scene.strategy)


def _gradients_before(scene: Scene) -> int:
    """Those that a term of the loss over the trained tensors themselves makes: added last, it is met first."""
    adapter = METHODS[scene.strategy.method].adapter
    return _all_gradients(scene) if adapter is not None and adapter.regularized else 0


def _humps(scene: Scene, played: PlayedBlock) -> Peak:
    """A block in backward, above what it keeps outside; its recomputation included where it is checkpointed."""
    profile = played.profile
    if not scene.checkpointed:
        return tuple(size - profile.saved for size in profile.backward_peak)
    kept_inside = played.attribute_bytes if scene.strategy.gradient_checkpointing == "non_reentrant" else 0
    waiting = profile.waiting if scene.strategy.gradient_checkpointing != "reentrant" else scene.hidden_bytes
    again = (size + waiting for size in profile.forward_peak)
    return tuple(size - kept_inside + _again_with_weights(scene) for size in (*profile.backward_peak, *again))


def _again_with_weights(scene: Scene) -> int:
    """Attention's weights that a block returns, and zeros for a gradient of them: the re-entrant checkpoint holds both.

    derived: CheckpointFunction leaves `set_materialize_grads` as it is, and what it returned alive through its backward.
    """
    return 2 * returned_weights(scene) if scene.strategy.gradient_checkpointing == "reentrant" else 0


def returned_weights(scene: Scene) -> int:
    """Attention's weights that a block hands back: a local of the loop over blocks, until the next one has come back."""
    a, n = scene.architecture, scene.numerics
    if not a.returns_weights or n.attention != "eager":
        return 0
    return a.num_heads * n.pairs * weights_item(a, n)


def _last_block(scene: Scene) -> Iterator[Parts]:
    """The last block, with everything still kept: any kind may be it."""
    around = _with(
        resident(scene),
        activations=_activations(scene),
        logits=_kept_outputs(scene),
        gradients=_share_of_gradient(scene, _head_gradients(scene)) + _gradients_before(scene),
        temporaries=_waiting_for_embedding(scene),
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
    kept, depth = _kept_by(scene, decoder), scene.architecture.depth
    num_blocks, each = scene.num_blocks * decoder.num_layers, decoder.played.profile.weight_gradients
    around = _with(
        resident(scene),
        activations=_activations(scene) - kept,
        temporaries=bias_gradient_bytes(scene),
        logits=_kept_outputs(scene),
        gradients=_share_of_gradient(scene, _head_gradients(scene) + each),
        autocast_copies=held_copies(scene),
    )
    for hump in _humps(scene, decoder.played):
        yield _with(around, temporaries=hump)
    below, made = (cut(size, max(0, num_blocks - 2 * depth), depth) for size in (kept, each))
    first = _with(around, activations=-below, gradients=_share_of_gradient(scene, made))
    for size in decoder.played.profile.forward_peak:
        yield _with(first, temporaries=size + remade_bias_bytes(scene))


def _lowest_that_trains(scene: Scene) -> Iterator[Parts]:
    """The lowest block that trains, where others lie below it: all gradients but its own are made, those blocks still kept."""
    if not scene.num_below:
        return
    made = _all_gradients(scene)
    waiting = _waiting_for_embedding(scene)
    around = _with(resident(scene), logits=_kept_outputs(scene), gradients=made, temporaries=waiting)
    for kind in scene.kinds:
        here = scene.num_below * scene.share.num_layers * (kind.of // scene.architecture.depth)
        kept = cut(_kept_by(scene, kind), here, kind.of) + _kept_by(scene, kind) + _around(scene)
        for hump in _humps(scene, kind.played):
            yield _with(around, activations=kept, temporaries=hump - kind.played.profile.weight_gradients)


def _first_block(scene: Scene) -> Iterator[Parts]:
    """The first block, with every gradient made but the embedding's."""
    made = _all_gradients(scene)
    a = scene.architecture  # a decoder's embedding has had its share of the gradient that an encoder's adds to
    begun = _tied(scene) or a.kind == "encoder_decoder"
    to_come = 0 if begun else _share_of_gradient(scene, _embedding_gradient(scene))
    waiting = _embedding_gradient(scene) if begun and accumulates(scene.strategy) else 0
    around = _with(resident(scene), logits=_kept_outputs(scene), gradients=made - to_come, temporaries=waiting)
    left = _attributes_left(scene)
    for kind in scene.kinds:
        kept = _kept_by(scene, kind) - _idle_bytes(scene) + _around(scene) + left
        for hump in _humps(scene, kind.first):
            yield _with(around, activations=kept, temporaries=hump - kind.first.profile.weight_gradients)


def _attributes_left(scene: Scene) -> int:
    """Plain attributes of the blocks above the first: backward frees none as it goes, but those of re-entrant checkpoints."""
    above = max(0, scene.num_blocks - 1) if scene.strategy.gradient_checkpointing in ("off", "non_reentrant") else 0
    return sum(cut(kind.played.attribute_bytes, above * kind.num_layers, kind.of) for kind in scene.kinds)


def _at_embedding(scene: Scene) -> Iterator[Parts]:
    """The embedding's gradient, which is made last and in full.

    Tied to the output head, both wait here, and their sum is a matrix of its own. derived: the head's gradient is a view when
    it comes to be summed, so autograd does not add in place; it does where that was cast from a copy's. An encoder's
    embedding is its decoder's as well: what that has given waits for the encoder's, which is added in place.
    """
    a, n = scene.architecture, scene.numerics
    in_place = n.copies_weights and n.weight != n.autocast
    summed = (1 if in_place else 2) if _tied(scene) else int(a.kind == "encoder_decoder")
    matrices = summed + accumulates(scene.strategy)
    scratch = n.batch.scattered * a.hidden_size * FP32 if _trains_embedding(scene) else 0
    yield _with(
        resident(scene),
        activations=_batch_bytes(scene),
        temporaries=scene.hidden_bytes + matrices * _embedding_gradient(scene) + scratch,
        logits=_kept_outputs(scene),
        gradients=_all_gradients(scene),
    )


def _embedding_gradient(scene: Scene) -> int:
    """Bytes of the gradient of the matrix that words are looked up in; 0 where it does not train."""
    a, n = scene.architecture, scene.numerics
    item = n.weight if METHODS[scene.strategy.method].moves_all else n.adapter
    return scene.trained.stage.of_ends(a.vocabulary_size * item) if _trains_embedding(scene) else 0


def _optimizer_step(scene: Scene) -> Parts:
    """Gradients, states and the optimizer's own temporaries; no activations, unless it runs in backward: then the head is the
    first that is stepped, with everything still kept.
    """
    kept = _activations(scene) if scene.strategy.optimizer_in_backward else 0
    together = stepped_bytes(scene.architecture, scene.strategy, scene.trained) // scene.share.gradient_share
    parts = _with(resident(scene), temporaries=scene.share.step_scratch, activations=kept)
    return parts | {"gathered_weights": 0, "gradients": min(together, scene.share.gradients)}
