"""The feed-forward part of a block, written onto a tape: gated and plain MLPs, experts.

Each function follows the lines of transformers' MLP and expert modules, in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from catalogs.bases.architectures import Linear, Routing
from planner.estimators.memory.step.adapters import linear
from planner.estimators.memory.step.operations import FP32, Block, activation, dropout
from planner.estimators.memory.step.tape import Tensor
from planner.methods import Parameter


def feed_forward(block: Block, x: Tensor) -> Tensor:
    """The MLP of a block: dense, experts, or both side by side. Its input is an argument, alive until it returns."""
    fed = _fed(block, x)
    block.tape.hold(x)
    return fed


def _fed(block: Block, x: Tensor) -> Tensor:
    a = block.architecture
    dense = _gated_mlp if a.gated_mlp else _plain_mlp
    if not a.num_experts:
        return dropout(block, dense(block, x), a.hidden_size, a.hidden_dropout)
    if "down" not in block.by_role:
        return _of_experts(block, x)
    if a.model_type in SHARED_FIRST:
        shared = dense(block, x)
        routed = _of_experts(block, x)
    else:
        routed = _of_experts(block, x)
        shared = dense(block, x)
    if a.model_type in GATES_SHARED:
        shared = block.op((shared,), a.hidden_size, block.items[shared], saves=(shared,))
    return block.op((routed, shared), a.hidden_size, block.items[routed], passes=True)


# derived: the lines of Qwen2MoeSparseMoeBlock and Llama4TextMoe; the former's gate, one number a token, multiplies the shared
SHARED_FIRST: Final = frozenset({"qwen2_moe", "llama4_text"})
GATES_SHARED: Final = frozenset({"qwen2_moe"})


def _of_experts(block: Block, x: Tensor) -> Tensor:
    """The experts that a token is routed to, in a tensor for each matrix of all, or as linears of their own."""
    a = block.architecture
    adapted = any(module.name in block.n.adapted for module in a.expert_linears)
    return _listed(block, x) if adapted else EXPERTS[a.experts](block, x)


def _gated_mlp(block: Block, x: Tensor) -> Tensor:
    """down(act(gate(x))·up(x)). The product keeps both factors, the activation its input."""
    down = block.by_role["down"][0]
    width = down.in_features
    if "gate_up" in block.by_role:
        gate, up = block.split(linear(block, x, block.by_role["gate_up"][0]), (width, width))
        inner = _gated(block, gate, lambda: up, width)
    else:
        gate = linear(block, x, block.by_role["gate"][0])
        inner = _gated(block, gate, lambda: linear(block, x, block.by_role["up"][0]), width)
    return _down(block, dropout(block, inner, width, block.architecture.inner_dropout), down)


def _gated(block: Block, gate: Tensor, make_up: Callable[[], Tensor], width: int) -> Tensor:
    """act(gate)·up, where up is made after the activation, as the module's line is evaluated."""
    if "mlp" in block.n.fused:
        up = make_up()
        overwritten = -block.n.tokens * width * (block.items[gate] + block.items[up])  # gradients lie where gate and up lay
        return block.op((gate, up), width, block.items[gate], saves=(gate, up), backward_scratch=overwritten)
    activated = activation(block, gate, width)
    up = make_up()
    items = block.items[activated], block.items[up]
    return block.op((activated, up), width, max(items), saves=(activated, up), backward_scratch=block.uncast(width, *items))


FLATTENS: Final = frozenset({"opt"})  # derived: OPTDecoderLayer hands its MLP a matrix, all tokens in its rows


def _plain_mlp(block: Block, x: Tensor) -> Tensor:
    """down(act(up(x)))."""
    up, down = block.by_role["up"][0], block.by_role["down"][0]
    block.flat = block.architecture.model_type in FLATTENS
    inner = activation(block, linear(block, x, up), up.out_features)
    block.inner = dropout(block, inner, up.out_features, block.architecture.inner_dropout)
    fed = _down(block, block.inner, down)
    block.flat = False
    return fed


