"""The loss mask of conversations: from turns with loss flags to token ids and labels.

For kinds sft, kto and dpo TRL makes the mask: loss falls on the completion, or on both answers. For cpt there
is none. TRL can also mask all turns but the assistant's, but not a single bad action in the middle of an
episode. So for kind turns the mask is made here (`mask_turns`), with the model's tokenizer, and published as
the column `labels`; TRL trains on a dataset that has `input_ids` and `labels` as it is. Such datasets have no
plain messages that a trainer could use without the mask.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from pipeline.errors import DataError

IGNORED = -100  # the label of a token without loss; PyTorch's cross-entropy skips it


class Turn(TypedDict):
    """One message, and whether loss falls on it."""

    role: str
    content: str
    loss: bool


def mask_turns(tokenizer: Any, turns: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
    """Return a conversation's token ids and labels: the token id within turns with `loss`, IGNORED elsewhere.

    Loss falls on all that the model generates in such a turn: from after the role header through the end
    mark, so that the model learns to stop. Raises DataError if the turn is not the assistant's, or if the
    chat template renders it differently once more turns follow: the mask would not match what is generated.
    """
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    whole = _ids(tokenizer, messages)
    labels = [IGNORED] * len(whole)
    for i, turn in enumerate(turns):
        if not turn["loss"]:
            continue
        if turn["role"] != "assistant":
            raise DataError(
                f"turn {i} has loss, but its role is {turn['role']!r}; only turns of the assistant can."
            )
        start, end = _ids(tokenizer, messages[:i], generation=True), _ids(tokenizer, messages[: i + 1])
        if whole[: len(end)] != end or end[: len(start)] != start:
            name = getattr(tokenizer, "name_or_path", "") or "this tokenizer"
            raise DataError(
                f"the chat template of {name} renders turn {i} differently when more turns follow, or after "
                "the generation prompt. Training on single turns needs a template that only ever appends, "
                "not one that strips thoughts from earlier turns or rewrites the last one."
            )
        labels[len(start) : len(end)] = end[len(start) :]
    return whole, labels


def _ids(tokenizer: Any, messages: list[dict[str, str]], generation: bool = False) -> list[int]:
    return tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=generation
    )["input_ids"]
