"""FAMILIES: transformers' `model_type` -> how its config becomes an Architecture.

Each row follows the module definitions of transformers 5.24 (`models/<type>/modeling_<type>.py`); a test builds every
type on the meta device and compares names, shapes and counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import json

from catalogs.bases.architectures import Architecture
from catalogs.bases.config import Config, ConfigUnusable, Fields, TypeUnknown
from catalogs.bases.families import encoders, layer_norm, mixtures, remote_code, rotary, seq2seq
from catalogs.bases.nested import text_part
from catalogs.user_file import shortened

FAMILIES: Final[dict[str, Callable[[Config], Fields]]] = {
    "llama": rotary.llama,
    "mistral": rotary.mistral,
    "qwen2": rotary.qwen2,
    "qwen3": rotary.qwen3,
    "olmo2": rotary.olmo2,
    "smollm3": rotary.smollm3,
    "granite": rotary.granite,
    "gemma": rotary.gemma,
    "gemma2": rotary.gemma2,
    "gemma3_text": rotary.gemma3,
    "phi3": rotary.phi3,
    "stablelm": rotary.stablelm,
    "starcoder2": rotary.starcoder2,
    "phi": layer_norm.phi,
    "gptj": layer_norm.gptj,
    "falcon": layer_norm.falcon,
    "bloom": layer_norm.bloom,
    "mpt": layer_norm.mpt,
    "deepseek_v3": mixtures.deepseek_v3,
    "gpt_oss": mixtures.gpt_oss,
    "llama4_text": mixtures.llama4_text,
    "qwen2_moe": mixtures.qwen2_moe,
    "deberta-v2": encoders.deberta_v2,
    "t5": seq2seq.t5,
    "mt5": seq2seq.t5,
    "qwen": remote_code.qwen,
    "baichuan": remote_code.baichuan,
    "internlm2": remote_code.internlm2,
    "xverse": remote_code.like_llama,
    "aquila": remote_code.like_llama,
    "minicpm": remote_code.minicpm,
    "chatglm": remote_code.chatglm,
    "mixtral": mixtures.mixtral,
    "qwen3_moe": mixtures.qwen3_moe,
    "granitemoe": mixtures.granitemoe,
    "granitemoeshared": mixtures.granitemoeshared,
    "granitemoehybrid": mixtures.granitemoehybrid,
    "phimoe": mixtures.phimoe,
    "gpt2": layer_norm.gpt2,
    "gpt_bigcode": layer_norm.gpt_bigcode,
    "opt": layer_norm.opt,
    "gpt_neox": layer_norm.gpt_neox,
    "bert": encoders.bert,
    "roberta": encoders.roberta,
    "xlm-roberta": encoders.roberta,
    "distilbert": encoders.distilbert,
    "electra": encoders.electra,
}


OF_ITS_SHAPE: Final = (
    "write the known type whose shape it has as model_type (llama: rotary positions, RMSNorm, a gated MLP), or have a real "
    "step of it traced, where torch is installed: `rentune estimate --engine trace`"
)


WRONG_KIND: Final = (TypeError, ValueError, ZeroDivisionError, AttributeError)


def _culprit(config: Config, model_type: str) -> str:
    """Which value it is, as ": hidden_act is [1]": one without which it can be read, else one that is nested; nothing where
    none can be told.
    """
    without = {key: {other: kept for other, kept in config.items() if other != key} for key in config if key != "model_type"}
    nested = [key for key in without if isinstance(config[key], list | dict)]
    found = next((key for key, rest in without.items() if _can_be_read(model_type, rest)), next(iter(nested), None))
    return "" if found is None else f": {shortened(str(found))} is {shortened(json.encode(config[found]).decode())}"


def _can_be_read(model_type: str, config: Config) -> bool:
    try:
        FAMILIES[model_type](config)
    except (*WRONG_KIND, ConfigUnusable):
        return False
    return True


def architecture_of(config: Config, *, name: str, source: str) -> Architecture:
    """Read a transformers config, of one that nests its text part.

    Raises `TypeUnknown` for a type that no row covers, `ConfigUnusable` for a shape that its row does not.
    """
    config, whole = text_part(config), config
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        said = f"model type {shortened(str(model_type))}" if model_type else "a config without model_type"
        raise TypeUnknown(f"{said} has no closed form here", f"{OF_ITS_SHAPE}; the known ones: {known}")
    stored = config.get("quantization_config")
    if stored is not None and not (isinstance(stored, dict) and isinstance(stored.get("quant_method", ""), str)):
        raise ConfigUnusable(
            f"quantization_config is {shortened(repr(stored))}",
            "quantization_config must be an object with a quant_method, or be left out",
        )
    try:
        fields = FAMILIES[model_type](config)
    except WRONG_KIND as error:
        raise ConfigUnusable(
            f"the config of type {model_type} holds a value of the wrong kind{_culprit(config, model_type)}",
            "write what transformers saves there",
        ) from error
    own: Fields = {"name": name, "model_type": model_type, "config": dict(config), "source": source} | fields
    own["part_of"] = None if config is whole else shortened(str(whole.get("model_type") or "a config with text_config"))
    also = tuple(Architecture(**own | {"also": ()} | changes) for changes in fields.get("also", ()))
    return Architecture(**own | {"also": also})