def _down(block: Block, inner: Tensor, down: Linear) -> Tensor:
    """The last linear. T5 casts what comes into it."""
    if block.architecture.narrows_inner:
        kept = down.kept and block.n.quant != "none"
        inner = block.cast(inner, down.in_features, block.n.kept_weight if kept else block.n.weight)
    return linear(block, inner, down)


def _routed(block: Block, x: Tensor) -> Tensor:
    """Grouped products over the routed copies of each token (transformers' `grouped_mm` path); the router is negligible.

    derived: torch's grouped_mm knows no autocast, so transformers casts what comes in to the weights' dtype.
    """
    a, n = block.architecture, block.n
    copies, width, item = a.experts_per_token, a.intermediate_size, n.kept_weight
    per_block = a.expert_params_per_block * n.weight if n.trains_all else 0
    if a.jitters_input:
        x = _jittered(block, _jittered(block, x))  # by the block, and again by its router
    before = block.items[x]  # experts hand back what came to them
    selected = block.op((x,), copies * a.hidden_size, before)  # a local, until the sum is there
    gathered = block.cast(selected, copies * a.hidden_size, item)
    both_matrix = _with_lora(block, "gate_up_proj")
    both = block.op(
        (gathered, *both_matrix),
        copies * 2 * width,
        item,
        saves=(gathered, *both_matrix) if n.trains_all or both_matrix else (),
        weight_gradient=per_block * 2 // 3,
    )
    inner = GATES[a.experts](block, both, copies * width)
    down_matrix = _with_lora(block, "down_proj")
    out = block.op(
        (inner, *down_matrix),
        copies * a.hidden_size,
        item,
        saves=(inner, *down_matrix) if n.trains_all or down_matrix else (),
        weight_gradient=per_block // 3,
    )
    wide = max(item, ROUTING_ITEMS[a.routing](n.autocast, before))
    # in backward a product for the weights, before it is summed, beside one for the answer, before it is cast
    products = n.tokens * copies * a.hidden_size * (2 * wide - item if n.gives_up_early or wide == item else 2 * wide)
    weighted = block.op((out,), copies * a.hidden_size, wide, saves=(out,), backward_scratch=products)
    ordered = block.op((weighted,), copies * a.hidden_size, wide, asks=True)  # for the order
    block.tape.hold(out)
    summed = block.cast(block.op((ordered,), a.hidden_size, wide), a.hidden_size, before)
    block.tape.hold(selected, out, *both_matrix, *down_matrix)  # locals, and what peft keeps while the experts run
    return summed


# what an expert's answer is multiplied by -> its bytes, of those of autocast (0 = none) and of what came to the experts;
# autocast multiplies a router that asks for fp32 in its own dtype, and raises a softmax that asks for none
ROUTING_ITEMS: Final[dict[Routing, Callable[[int, int], int]]] = {
    "fp32": lambda _autocast, _stream: FP32,
    "product": lambda autocast, stream: autocast or stream,
    "wide_product": lambda autocast, _stream: autocast or FP32,
    "softmax": lambda autocast, stream: FP32 if autocast else stream,
    "stream": lambda _autocast, stream: stream,
}


def _listed(block: Block, x: Tensor) -> Tensor:
    """Experts that are MLPs of linears, each with what a method hangs on it, over the tokens that are routed to it.

    derived: MixtralSparseMoeBlock of transformers 4.57, whose loop over experts is written as one product of each kind; so
    what one expert after the other makes and drops is counted for all of them together.
    """
    many, hidden = block.of_experts(), block.architecture.hidden_size
    gate, up, down = block.architecture.expert_linears
    if block.architecture.jitters_input:
        x = _jittered(block, x)
    gathered = many.op((x,), hidden, block.items[x])
    inner = _gated(many, linear(many, gathered, gate), lambda: linear(many, gathered, up), block.architecture.intermediate_size)
    out = linear(many, inner, down)
    weighted = many.op((out,), hidden, block.items[out], saves=(out,))
    return block.cast(block.op((weighted,), hidden, block.items[weighted]), hidden, block.items[x])


