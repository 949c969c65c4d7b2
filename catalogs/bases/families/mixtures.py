"""Mixtures of experts: routers and experts are fused parameters, not linears."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from catalogs.bases.architectures import Linear, Mamba
from catalogs.bases.config import Config, ConfigUnusable, Fields, Undescribed, flag, linears, share, size
from catalogs.bases.families.rotary import Rows, decoder, granite, llama, mlp_rows, qwen3, window_of

WERE_LINEARS: Final[Fields] = {"experts_were_linears": True}  # derived: their modules before transformers 5.0


def experts(fields: Fields, config: Config, *, ffn: int, top_k: int) -> Fields:
    hidden, num = fields["hidden_size"], size(config, "num_local_experts", "num_experts", "n_routed_experts")
    used = size(config, "num_experts_per_tok", default=top_k)
    if used > num:
        raise ConfigUnusable(f"each token goes through {used} of {num} experts", f"num_experts_per_tok must be at most {num}")
    rows = tuple(linear for linear in fields["linears"] if not linear.name.startswith("mlp."))
    return fields | {
        "linears": rows,
        "num_experts": num,
        "experts_per_token": used,
        "expert_params_per_block": num * (3 * hidden * ffn + hidden),
        "intermediate_size": ffn,
    }


def mixtral(config: Config) -> Fields:
    fields = experts(llama(config), config, ffn=size(config, "intermediate_size"), top_k=2)
    return fields | WERE_LINEARS | {"expanded_kv_for_flash": True, "routing": "fp32"}


def qwen3_moe(config: Config) -> Fields:
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        raise Undescribed(
            "a mixture with dense blocks in between has no closed form",
            "make every block sparse: decoder_sparse_step 1, no mlp_only_layers",
        )
    fields = qwen3({**config, "intermediate_size": size(config, "moe_intermediate_size")}, head_dim=None)
    return experts(fields, config, ffn=size(config, "moe_intermediate_size"), top_k=8) | WERE_LINEARS


def granitemoe(config: Config) -> Fields:
    return experts(granite(config), config, ffn=size(config, "intermediate_size"), top_k=2) | {"routing": "stream"}


def granitemoeshared(config: Config) -> Fields:
    fields = granitemoe(config)
    hidden, shared = fields["hidden_size"], size(config, "shared_intermediate_size", default=0)
    if not shared:
        return fields
    rows = linears(
        ("shared_mlp.input_linear", hidden, 2 * shared, False, "gate_up"),
        ("shared_mlp.output_linear", shared, hidden, False, "down"),
    )
    return fields | {"linears": fields["linears"] + rows}


def granitemoehybrid(config: Config) -> Fields:
    """Granite 4: blocks with Mamba 2 and a few with attention; every block has a shared MLP, and experts or none."""
    fields = granite(config)
    hidden, shared = fields["hidden_size"], size(config, "shared_intermediate_size", default=1024)
    if config.get("num_local_experts", 8):
        fields = experts(fields, {"num_local_experts": 8, **config}, ffn=fields["intermediate_size"], top_k=2)
        fields |= {"routing": "stream"}
    attention = tuple(linear for linear in fields["linears"] if not linear.name.startswith("mlp."))
    mlp = linears(
        ("shared_mlp.input_linear", hidden, 2 * shared, False, "gate_up"),
        ("shared_mlp.output_linear", shared, hidden, False, "down"),
    )
    fields |= {"rotary": config.get("position_embedding_type") == "rope", "linears": attention + mlp}
    layers = fields["num_layers"]
    kinds = config.get("layer_types") or config.get("layers_block_type") or ["mamba"] * layers
    attends = [kind in ("attention", "full_attention") for kind in kinds]
    attending = sum(attends)
    if attending == layers:
        return fields
    scanning = _mamba(config, hidden) | {"num_layers": layers - attending}
    scanning["linears"] += mlp
    if not attending:
        return fields | scanning
    above = attends[::-1].index(True), attends[::-1].index(False)
    return fields | {"num_layers": attending, "also": (scanning,), "above_last": above}


def _mamba(config: Config, hidden: int) -> Fields:
    mamba = Mamba(
        inner=hidden * size(config, "mamba_expand", default=2),
        heads=size(config, "mamba_n_heads", default=128),
        groups=size(config, "mamba_n_groups", default=1),
        state=size(config, "mamba_d_state", default=256),
        kernel=size(config, "mamba_d_conv", default=4),
        chunk=size(config, "mamba_chunk_size", default=256),
    )
    bias = flag(config, "mamba_proj_bias", default=False)
    conv_bias = flag(config, "mamba_conv_bias", default=True)
    scan = mamba.convolved * (mamba.kernel + conv_bias) + 3 * mamba.heads
    return {
        "mixer": "mamba",
        "mamba": mamba,
        "norm_params_per_block": 2 * hidden + mamba.inner + scan,
        "scan_params_per_block": scan,
        "biases_per_block": conv_bias * mamba.convolved,
        "linears": linears(
            ("mamba.in_proj", hidden, mamba.inner + mamba.convolved + mamba.heads, bias, "mamba_in"),
            ("mamba.out_proj", mamba.inner, hidden, bias, "output"),
        ),
    }


def phimoe(config: Config) -> Fields:
    """Phi-3.5-MoE: Mixtral with layer norms; the router is a linear, of a class of its own."""
    fields = experts(llama(config), config, ffn=size(config, "intermediate_size"), top_k=2)
    hidden, num = fields["hidden_size"], fields["num_experts"]
    head_bias = flag(config, "lm_head_bias", default=False) * fields["vocab_size"]
    router = Linear(name="mlp.router", in_features=hidden, out_features=num, role="router", kept=True)
    return fields | {
        "norm": "layer",
        "norm_params_per_block": 4 * hidden,
        "other_params": 2 * hidden + head_bias,
        "outer_biases": head_bias,
        "window": window_of(config),
        "jitters_input": share(config, "input_jitter_noise", default=0.0) > 0,
        "routing": "softmax",
        "linears": (*fields["linears"], router),
        "expert_params_per_block": fields["expert_params_per_block"] - num * hidden,  # the router is counted as a linear
        **WERE_LINEARS,
    }


def qwen2_moe(config: Config) -> Fields:
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        raise Undescribed(
            "a mixture with dense blocks in between has no closed form",
            "make every block sparse: decoder_sparse_step 1, no mlp_only_layers",
        )
    shared = size(config, "shared_expert_intermediate_size")
    fields = llama({**config, "intermediate_size": shared}, qkv_bias=True)
    dense = tuple(linear for linear in fields["linears"] if linear.name.startswith("mlp."))
    gate = linears(("mlp.shared_expert_gate", fields["hidden_size"], 1, False, "outer"))
    fields = experts(fields, config, ffn=size(config, "moe_intermediate_size"), top_k=4)
    inside = tuple(msgspec.structs.replace(linear, name=linear.name.replace("mlp.", "mlp.shared_expert.")) for linear in dense)
    return fields | {"linears": fields["linears"] + inside + gate} | WERE_LINEARS


def deepseek_v3(config: Config) -> Fields:
    nope, rope = size(config, "qk_nope_head_dim", default=128), size(config, "qk_rope_head_dim", default=64)
    value, kv_rank = size(config, "v_head_dim", default=128), size(config, "kv_lora_rank", default=512)
    fields = decoder({**config, "head_dim": nope + rope}, tied=False)
    hidden, heads, layers = fields["hidden_size"], fields["num_heads"], fields["num_layers"]
    q_rank = size(config, "q_lora_rank", default=1536) if config.get("q_lora_rank", 1536) is not None else None
    query = heads * (nope + rope)
    queries: Rows = (("self_attn.q_proj", hidden, query, False, "query"),)
    if q_rank is not None:
        queries = (
            ("self_attn.q_a_proj", hidden, q_rank, False, "query_down"),
            ("self_attn.q_b_proj", q_rank, query, False, "query"),
        )
    attention = (
        *queries,
        ("self_attn.kv_a_proj_with_mqa", hidden, kv_rank + rope, False, "kv_down"),
        ("self_attn.kv_b_proj", kv_rank, heads * (nope + value), False, "kv_up"),
        ("self_attn.o_proj", heads * value, hidden, False, "output"),
    )
    ffn = size(config, "moe_intermediate_size", default=2048)
    shared = mlp_rows(hidden, ffn * size(config, "n_shared_experts", default=1), bias=False)
    dense = size(config, "first_k_dense_replace", default=3) if config.get("first_k_dense_replace") != 0 else 0
    fields |= WERE_LINEARS | {
        "mixer": "latent",
        "routing": "wide_product",
        "joined_rotary": True,
        "norm_params_per_block": 2 * hidden + kv_rank + (q_rank or 0),
        "num_layers": layers - dense,
        "linears": linears(*attention),
    }
    mixture = experts(fields, config, ffn=ffn, top_k=8)
    beside = linears(*_under("mlp.shared_experts.", shared))
    first = {
        "num_layers": dense,
        "linears": linears(*attention, *mlp_rows(hidden, size(config, "intermediate_size"), bias=False)),
        "num_experts": 0,
        "experts_per_token": 0,
        "expert_params_per_block": 0,
        "intermediate_size": size(config, "intermediate_size"),
    }
    return mixture | {"linears": mixture["linears"] + beside, "also": (first,) if dense else (), "also_first": True}


def gpt_oss(config: Config) -> Fields:
    fields = llama({"attention_bias": True, **config}, head_dim=64)
    hidden, ffn, heads = fields["hidden_size"], fields["intermediate_size"], fields["num_heads"]
    fields = experts(fields, config, ffn=ffn, top_k=4)
    biases = fields["num_experts"] * (2 * ffn + hidden + 1) + heads  # of experts and router; and one sink a head
    return fields | {
        "norm": "rms_fp32",
        "scores": "sinks",
        "fused_attention": False,
        "flash_attention_2": False,
        "experts": "routed_clamped",
        "biases_per_block": fields["num_experts"],  # of the router; those of experts are no `bias`
        "expert_params_per_block": fields["expert_params_per_block"] + biases,
    }


def llama4_text(config: Config) -> Fields:
    """Up to four kinds of blocks: with experts or without, with rotated positions or without."""
    if config.get("num_local_experts") == 0:
        raise Undescribed("Llama 4 without experts has no closed form", "name another base")
    base = llama(config, head_dim=128)
    hidden, layers, ffn = base["hidden_size"], base["num_layers"], size(config, "intermediate_size")
    attention = tuple(linear for linear in base["linears"] if not linear.name.startswith("mlp."))
    mixture = experts(base, {"num_local_experts": 16, **config}, ffn=ffn, top_k=1)
    router = ("feed_forward.router", hidden, mixture["num_experts"], False, "router")
    sparse = {
        "linears": attention + linears(*_under("feed_forward.shared_expert.", mlp_rows(hidden, ffn, bias=False)), router),
        "num_experts": mixture["num_experts"],
        "experts_per_token": mixture["experts_per_token"],
        "expert_params_per_block": mixture["num_experts"] * 3 * hidden * ffn,
    }
    wide = size(config, "intermediate_size_mlp", default=16384)
    dense = {
        "linears": attention + linears(*_under("feed_forward.", mlp_rows(hidden, wide, bias=False))),
        "num_experts": 0,
        "experts_per_token": 0,
        "expert_params_per_block": 0,
    }
    normed = flag(config, "use_qk_norm", default=True)
    rotated = {
        "window": size(config, "attention_chunk_size", default=8192),
        "qk_norm": "head" if normed else "none",
    }
    still = {"rotary": False, "window": None, "qk_norm": "none"}
    step, interval = (
        size(config, "interleave_moe_layer_step", default=1),
        size(config, "no_rope_layer_interval", default=4),
    )
    mixed = set(config.get("moe_layers") or range(step - 1, layers, step))
    turned = config.get("no_rope_layers") or [(index + 1) % interval != 0 for index in range(layers)]
    kinds = Counter((index in mixed, bool(turned[index])) for index in range(layers))
    rows = [
        (sparse if mixes else dense) | (rotated if turns else still) | {"num_layers": times}
        for (mixes, turns), times in sorted(kinds.items(), reverse=True)
    ]
    own = {"scores": "narrow", "experts": "every", "intermediate_size": ffn, "flash_attention_2": False}
    own["weightless_norms"] = normed
    return base | own | rows[0] | {"also": tuple(rows[1:])}


def _under(path: str, rows: Rows) -> Rows:
    """The MLP's linears under another path."""
    return tuple((name.replace("mlp.", path), *rest) for name, *rest in rows)  # type: ignore[misc]
