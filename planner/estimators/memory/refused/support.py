"""What has a closed form. Everything else is refused by name, never guessed."""

from __future__ import annotations

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import packed_copy
from catalogs.bases.nested import TEXT_IS_LOADED
from catalogs.user_file import shortened
from planner.estimators.memory.held.optimizers import require_optimizer
from planner.estimators.memory.refused.impossible import IMPOSSIBLE
from planner.estimators.memory.refused.parallel import require_parallel
from planner.methods import adapted_experts, chosen_layers, require_layers, require_method
from planner.refusals import CaseError, Unsupported
from planner.strategy.packed import packed_by_others
from planner.strategy.precision import BITSANDBYTES, packs_experts, packs_linears
from planner.strategy.stack import Stack
from remote.contract import FUSED_FAMILIES, PACKED_KEY, STORED_QUANTS, Strategy, Task, keeps_apart

NARROW = frozenset({"bfloat16", "float16"})
TASKS = ("causal_lm", "seq2seq", "classification", "token_classification", "embedding")
OF_ANOTHER_TYPE = "a model_type that has one and the same shape, such as llama or qwen3"
NO_CAUSAL = {"encoder": "an encoder", "encoder_decoder": "an encoder with a decoder"}  # kinds that go on with no text


def require_closed_form(architecture: Architecture, strategy: Strategy, *, task: Task, stack: Stack) -> None:
    """Raise Unsupported with the key at fault and the nearest choice."""
    require_method(strategy.method)
    _described(architecture)
    require_optimizer(architecture, strategy)
    for refuse in (_layers, _task, _quant, _dtypes, _experts, _together):
        refuse(architecture, strategy, task, stack)
    require_parallel(architecture, stack)


def require_counted(architecture: Architecture, strategy: Strategy, *, task: Task, stack: Stack) -> None:
    """Raise Unsupported where not even the trained parameters can be counted; less than a closed form asks for."""
    require_method(strategy.method)
    _layers(architecture, strategy, task, stack)
    _experts(architecture, strategy, task, stack)


def require_unquantized(architecture: Architecture, quant: str, *, double_quant: bool, param_dtype: str | None = None) -> None:
    """Raise Unsupported for weights that are stored quantized, unless they are stored as the case asks: by `remote.quantized`,
    or in another way than bitsandbytes', which quantizes plain weights while they are loaded. `param_dtype`: None = any.
    """
    stored = architecture.config.get("quantization_config")
    by_others = packed_by_others(architecture)
    if stored is None or (by_others is None and quant not in ("none", *BITSANDBYTES)):
        return
    if by_others is not None:
        _require_as_stored(architecture, by_others.quant, quant)
        return
    if (packed := architecture.config.get(PACKED_KEY)) is not None:
        _require_packed_so(architecture, packed, quant, double_quant=double_quant)
        _require_of_dtype(architecture, packed, param_dtype)
        return
    how = stored.get("quant_method") or "a quantization"
    raise Unsupported(
        "model",
        f"{architecture.name} is stored in {shortened(how)}, {_not_so(how)} ({architecture.source})",
        "name the base that it was made from, by its hub id or config.json; quant nf4 or int8 quantizes it while loading",
    )


def _not_so(how: str) -> str:
    """Why a base that is stored so is not planned."""
    known = [quant for quant, named in STORED_QUANTS.items() if named == how]
    if not known:
        return f"and of what others packed only {', '.join(STORED_QUANTS)} are planned"
    return f"in a width or layout that is not planned: of {how} that is {' or '.join(known)}"


def _require_as_stored(architecture: Architecture, is_so: str, quant: str) -> None:
    if quant != is_so:
        raise Unsupported(
            "model",
            f"{architecture.name} is stored in {is_so}, not in {quant} ({architecture.source})",
            f"leave quant out, or say quant {is_so}; else name the base that it was made from, by its hub id or config.json",
        )


