"""Continued pretraining: blocks, the share of general text, and what TRL makes of them."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset, load_from_disk
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StageError
from pipeline.ids import unit_interval
from pipeline.publish import CPT, Mixture, Part, measure, text_ids
from pipeline.publish.dataset import publish
from pipeline.rows import Kept, Row
from pipeline.rundir import differences
from pipeline.store import parts
from pipeline.store.manifest import Manifest, PartEntry
from pipeline.training.arguments import trainer_arguments, trainer_yaml
from pipeline.training.build import build_trainer
from pipeline.training.cpt import Stream, mix, prepare_blocks
from pipeline.training.spec import TrainSpec, fingerprint
from tests.publish.conftest import FACTS
from tests.publish.test_corpus import TEXTS, make_texts

LENGTH = 64


@given(st.lists(st.lists(st.integers(0, 9), max_size=40)), st.integers(1, 30))
def test_blocks_are_the_stream_cut_up_and_the_rest_is_counted(texts: list[list[int]], length: int) -> None:
    stream = Stream(texts, length)
    blocks = list(stream)
    whole = [token for text in texts for token in text]
    assert len(blocks) == len(whole) // length and all(len(block) == length for block in blocks)
    assert [t for block in blocks for t in block] == whole[: len(blocks) * length]
    assert stream.tokens == len(whole) and stream.rest == whole[len(whole) // length * length :]
    if len(whole) >= length:
        assert stream.last() == (stream.rest + whole)[:length], "filled up from the beginning"


@pytest.mark.parametrize("mode", ["instead", "in_addition"])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_share_of_general_text_is_the_rate_within_three_sigma(mode: str, rate: float) -> None:
    order = mix(3000, 40, rate, 5, mode=mode)
    share = sum(i >= 3000 for i in order) / len(order)
    assert abs(share - rate) < 3 * math.sqrt(rate * (1 - rate) / len(order))
    assert order == mix(3000, 40, rate, 5, mode=mode) != mix(3000, 40, rate, 6, mode=mode)


def test_in_addition_no_block_is_left_out_and_instead_some_are() -> None:
    for epochs in (1, 2):
        own = [i for i in mix(500, 9, 0.1, 0, epochs=epochs) if i < 500]
        assert sorted(own) == sorted([*range(500)] * epochs)
    instead = mix(500, 9, 0.1, 0, mode="instead")
    assert len(instead) == 500 and len({i for i in instead if i < 500}) == sum(i < 500 for i in instead) < 500


def test_fault_7_draws_differ_from_place_to_place_and_from_epoch_to_epoch() -> None:
    order = mix(400, 200, 0.2, 0, mode="instead", epochs=2)
    drawn = [i for i in order if i >= 400]
    assert len(set(drawn)) > 0.6 * min(len(drawn), 200)
    first, second = order[:400], order[400:]
    assert first != second and {k for k, i in enumerate(first) if i >= 400} != {
        k for k, i in enumerate(second) if i >= 400
    }


@given(st.integers(1, 30), st.integers(0, 5), st.integers(1, 100))
def test_as_many_places_as_there_are_steps_for(blocks: int, replay: int, places: int) -> None:
    order = mix(blocks, replay, 0.3, 1, places=places)
    assert len(order) == places and all(0 <= i < blocks + replay for i in order)


def write_replay(folder: Path, count: int = 8) -> str:
    writer = parts.PartWriter(str(folder), str(folder), "00000")
    for i in range(count):
        writer.add(row := Row(f"g{i}", {"question": " ".join(f"g{i}y{k}" for k in range(40))}), Kept([row]))
    writer.flush()
    entries = [
        PartEntry(path=p.path, rows=count, sha256=parts.sha256(p.path)) for p in parts.committed(str(folder))
    ]
    Manifest(
        stage="tasks/replay",
        round=0,
        method="",
        fingerprint="",
        rows_in=count,
        rows_done=count,
        rows_out=count,
        parts=entries,
    ).write(str(folder))
    return str(folder)


@pytest.fixture
def make_cpt(make_spec: Any, tokenizer: Any, tmp_path: Path) -> Any:
    """A function from Train settings to a spec.

    The spec trains the tiny model on 20 texts, with or without general text.
    """
    for name, order in (("d", 1), ("reversed", -1)):
        publish(measure(make_texts(20)[::order], tokenizer, TEXTS), tmp_path / name, FACTS, 0, TEXTS)

    def make(replay: bool = True, data: str = "d", **settings: Any) -> TrainSpec:
        spec = make_spec(**{"max_length": LENGTH, "kind": "cpt", **settings})
        folder = (
            write_replay(tmp_path / "replay")
            if replay and not (tmp_path / "replay").exists()
            else str(tmp_path / "replay")
        )
        return dataclasses.replace(
            spec,
            kind=CPT,
            mixture=Mixture((Part(str(tmp_path / data), 1),)),
            replay=folder if replay else None,
        )

    return make


def config(spec: TrainSpec, data: Any) -> dict[str, Any]:
    return {
        "kind": "cpt",
        "model": spec.model.path,
        "trust_remote_code": False,
        "datasets": data.folders,
        "lora": None,
        "precision": "fp32",
        "arguments": trainer_arguments(spec, data.examples, False, False),
        "progress": f"{spec.work}/progress.jsonl",
    }


def test_trl_trains_on_every_token_of_every_block_in_the_given_order(
    make_cpt: Any, tokenizer: Any, tmp_path: Path
) -> None:
    spec = make_cpt(epochs=2)
    data = prepare_blocks(spec)
    made = load_from_disk(data.folders[0])["train"]
    trainer = build_trainer(config(spec, data))
    assert len(made) == data.examples == len(trainer.train_dataset)
    for row, block in zip(trainer.train_dataset, made, strict=True):
        assert row["input_ids"] == row["labels"] == block["input_ids"] and len(row["labels"]) == LENGTH
    served = [ids for batch in trainer.get_train_dataloader() for ids in batch["input_ids"].tolist()]
    assert served == [row["input_ids"] for row in made] and trainer.args.num_train_epochs == 1
    rows = sorted(
        make_texts(20), key=lambda r: (unit_interval(spec.seed, "mixture", r["row_id"]), r["row_id"])
    )
    whole = [t for row in rows for t in text_ids(tokenizer, row["text"])]
    assert len(whole) % LENGTH, "or the last block would be whole by chance"
    whole += whole[
        : -len(whole) % LENGTH
    ]  # what is gone through twice is filled up with its beginning, not cut
    blocks = [whole[i : i + LENGTH] for i in range(0, len(whole), LENGTH)]
    own = [row["input_ids"] for row in made if not row["replay"]]
    assert sorted(own) == sorted(blocks * 2), (
        "fault of the paper's replay: none is left out, and each is seen in both epochs"
    )
    packing = data.shares["packing"]
    assert packing["blocks"] == len(blocks) == len(whole) // LENGTH and packing["left_over_tokens"] == 0
    replayed = sum(made["replay"])
    assert (
        packing["replay_share"] == round(replayed / len(made), 4) and packing["replay_blocks"] == replayed > 0
    )
    assert packing["passes"] == 2 and packing["blocks_not_seen"] == 0 and data.shares["synthetic"] == 20


def test_fault_6_neither_the_order_of_rows_nor_the_number_of_workers_matters(
    make_cpt: Any, tmp_path: Path
) -> None:
    one = make_cpt()
    other = dataclasses.replace(
        make_cpt(data="reversed", workers=2, micro_batch_size=1), work=str(tmp_path / "other")
    )
    served = [load_from_disk(prepare_blocks(spec).folders[0])["train"]["input_ids"] for spec in (one, other)]
    assert list(served[0]) == list(served[1])
    assert trainer_arguments(other, 8, False, False)["gradient_accumulation_steps"] == 2, (
        "fault 8: the batch is the same for any number of workers"
    )


def test_steps_decide_how_much_is_seen(make_cpt: Any) -> None:
    data = prepare_blocks(make_cpt(max_steps=50, batch_size=4, replay=False))
    assert data.examples == 200 and data.shares["packing"]["replay_share"] == 0
    assert data.shares["packing"]["passes"] > 1


def test_the_same_call_finds_its_blocks_and_trl_can_load_them(make_cpt: Any, tmp_path: Path) -> None:
    spec = make_cpt()
    data = prepare_blocks(spec)
    before = {p: p.stat().st_mtime_ns for p in Path(data.folders[0]).rglob("*")}
    assert (
        prepare_blocks(spec) == data
        and {p: p.stat().st_mtime_ns for p in Path(data.folders[0]).rglob("*")} == before
    )
    loaded = load_dataset(data.folders[0], split="train", cache_dir=str(tmp_path / "cache"))
    assert list(loaded["input_ids"]) == list(load_from_disk(data.folders[0])["train"]["input_ids"])
    text = trainer_yaml(spec, trainer_arguments(spec, data.examples, False, False), data.folders)
    assert "trl sft --config" in text and "sequential" in text


def test_too_little_text_is_told(make_cpt: Any, tmp_path: Path) -> None:
    with pytest.raises(
        StageError, match=r"the 20 texts have \d+ tokens, fewer than one block of train\.max_length, 100000"
    ):
        prepare_blocks(make_cpt(max_length=100_000))


def test_general_text_is_in_the_fingerprint(make_cpt: Any, tmp_path: Path) -> None:
    keys = {
        key
        for key, _, _ in differences(
            fingerprint(make_cpt(replay=False)),
            fingerprint(make_cpt(cpt={"replay_rate": 0.2, "replay_mode": "instead"})),
        )
    }
    assert keys == {"cpt.replay_rate", "cpt.replay_mode", "cpt.replay"}


def test_one_pass_leaves_over_what_fills_no_block(make_cpt: Any) -> None:
    packing = prepare_blocks(make_cpt(epochs=1)).shares["packing"]
    assert packing["left_over_tokens"] == packing["tokens"] - packing["blocks"] * LENGTH > 0
