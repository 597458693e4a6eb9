"""Token counts of published rows, split into the same parts as by the trainers."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from pipeline.engines.base import Message
from pipeline.publish.loss_mask import IGNORED, mask_turns

# What ends a document in pretraining, by model family: GPT, Qwen, SmolLM; Llama 3, Granite; Llama 2, Mistral;
# Gemma; DeepSeek; Cohere; Kimi.
_DOCUMENT_ENDS = (
    *("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"),
    *("<\uff5cend\u2581of\u2581sentence\uff5c>", "<EOS_TOKEN>", "[EOS]"),
)
_TURN_STARTS = ("<|im_start|>", "<|start|>", "<start_of_turn>", "<|turn>")


def token_lengths(tokenizer: Any, prompt: list[Message], completion: list[Message]) -> tuple[int, int]:
    """Return the tokens of prompt and completion as TRL splits them; loss falls on the completion.

    The completion starts where the templated prompt and the templated whole diverge.
    """
    return lengths_of(tokenizer, [(prompt, completion)])[0]


def lengths_of(
    tokenizer: Any, examples: Sequence[tuple[list[Message], list[Message]]]
) -> list[tuple[int, int]]:
    """Return the `token_lengths` of many (prompt, completion)."""
    if not examples:
        return []
    # The answers to a question are neighbours.
    prompts = {orjson.dumps(prompt): prompt for prompt, _ in examples}
    starts = dict(zip(prompts, _ids(tokenizer, list(prompts.values()), generation=True), strict=True))
    wholes = _ids(tokenizer, [[*prompt, *completion] for prompt, completion in examples])
    lengths = []
    for (prompt, _), whole in zip(examples, wholes, strict=True):
        common = _common(starts[orjson.dumps(prompt)], whole)
        lengths.append((common, len(whole) - common))
    return lengths


def surely_fit(tokenizer: Any, conversations: list[list[Message]], limit: int) -> list[bool]:
    """Tell which conversations have at most `limit` tokens because they have fewer characters, all ASCII."""
    texts = tokenizer.apply_chat_template(conversations, tokenize=False) if conversations else []
    return [len(text) < limit and text.isascii() for text in texts]


def _ids(tokenizer: Any, conversations: list[list[Message]], generation: bool = False) -> list[list[int]]:
    return tokenizer.apply_chat_template(
        conversations, tokenize=True, return_dict=True, add_generation_prompt=generation
    )["input_ids"]


def _common(start: list[int], whole: list[int]) -> int:
    """Return how many tokens both begin with."""
    if whole[: len(start)] == start:
        return len(start)
    pairs = enumerate(zip(start, whole, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(start), len(whole)))


def joint_tokens(lengths: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Return counts by column from each reply's `token_lengths`; the prompt is what all share, as in TRL."""
    prompt = min(start for start, _ in lengths.values())
    replies = {f"tokens_{reply}": start + rest - prompt for reply, (start, rest) in lengths.items()}
    return {"tokens_prompt": prompt, **replies}


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Return a text's tokens as continued pretraining uses them: BOS (if any), text, end of document.

    A chat model's EOS ends a turn, not a document: texts end with the token that ended documents in
    pretraining, where the tokenizer has one. A BOS that begins a turn is left out.
    """
    start, end = _document_ends(tokenizer)
    return [*start, *tokenizer(text, add_special_tokens=False)["input_ids"], end]


@lru_cache(maxsize=4)  # reading a vocabulary takes up to 0.1 s
def _document_ends(tokenizer: Any) -> tuple[list[int], int]:
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if tokenizer.eos_token in _DOCUMENT_ENDS:
        return start, tokenizer.eos_token_id
    known = tokenizer.get_vocab()
    end = next((known[name] for name in _DOCUMENT_ENDS if name in known), tokenizer.eos_token_id)
    return [] if tokenizer.bos_token in _TURN_STARTS else start, end


def text_columns(tokenizer: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the token count of a row of kind cpt."""
    return {"tokens_text": len(text_ids(tokenizer, row["text"]))}


def turn_columns(tokenizer: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return token ids, labels and token counts of a row of kind turns."""
    ids, labels = mask_turns(tokenizer, row["turns"])
    loss = sum(label != IGNORED for label in labels)
    return {"input_ids": ids, "labels": labels, "tokens_context": len(ids) - loss, "tokens_loss": loss}
