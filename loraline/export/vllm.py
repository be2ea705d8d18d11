"""Would vLLM serve an adapter? Its rules, as its sources state them, held against an adapter's files.

vLLM reads `adapter_config.json` and `adapter_model.safetensors` of PEFT and refuses, or leaves out without a word, what
it cannot compute. The rules are those of vLLM's `lora/peft_helper.py` (settings), `config/lora.py` (ranks) and
`lora/lora_model.py` with `lora/utils.py` (names of the weights). Whether a model's class takes LoRA at all, and on
which layers, stands in its code and cannot be known here.
"""

import json
import re
from pathlib import Path
from typing import Any

from safetensors import safe_open

# config/lora.py, MaxLoRARanks: what --max-lora-rank may be; 16 where it is not given.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_DEFAULT_RANK = 16
# lora/utils.py, parse_fine_tuned_lora_name: every other name is an error.
_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.(lora_[AB]\.weight|lora_embedding_[AB])")
_LEFT_OUT = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")  # is_base_embedding_weights
# PEFTHelper has no such fields: an adapter that needs them would be computed wrongly, without a word.
_IGNORED = ("alpha_pattern", "layer_replication", "rank_pattern", "target_parameters", "trainable_token_indices")
_ENDS = {"embed_tokens", "lm_head", "wte", "word_embeddings"}


def objections(adapter: Path) -> list[str]:
    """Why vLLM would not serve an adapter, or would serve it wrongly; empty where nothing is known against it."""
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    found = _settings(settings)
    with safe_open(adapter / "adapter_model.safetensors", "np") as weights:
        names = list(weights.keys())
    names = [name for name in names if not name.endswith(_LEFT_OUT) and "lora_magnitude_vector" not in name]
    odd = [name for name in names if not _NAME.fullmatch(name)]
    if odd:
        found.append(f"{len(odd)} weights have names that it does not know, the first is {odd[0]} (lora/utils.py)")
    return found


def options(adapter: Path) -> str:
    """What vLLM needs on its command line to take adapters like this one, and what depends on the model."""
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    rank = next((rank for rank in _RANKS if rank >= settings["r"]), _RANKS[-1])
    given = f"--enable-lora{f' --max-lora-rank {rank}' if rank > _DEFAULT_RANK else ''} --lora-modules NAME=FOLDER"
    with safe_open(adapter / "adapter_model.safetensors", "np") as weights:
        modules = {match["module"].rsplit(".", 1)[-1] for name in weights.keys() if (match := _NAME.fullmatch(name))}  # noqa: SIM118
    ends = ", ".join(sorted(modules & _ENDS))
    return f"{given} ({ends}: only for models whose embeddings take LoRA there)" if ends else given


def _settings(settings: dict[str, Any]) -> list[str]:
    found = []
    if settings.get("peft_type") != "LORA":
        found.append(f"peft_type is {settings.get('peft_type')!r}; it takes LoRA alone")
    missing = [name for name in ("r", "lora_alpha", "target_modules") if settings.get(name) is None]
    if missing:
        found.append(f"adapter_config.json lacks {', '.join(missing)}, which it requires (PEFTHelper)")
    if settings.get("use_dora"):
        found.append("use_dora is set, and it does not do DoRA (PEFTHelper); serve the merged model")
    if settings.get("modules_to_save"):
        found.append(f"modules_to_save is {settings['modules_to_save']}; it takes none (PEFTHelper)")
    if settings.get("bias", "none") != "none":
        found.append(f"bias is {settings['bias']!r}; it takes no biases (PEFTHelper)")
    if (settings.get("r") or 0) > _RANKS[-1]:
        found.append(f"the rank is {settings['r']}, and the largest that it takes is {_RANKS[-1]} (config/lora.py)")
    found += [f"{name} is set, which it does not read (PEFTHelper)" for name in _IGNORED if settings.get(name)]
    return found