def _with_lora(block: Block, parameter: Parameter) -> tuple[Tensor, ...]:
    """The matrices of all experts with LoRA's product added: a tensor as large as theirs; none where they carry nothing.

    derived: peft 0.21's ParamWrapper and _LoraFactorsProxy (tuners/lora/layer.py), in the dtype of the experts, whatever
    autocast says. A router's is left out: a few megabytes.
    """
    n, item = block.n, block.n.kept_weight
    fused = next((each for each in n.adapted_experts if each.parameter == parameter), None)
    if fused is None:
        return ()
    narrow = sum(fused.tensors(n.dials)) * item  # both factors, cast for the product and kept for its backward
    whole = fused.experts * fused.in_features * fused.out_features
    return (
        block.matrix(
            (),
            whole,
            item,
            keeps=narrow if item != n.adapter else 0,
            backward_scratch=narrow,
            weight_gradient=sum(fused.trained(n.dials)) * n.adapter,
        ),
    )


def _jittered(block: Block, x: Tensor) -> Tensor:
    """Times a random number each, in place: backward needs the numbers."""
    one = block.n.tokens * block.architecture.hidden_size * block.items[x]
    return block.op((x,), block.architecture.hidden_size, block.items[x], keeps=one)


def _plain_gate(block: Block, both: Tensor, width: int) -> Tensor:
    """silu(gate)·up, both halves in one tensor."""
    gate, up = block.split(both, (width, width))
    activated = block.op((gate,), width, block.items[both], saves=(gate,))
    return block.op((activated, up), width, block.items[both], saves=(activated, up))


def _clamped_gate(block: Block, both: Tensor, width: int) -> Tensor:
    """GPT-OSS: (clamped up + 1)·clamped gate·sigmoid(α·clamped gate)."""
    item = block.items[both]
    gate = block.op((both,), width, item, saves=(both,))
    up = block.op((both,), width, item, saves=(both,))
    bent = block.op((gate,), width, item)
    bent = block.op((bent,), width, item, saves_output=True)
    glu = block.op((gate, bent), width, item, saves=(gate, bent))
    up = block.op((up,), width, item)
    return block.op((up, glu), width, item, saves=(up, glu))


GATES = {"routed": _plain_gate, "routed_clamped": _clamped_gate}


def _every(block: Block, x: Tensor) -> Tensor:
    """Llama 4: every expert computes every token, weighted by a score that is 0 for all but the routed ones."""
    a, n = block.architecture, block.n
    all_, width, item = a.num_experts, a.intermediate_size, n.autocast or n.weight
    per_block = a.expert_params_per_block * n.weight if n.trains_all else 0
    repeated = block.op((x,), all_ * a.hidden_size, block.items[x])
    weighted = block.op((repeated,), all_ * a.hidden_size, block.items[x], saves=(repeated,))
    kept = (weighted,) if n.trains_all else ()
    both = block.op((weighted,), all_ * 2 * width, item, saves=kept, weight_gradient=per_block * 2 // 3)
    gate, up = block.split(both, (all_ * width, all_ * width))
    activated = block.op((gate,), all_ * width, item, saves=(gate,))
    inner = block.op((activated, up), all_ * width, item, saves=(activated, up))
    kept = (inner,) if n.trains_all else ()
    out = block.op((inner,), all_ * a.hidden_size, item, saves=kept, weight_gradient=per_block // 3)
    block.tape.hold(weighted, both)  # what the experts were given, and what they cut in two
    summed = block.op((out,), a.hidden_size, block.items[out])
    block.tape.hold(weighted)
    return summed


EXPERTS = {"routed": _routed, "routed_clamped": _routed, "every": _every}