def _require_packed_so(architecture: Architecture, packed: object, quant: str, *, double_quant: bool) -> None:
    """Packed weights are trained as they are: packing them another way takes the base that they were made from."""
    found = packed if isinstance(packed, dict) else {}
    is_so = found.get("quant"), bool(found.get("double_quant"))
    if is_so != (quant, double_quant):
        double = str(is_so[1]).lower()
        words = f"{shortened(str(is_so[0]))} with double_quant {double}"
        raise Unsupported(
            "model",
            f"{architecture.name} is packed in {words}, not in {quant} with double_quant {str(double_quant).lower()}",
            f"say quant {is_so[0]} and double_quant {double}{_frozen(quant)}, or name the base that it was made from",
        )


def _frozen(quant: str) -> str:
    """What else packed weights ask of whoever wants plain ones, as a method does that trains them."""
    return ", with a method that leaves them frozen (lora)" if quant == "none" else ""


def _require_of_dtype(architecture: Architecture, packed: object, param_dtype: str | None) -> None:
    """What is not packed was rounded to its dtype before: in another one it would not be what packing anew makes."""
    is_so = packed.get("dtype") if isinstance(packed, dict) else None
    if None not in (is_so, param_dtype) and is_so != param_dtype:
        raise Unsupported(
            "param_dtype",
            f"{architecture.name} is packed in param_dtype {shortened(str(is_so))}, not in {param_dtype}",
            f"pack it anew with --dtype {param_dtype}, or leave param_dtype out",
        )


def require_unpacked(reference: str) -> None:
    """Refuses a copy without a config at hand whose name says that it is packed: the trainer would meet packed weights."""
    if (copy := packed_copy(reference)) is not None:
        how, base = copy
        instead = f"name the base that it was made from, {base}; quant nf4 or int8 quantizes it while loading"
        raise Unsupported(
            "model",
            f"{shortened(reference)} is stored in {how}, as its name says, and how it lies there only its config.json says",
            f"fetch it and name its folder, or {instead}" if how in STORED_QUANTS.values() else instead,
        )


def require_trainable(architecture: Architecture, task: Task) -> None:
    """Raise Unsupported for a base that can be estimated and not be trained: our trainer runs no code from the hub, and what
    it trains to go on with a text must have been made for that.
    """
    if architecture.remote_code:
        why = f"the code of {architecture.name} comes with its weights, and the trainer runs none from the hub"
    elif architecture.part_of is not None and architecture.part_of not in TEXT_IS_LOADED:
        why = f"{architecture.name} is a {architecture.part_of}, of which the trainer can't load the language model alone"
    elif task == "causal_lm" and architecture.kind in NO_CAUSAL:
        why = f"{architecture.name} is {NO_CAUSAL[architecture.kind]}, and the trainer trains models that go on with a text"
    else:
        return
    learns_classes = task == "causal_lm" and architecture.kind == "encoder" and not architecture.remote_code
    answers = task == "causal_lm" and architecture.kind == "encoder_decoder" and not architecture.remote_code
    instead = "--task classification trains it to tell classes apart" if learns_classes else "train it with its own loop"
    instead = "--task seq2seq trains it to answer one text by another" if answers else instead
    hint = f"rentune estimate --model {architecture.name} says what it needs; {instead}"
    raise Unsupported("model", why, hint)


def require_apart(architecture: Architecture) -> None:
    """Raise Unsupported for a base whose texts would see each other in a row that holds several."""
    config = architecture.config | {"model_type": architecture.model_type}
    if not keeps_apart(config):
        why = f"a {architecture.model_type} does not keep the texts of a packed row apart"
        raise Unsupported("packing", why, "leave data.packing out; row_order: by_length saves padding with any base")


def require_fusable(architecture: Architecture) -> None:
    """Raise Unsupported for a base whose norms, rotations and gated MLPs our trainer does not know."""
    if architecture.model_type not in FUSED_FAMILIES:
        families = ", ".join(FUSED_FAMILIES)
        why = f"the trainer has fused kernels for {families}, and {architecture.name} is a {architecture.model_type}"
        raise Unsupported("kernels", why, "say kernels eager")


