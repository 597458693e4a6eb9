"""General conversations in a dataset: share of tokens, seeded choice, what is left out, bad files."""

import json
from pathlib import Path

import pytest

from pipeline.errors import DataError
from stages.steps.decontaminate import search_for
from stages.tasks.general import General, Mixed
from tests.publish.test_turns import Words


def chats(path: Path, count: int = 60) -> str:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Say {i}"},
                {"role": "assistant", "content": "so " * (1 + i % 7) + str(i)},
            ]
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def mixed(
    path: str,
    share: float = 0.4,
    round_: int = 1,
    seed: int = 0,
    max_length: int = 100,
    held_out: tuple[str, ...] = (),
) -> Mixed:
    return Mixed(
        General(path=path, agent_share=share), seed, round_, Words(), max_length, [search_for(held_out, 13)]
    )


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_share_of_tokens_is_what_was_asked_for(tmp_path: Path, share: float) -> None:
    general = mixed(chats(tmp_path / "chat.jsonl", 400), share)
    drawn = general.draw(300)
    tokens = sum(row["tokens_loss"] for row in drawn)
    assert (
        300 / (300 + tokens) == pytest.approx(share, abs=0.02)
        and f"{300 / (300 + tokens):.1%}" in general.notes[0]
    )
    assert all(
        row["src_record"] == "general" and row["src_kind"] == "real" and row["turns"][1]["loss"]
        for row in drawn
    )


def test_the_choice_is_seeded_and_ids_differ_by_round(tmp_path: Path) -> None:
    path = chats(tmp_path / "chat.jsonl")
    first, again, other, later = (
        [row["row_id"] for row in mixed(path, seed=seed, round_=round_).draw(20)]
        for seed, round_ in ((0, 1), (0, 1), (1, 1), (0, 2))
    )
    assert first == again != other and not set(first) & set(later)


def test_what_is_too_long_or_held_out_is_left_out_and_counted(tmp_path: Path) -> None:
    general = mixed(chats(tmp_path / "chat.jsonl", 14), 0.01, max_length=11)
    drawn = general.draw(1000)
    assert (
        0 < len(drawn) < 14
        and f"{len(drawn)} of 14" in general.notes[0]
        and f"{14 - len(drawn)} too long" in general.notes[0]
    )
    assert max(len(row["input_ids"]) for row in drawn) <= 11
    assert (
        len(mixed(chats(tmp_path / "chat.jsonl", 14), 0.01, held_out=("Say 3 so so so so 3",)).draw(1000))
        == 13
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"messages": "hello"}', "chat.jsonl:1.*not a conversation"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "the second or a later is"),
        ('{"text": "x"}', "'text'"),
        ("{", "chat.jsonl:1"),
    ],
)
def test_mistakes_are_named_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "chat.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        mixed(str(tmp_path / "chat.jsonl"))


def test_conversations_in_other_forms_are_the_same_rows(tmp_path: Path) -> None:
    path = chats(tmp_path / "chat.jsonl")
    rows = [json.loads(line)["messages"] for line in Path(path).read_text().splitlines()]
    roles = {"user": "human", "assistant": "gpt"}
    for form in (
        [[{"from": roles[m["role"]], "value": m["content"]} for m in row] for row in rows],
        [[{**m, "name": None} for m in row] for row in rows],
    ):
        (other := tmp_path / "other.jsonl").write_text(
            "".join(json.dumps({"messages": messages}) + "\n" for messages in form)
        )
        assert mixed(str(other)).digest == mixed(path).digest
