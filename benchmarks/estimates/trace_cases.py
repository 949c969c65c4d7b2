"""Cases in which closed form and trace are held against each other: families × ways to train × batches, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import resolve_model
from planner.methods import METHODS
from remote.contract import Strategy, Task

FAMILIES = (
    "llama-3.2-1b",
    "llama-2-7b",
    "mistral-7b",
    "qwen2.5-7b",
    "qwen3-8b",
    "gemma-2-9b",
    "gemma-3-1b",
    "phi-3-mini",
    "granite-3.1-8b",
    "olmo-2-7b",
    "smollm2-1.7b",
    "smollm3-3b",
    "gpt2",
    "pythia-1.4b",
    "opt-1.3b",
    "mixtral-8x7b",
    "qwen3-30b-a3b",
    "gemma-3-270m",  # longer than its window
    "stablelm-2-1.6b",
    "phi-2",
    "falcon-7b",
    "falcon-11b",
    "bloom-560m",
    "mpt-7b",
    "opt-350m",
    "qwen1.5-moe-a2.7b",
    "gpt-oss-20b",
    "deepseek-v3",
    "llama-4-scout",
    "t5-base",
    "flan-t5-large",
    "granite-4.0-h-tiny",
    "phi-3.5-moe",
)
LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers")

LORA: dict[str, Any] = {"method": "lora", "rank": 16}
QLORA = LORA | {"quant": "nf4", "double_quant": True}
FULL: dict[str, Any] = {"method": "full", "autocast": "none"}
WAYS: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "lora, no checkpointing": LORA | {"gradient_checkpointing": "off"},
    "lora, re-entrant": LORA | {"gradient_checkpointing": "reentrant"},
    "lora, padded": LORA | {"padded": True},
    "lora, padded, no checkpointing": LORA | {"padded": True, "gradient_checkpointing": "off"},
    "lora, eager attention": LORA | {"attention": "eager"},
    "lora, dropout": LORA | {"dropout": 0.05, "gradient_checkpointing": "off"},
    "lora, no autocast": LORA | {"autocast": "none"},
    "lora, A at rest, no checkpointing": LORA | {"optimizer": "lora_fa", "gradient_checkpointing": "off"},
    "lora, fp32 base": LORA | {"param_dtype": "float32", "autocast": "none"},
    "lora, bf16 adapter": LORA | {"adapter_dtype": "bfloat16"},
    "lora, accumulation, foreach": LORA | {"gradient_accumulation_steps": 4, "optimizer": "adamw_torch"},
    "qlora, full upcast": QLORA | {"kbit_upcast": "full"},
    "qlora, norms upcast": QLORA | {"kbit_upcast": "norms"},
    "qlora, no upcast": QLORA | {"kbit_upcast": "none"},
    "qlora, no checkpointing": QLORA | {"kbit_upcast": "none", "gradient_checkpointing": "off"},
    "int8": LORA | {"quant": "int8", "kbit_upcast": "full"},
    "int8, re-entrant": LORA | {"quant": "int8", "kbit_upcast": "none", "gradient_checkpointing": "reentrant"},
    "full": FULL,
    "full, no checkpointing": FULL | {"gradient_checkpointing": "off"},
    "full, foreach": FULL | {"optimizer": "adamw_torch"},
    "full, 8-bit states, accumulation": FULL | {"optimizer": "adamw_8bit", "gradient_accumulation_steps": 2},
}
# What other methods hang on linears, on families of three kinds: gated with and without biases, and GPT-2's.
HUNG = ("dora", "loha", "lokr", "fourierft", "oft", "boft", "vera", "ia3", "adalora")
HUNG_FAMILIES = ("llama-2-7b", "qwen2.5-7b", "gpt2")
HUNG_WAYS: dict[str, dict[str, Any]] = {
    "": {},
    ", no checkpointing": {"gradient_checkpointing": "off"},
    ", no autocast": {"autocast": "none"},
    ", no autocast, no checkpointing": {"autocast": "none", "gradient_checkpointing": "off"},
    ", nf4": {"quant": "nf4", "double_quant": True},
    ", nf4, no checkpointing": {"quant": "nf4", "double_quant": True, "gradient_checkpointing": "off"},
}
# LoRA on fused experts and routers, where peft knows how.
EXPERT_FAMILIES = ("mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3")
EXPERT_WAYS: dict[str, dict[str, Any]] = {
    "experts": {},
    "experts, no checkpointing": {"gradient_checkpointing": "off"},
    "experts, no autocast": {"autocast": "none"},
    "experts, nf4": {"quant": "nf4", "double_quant": True},
    "experts, A at rest": {"optimizer": "lora_fa"},
    "experts, bf16 adapter": {"adapter_dtype": "bfloat16"},
}
# Chosen blocks of four: those below take part in backward only where they are checkpointed.
SOME_BLOCKS: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "qlora": LORA | {"quant": "nf4"},
    "bottleneck": {"method": "bottleneck", "rank": 64},
    "freeze": {"method": "freeze"},
}
CHOSEN = ([3], [0, 2], [1, 2])
SOME_FAMILIES = ("llama-2-7b", "gpt2")
# Vocabulary matrices that train beside an adapter, or in fp32 under autocast; by families with tied ones and others.
VOCABULARY_FAMILIES = ("llama-3.2-1b", "llama-2-7b", "pythia-1.4b", "opt-350m")
MIXED: dict[str, Any] = {"method": "full", "param_dtype": "float32"}
VOCABULARY_WAYS: dict[str, dict[str, Any]] = {
    "saved head": LORA | {"saved": ("head",)},
    "saved embedding, no checkpointing": LORA | {"saved": ("embedding",), "gradient_checkpointing": "off"},
    "saved both, accumulation": LORA | {"saved": ("embedding", "head"), "gradient_accumulation_steps": 4},
    "saved both, A at rest": LORA | {"saved": ("embedding", "head"), "optimizer": "lora_fa"},
    "full, fp32 under autocast": MIXED,
    "full, fp32 under autocast, no checkpointing": MIXED | {"gradient_checkpointing": "off"},
    "full, fp32 under autocast, accumulation": MIXED | {"gradient_accumulation_steps": 4},
}
TOKENS: dict[str, Any] = {"num_virtual_tokens": 20}
PLAIN: dict[str, Any] = {"gradient_checkpointing": "off"}
BESIDE_LINEARS: dict[str, dict[str, Any]] = {  # methods that hang nothing on linears
    "prompt": {"method": "prompt_tuning"} | TOKENS,
    "prompt, no checkpointing, padded": {"method": "prompt_tuning", "padded": True} | TOKENS | PLAIN,
    "p-tuning": {"method": "p_tuning"} | TOKENS,
    "prefix": {"method": "prefix_tuning"} | TOKENS | PLAIN,
    "prefix, projected, nf4": {"method": "prefix_tuning", "quant": "nf4", "method_options": {"prefix_projection": True}}
    | TOKENS
    | PLAIN,
    "lora and prompt": {"method": "lora_prompt", "rank": 16, "autocast": "none"} | TOKENS | PLAIN,
    "bottleneck": {"method": "bottleneck", "rank": 64},
    "bottleneck, attention, no checkpointing": {
        "method": "bottleneck",
        "rank": 64,
        "method_options": {"after": ["attention"], "non_linearity": "gelu"},
    }
    | PLAIN,
    "norms": {"method": "ln_tuning"},
    "norms, nf4, no checkpointing": {"method": "ln_tuning", "quant": "nf4", "kbit_upcast": "full"} | PLAIN,
    "biases, no checkpointing": {"method": "bitfit", "autocast": "none"} | PLAIN,
    "top block": {"method": "freeze", "trainable_layers": 1},
    "top block, no checkpointing": {"method": "freeze", "trainable_layers": 1} | PLAIN,
}
# What tells classes apart: padded sentences, all in one batch.
CLASS_FAMILIES = (
    *("bert-base-uncased", "roberta-base", "xlm-roberta-base", "electra-base-discriminator", "distilbert-base-uncased"),
    *("deberta-v3-base", "gpt2", "opt-350m", "pythia-160m", "qwen2.5-0.5b", "llama-3.2-1b", "gemma-3-1b"),
)
CLASS_WAYS: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "qlora": QLORA | {"kbit_upcast": "none"},
    "dora": {"method": "dora", "rank": 16},
    "ia3": {"method": "ia3"},
    "norms": {"method": "ln_tuning"},
    "biases": {"method": "bitfit"},
    "full": {"method": "full"},
}
CLASS_TURNS: dict[str, dict[str, Any]] = {
    "": {},
    ", fp32": {"param_dtype": "float32", "autocast": "none"},
    ", no checkpointing": PLAIN,
    ", fp32, no checkpointing": {"param_dtype": "float32", "autocast": "none"} | PLAIN,
}
CLASS_SHAPE: dict[str, Any] = {"micro_batch_size": 32, "seq_len": 128, "padded": True}
HAVE_BIASES = frozenset({"qwen2", "gpt2", "gpt_neox", "opt"})

SHAPES = ((4, 1024), (1, 2048))  # sequences, tokens


class Point(NamedTuple):
    """One case of the grid."""

    family: str
    way: str
    config: dict[str, Any]
    strategy: Strategy
    task: Task = "causal_lm"

    @property
    def shape(self) -> str:
        return f"{self.strategy.micro_batch_size} × {self.strategy.seq_len}"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.family, self.way, self.shape


def grid(layers: int, ways: Mapping[str, dict[str, Any]] = WAYS) -> Iterator[Point]:
    """Every case, in a fixed order."""
    for family in FAMILIES:
        config = cut(resolve_model(family, base=None).config, layers)
        architecture = resolve_model(config, base=None)
        unfused = architecture.attention_softcap or not architecture.fused_attention
        own: dict[str, Any] = {"attention": "eager"} if unfused else {}
        attention = attention_of(architecture)
        own |= {"target_modules": attention} if architecture.num_experts and attention else {}
        for way, fields in ways.items():
            if architecture.experts == "every" and "quant" in fields:
                continue  # refused by the closed form, whose text says why
            if fields["method"] == "bitfit" and config["model_type"] not in HAVE_BIASES:
                continue
            for size, length in SHAPES:
                positions = _positions(config) - fields.get("num_virtual_tokens", 0)
                said = fields | own | {"micro_batch_size": size, "seq_len": min(length, positions)}
                yield Point(family, way, config, msgspec.convert(said, Strategy))


def hung_grid(layers: int) -> Iterator[Point]:
    """The methods beside LoRA that hang on linears, with peft's own ranks and blocks; what peft can't hang is left out."""
    for family in HUNG_FAMILIES:
        architecture = resolve_model(family, base=None)
        config, transposed = cut(architecture.config, layers), architecture.transposed_linears
        for method in HUNG:
            adapter = METHODS[method].adapter
            if adapter is None or (transposed and not adapter.conv1d):
                continue
            for way, fields in HUNG_WAYS.items():
                if fields.get("quant") and transposed:
                    continue
                said = {"method": method, "rank": METHODS[method].default_rank, "micro_batch_size": 4, "seq_len": 512}
                yield Point(family, method + way, config, msgspec.convert(said | fields, Strategy))


def expert_grid(layers: int) -> Iterator[Point]:
    """LoRA on every linear, and so on experts."""
    for family in EXPERT_FAMILIES:
        config = cut(resolve_model(family, base=None).config, layers)
        for way, fields in EXPERT_WAYS.items():
            said = LORA | {"target_modules": "all-linear", "micro_batch_size": 4, "seq_len": 512} | fields
            yield Point(family, way, config, msgspec.convert(said, Strategy))


def chosen_grid() -> Iterator[Point]:
    """Some of four blocks, with checkpointing and without."""
    for family in SOME_FAMILIES:
        architecture = resolve_model(family, base=None)
        config = cut(architecture.config, 4)
        for way, fields in SOME_BLOCKS.items():
            if architecture.transposed_linears and "quant" in fields:
                continue
            for layers in CHOSEN:
                for checkpointing in ("off", "non_reentrant"):
                    said = {"micro_batch_size": 2, "seq_len": 512, "gradient_checkpointing": checkpointing}
                    chosen = {"method_options": {"layers_to_transform": layers}}
                    named = f"{way} in blocks {layers}, checkpointing {checkpointing}"
                    yield Point(family, named, config, msgspec.convert(fields | said | chosen, Strategy))


def vocabulary_grid(layers: int) -> Iterator[Point]:
    """Ways in which whole vocabulary matrices have gradients of their own."""
    for family in VOCABULARY_FAMILIES:
        config = cut(resolve_model(family, base=None).config, layers)
        architecture = resolve_model(config, base=None)
        names = {"embedding": architecture.embedding_name, "head": architecture.head_name}
        for way, fields in VOCABULARY_WAYS.items():
            saved = {"modules_to_save": [names[which] for which in fields["saved"]]} if "saved" in fields else {}
            said = {key: value for key, value in fields.items() if key != "saved"} | saved
            yield Point(family, way, config, msgspec.convert(said | {"micro_batch_size": 4, "seq_len": 512}, Strategy))


def class_grid(layers: int) -> Iterator[Point]:
    """Heads of classes. What peft can't hang, and weights of four bits in fp32, are left out."""
    for family in CLASS_FAMILIES:
        config = cut(resolve_model(family, base=None).config, layers)
        architecture = resolve_model(config, base=None)
        own = {"attention": "sdpa" if architecture.fused_attention else "eager"} | CLASS_SHAPE
        biased = any(linear.bias for linear in architecture.linears)
        for way, fields in CLASS_WAYS.items():
            if (fields["method"] == "bitfit" and not biased) or (
                fields["method"] == "dora" and architecture.transposed_linears
            ):
                continue
            for turn, more in CLASS_TURNS.items():
                if "quant" in fields and ("param_dtype" in more or architecture.transposed_linears):
                    continue
                yield Point(family, way + turn, config, msgspec.convert(fields | own | more, Strategy), "classification")


def attention_of(architecture: Architecture) -> list[str]:
    """The linears of attention alone: what a mixture is mostly adapted at; `expert_grid` has its experts."""
    names = (linear.name for linear, _ in architecture.placed_linears)
    return sorted({name.rpartition(".")[2] for name in names if name.startswith("self_attn")})


def cut(config: dict[str, Any], layers: int) -> dict[str, Any]:
    """The same model with fewer layers."""
    changed = {key: layers for key in LAYER_KEYS if key in config}
    if "first_k_dense_replace" in config:
        changed["first_k_dense_replace"] = 1  # one dense block, the others with experts
    if "layer_types" in config:
        changed["layer_types"] = config["layer_types"][:layers]
    return config | changed


def _positions(config: dict[str, Any]) -> int:
    return int(config.get("max_position_embeddings") or config.get("n_positions") or 1024)
