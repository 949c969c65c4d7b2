"""A config that nests: bases which also see state their language model under `text_config`, or beside `vision_config`."""

from __future__ import annotations

from typing import Final

from catalogs.bases.config import Config, ConfigUnusable, Fields
from catalogs.user_file import shortened

# model_type of the whole -> that of its text part where `text_config` states none, as transformers 5.24 has it
WHOLES: Final[dict[str, str]] = {
    "gemma3": "gemma3_text",
    "llama4": "llama4_text",
    "mistral3": "mistral",
    "paligemma": "gemma",
    "llava": "llama",
    "idefics3": "llama",
    "smolvlm": "llama",
    "internvl": "qwen2",
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
}
# derived: of these transformers' AutoModelForCausalLM (5.24) loads the text part alone; of gemma3 it loads the tower, too, and
# of the others nothing. A test asks it.
TEXT_IS_LOADED: Final = frozenset({"llama4"})
# model_type of a text part -> the family that its blocks are of: the parts differ in how positions are counted alone
KIN: Final[dict[str, str]] = {"qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen3_vl_text": "qwen3"}
# derived: the defaults of Gemma3TextConfig, which the files on the hub leave out
UNSAID: Final[dict[str, Fields]] = {
    "gemma3_text": {"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
}
OF_THE_WHOLE: Final = ("tie_word_embeddings", "quantization_config", "vocab_size")  # what may stand outside of the text part


def text_part(config: Config) -> Config:
    """The config of the language model in a config, which is the config itself where nothing nests.

    Raises ConfigUnusable for a `text_config` that is no object.
    """
    whole, inner = config.get("model_type"), config.get("text_config")
    if inner is None:
        sees = isinstance(whole, str) and whole in WHOLES and "hidden_size" in config  # as before transformers 4.52
        return _without_tower(config) | {"model_type": WHOLES[str(whole)]} if sees else config
    if not isinstance(inner, dict):
        raise ConfigUnusable(f"text_config is {shortened(repr(inner))}", "text_config must be an object, as in config.json")
    said = inner.get("model_type") or (WHOLES.get(whole) if isinstance(whole, str) else None)
    model_type = KIN.get(said, said) if isinstance(said, str) else said
    beside = {key: config[key] for key in OF_THE_WHOLE if config.get(key) is not None}
    unsaid = UNSAID.get(model_type, {}) if isinstance(model_type, str) else {}
    return unsaid | beside | {key: value for key, value in inner.items() if value is not None} | {"model_type": model_type}


def _without_tower(config: Config) -> Fields:
    return {key: value for key, value in config.items() if key != "vision_config"}