def _described(architecture: Architecture) -> None:
    """Of a base that a config alone outlines, a trace counts what there is."""
    if architecture.outlined:
        raise Unsupported("model", f"model type {architecture.model_type} has no closed form here", OF_ANOTHER_TYPE)


def _layers(architecture: Architecture, strategy: Strategy, _task: Task, _stack: Stack) -> None:
    """Chosen blocks: those that there are, and no experts, of which peft adapts all blocks' alike."""
    require_layers(architecture, strategy)
    if chosen_layers(strategy) is not None and any(adapted_experts(part, strategy) for part in architecture.parts):
        words = "peft adapts the experts of every block, whichever blocks are chosen"
        raise CaseError("method_options", words, "target the linears of attention alone")


def _task(architecture: Architecture, _strategy: Strategy, task: Task, _stack: Stack) -> None:
    if task not in TASKS:
        raise Unsupported("task", f"task {task} has no closed form yet", f"tasks that have one: {', '.join(TASKS)}")
    if task == "seq2seq" and architecture.kind != "encoder_decoder":
        raise CaseError("task", f"{architecture.name} has no encoder beside its decoder", "task causal_lm")


def _quant(architecture: Architecture, strategy: Strategy, _task: Task, _stack: Stack) -> None:
    quant = strategy.quant
    if quant == "none":
        return
    if not packs_linears(quant) and not architecture.num_experts:
        raise CaseError(
            "quant", f"{quant} packs experts alone, and {architecture.name} has none", "quant nf4 packs every linear"
        )
    if architecture.experts == "every" and quant in BITSANDBYTES:
        # derived: MODULES_TO_PATCH_FOR_QUANTIZATION of transformers' quantizers/base.py
        split = f"for bitsandbytes transformers splits the experts of {architecture.model_type} into linears"
        raise Unsupported("quant", f"{split}, which has no closed form yet", "quant none")
    if architecture.kind == "encoder" and quant in BITSANDBYTES and strategy.kbit_upcast == "norms":
        raise Unsupported("kbit_upcast", "norms alone in fp32 have no closed form for encoders", "kbit_upcast full or none")


def _dtypes(_architecture: Architecture, strategy: Strategy, _task: Task, _stack: Stack) -> None:
    """Two 16-bit types in one job: each product casts its weights anew and keeps the copies, which sizes alone do not show."""
    said = (strategy.param_dtype, strategy.adapter_dtype, strategy.autocast)
    narrow = tuple(dict.fromkeys(dtype for dtype in said if dtype in NARROW))
    if len(narrow) > 1:
        words = f"weights, adapter and autocast mix {' and '.join(narrow)}, which has no closed form"
        raise Unsupported("autocast", words, f"one of them for param_dtype, adapter_dtype and autocast, such as {narrow[0]}")


def _experts(architecture: Architecture, strategy: Strategy, _task: Task, stack: Stack) -> None:
    """Adapters on experts that are linears of their own: before transformers 5, or where a quantization packs them."""
    packed = packs_experts(
        strategy.quant, quantized_experts=stack.quantizes_experts(were_linears=architecture.experts_were_linears)
    )
    if (packed or not stack.has("fused_experts")) and any(adapted_experts(part, strategy) for part in architecture.parts):
        names = ", ".join(linear.name.rpartition(".")[2] for linear in architecture.linears)
        words = "adapters on experts that are linears, packed or before transformers 5, have no closed form yet"
        raise Unsupported("target_modules", words, f"target attention alone: {names}")


def _together(architecture: Architecture, strategy: Strategy, _task: Task, stack: Stack) -> None:
    """What can be said and not be done: the reason, and the nearest that can."""
    for wrong in IMPOSSIBLE:
        if wrong.holds(architecture, strategy, stack):
            raise CaseError(wrong.key, wrong.why.format(strategy=strategy, architecture=architecture), wrong.hint)
