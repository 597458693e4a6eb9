"""Chat templates without their models: a tokenizer that stands in for a template's own."""

import copy
import importlib.util
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from transformers import AutoTokenizer

from pipeline.chat.template import read_template
from pipeline.models import PACKAGED, resolve_model

# What templates write as special tokens: <|im_end|>, <start_of_turn>, <turn|>, <s>, [INST], DeepSeek's, ...
_SPECIAL = re.compile(
    r"<[|\uff5c][^<>|\uff5c{}' \n]+[|\uff5c]>|<(?:start|end)_of_turn>|<bos>|</?s>|\[/?(?:INST|THINK)\]"
    r"|<\|(?:channel|turn)>|<(?:channel|turn)\|>"
)
# How the tokenizers of Llama 3, Qwen and others divide texts: unlike in SmolLM2's, line breaks stay together.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
VLLM = "vllm/transformers_utils/chat_templates"


def stand_in(template: str, eos: str = "<|im_end|>") -> Any:
    """Return SmolLM2's tokenizer with `template`, and the special tokens of all shipped templates."""
    tokenizer = copy.copy(_tokenizer())
    tokenizer.chat_template = template
    tokenizer._special_tokens_map = {**tokenizer._special_tokens_map, "eos_token": eos}
    return tokenizer


@lru_cache
def shipped_templates() -> dict[str, str]:
    """Return the chat templates in the installed packages, TRL's and then vLLM's, by name."""
    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.origin is not None
    packages = Path(spec.origin).parents[1]
    files = [*sorted(packages.glob("trl/chat_templates/*.jinja")), *sorted(packages.glob(f"{VLLM}/*.jinja"))]
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def trl_template(name: str) -> str:
    """Return one of TRL's templates."""
    return read_template(name, Path())


@lru_cache
def _tokenizer() -> Any:
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(PACKAGED).path)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Split(Regex(_WORDS), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    special = sorted({t for text in shipped_templates().values() for t in _SPECIAL.findall(text)})
    tokenizer.add_tokens(
        [AddedToken(t, special=True, normalized=False) for t in special], special_tokens=True
    )
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in ("<think>", "</think>")])
    return tokenizer
