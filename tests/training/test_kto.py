"""KTO: the tokens that TRL makes of labeled answers, the weights, what training changes, and resuming."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from pipeline.config import Accumulate, Kto, Lora, Train
from pipeline.errors import ConfigError, StageError
from pipeline.models import ModelRef, folder_revision
from pipeline.publish import KTO, SFT
from pipeline.publish.accumulate import mixture
from pipeline.publish.dataset import publish
from pipeline.publish.kinds import measure
from pipeline.publish.loss_mask import IGNORED
from pipeline.rundir import differences
from pipeline.training.arguments import trainer_arguments, trainer_yaml
from pipeline.training.build import build_trainer
from pipeline.training.checks import check_training
from pipeline.training.data import prepare_data
from pipeline.training.launch import train
from pipeline.training.spec import REFERENCE_FILE, TrainSpec, fingerprint
from tests.publish.conftest import FACTS, make_labeled
from tests.training.test_dpo import one_thread

__all__ = ["one_thread"]
pytestmark = pytest.mark.train
MARGIN = "rewards/margins"


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> dict[int, Path]:
    """Published folders with 15 and 9 answers, a third of them right, of rounds 1 and 2."""
    folder = tmp_path_factory.mktemp("labeled")
    folders = {number: folder / f"round-{number:03d}" for number in (1, 2)}
    for number, count in ((1, 15), (2, 9)):
        publish(measure(make_labeled(count, number), tokenizer, KTO), folders[number], FACTS, 0, KTO)
    return folders


@pytest.fixture
def make_spec(tiny_model: Path, labeled: dict[int, Path], tmp_path: Path) -> Callable[..., TrainSpec]:
    """From settings of train.kto and train to a spec that trains the tiny model in tmp_path."""

    def make(train: dict[str, Any] | None = None, policy: str = "all", **kto: Any) -> TrainSpec:
        settings = {"max_length": 128, "save_steps": 2, "precision": "fp32", "cpus_per_worker": 1}
        own = {"batch_size": 4, "learning_rate": 1e-2, **kto}
        section = Train(kind="kto", kto=own, **{**settings, **(train or {})})
        model = ModelRef(str(tiny_model), "tiny", folder_revision(tiny_model))
        chosen = mixture(Accumulate(policy=policy), 2, labeled)
        return TrainSpec(
            model, str(tmp_path / "model"), str(tmp_path / "train"), chosen, section, 3, kind=KTO
        )

    return make


def config(spec: TrainSpec, folders: list[Any], **arguments: Any) -> dict[str, Any]:
    Path(spec.work).mkdir(parents=True, exist_ok=True)
    return {
        "kind": spec.kind.name,
        "model": spec.model.path,
        "reference": None,
        "reference_file": f"{spec.work}/{REFERENCE_FILE}",
        "trust_remote_code": False,
        "datasets": [str(folder) for folder in folders],
        "arguments": trainer_arguments(spec, 24, False, False, 8) | arguments,
        "lora": None,
        "precision": "fp32",
        "progress": f"{spec.work}/progress.jsonl",
    }


def test_tokens_and_mask_are_those_of_supervised_training(make_spec, labeled, tmp_path, tokenizer):
    """TRL's KTOTrainer and its SFTTrainer make the same ids and loss masks of the same answers."""
    rows = make_labeled(9, 2)
    examples = [{k: v for k, v in row.items() if k in SFT.features} for row in rows]
    publish(measure(examples, tokenizer), tmp_path / "sft", FACTS, 0)
    spec = make_spec(policy="replace")
    unpaired = build_trainer(config(spec, [labeled[2]], precompute_ref_log_probs=False))
    supervised = build_trainer(config(dataclasses.replace(spec, kind=SFT), [tmp_path / "sft"]))
    assert len(unpaired.train_dataset) == len(supervised.train_dataset) == 9
    for one, other in zip(unpaired.train_dataset, supervised.train_dataset, strict=True):
        assert one["prompt_ids"] + one["completion_ids"] == other["input_ids"]
        assert other["labels"] == [IGNORED] * len(one["prompt_ids"]) + one["completion_ids"]
    published = datasets.load_from_disk(str(labeled[2]))["train"]
    assert list(unpaired.train_dataset["label"]) == list(published["label"])
    for made, row in zip(unpaired.train_dataset, published, strict=True):
        assert [len(made["prompt_ids"]), len(made["completion_ids"])] == [
            row["tokens_prompt"],
            row["tokens_completion"],
        ]


def test_each_answer_is_compared_with_its_neighbor_in_the_order_stored(make_spec):
    spec = make_spec()
    data = prepare_data(spec)
    assert data.folders == [f"{spec.work}/dataset"] and (data.examples, data.right) == (24, 8)
    assert prepare_data(spec) == data, "what is written once is found again"
    rounds = datasets.load_from_disk(data.folders[0])["train"]["src_round"]
    assert rounds != sorted(rounds), "rounds are mixed"
    trainer = build_trainer(config(spec, data.folders, precompute_ref_log_probs=False))
    rows, batches = list(trainer.train_dataset), list(trainer.get_train_dataloader())
    assert all(
        row["KL_completion_ids"] == rows[4 * (i // 4) + (i - 1) % 4]["completion_ids"]
        for i, row in enumerate(rows)
    )
    assert [label for batch in batches for label in batch["label"].tolist()] == [r["label"] for r in rows]


def test_one_round_alone_is_trained_on_as_it_was_published(make_spec, labeled):
    assert prepare_data(make_spec(policy="replace")).folders == [str(labeled[2])]


def test_answers_that_are_all_right_or_too_long_are_refused(make_spec, tmp_path, tokenizer):
    rows = [{**row, "label": True} for row in make_labeled(5)]
    publish(measure(rows, tokenizer, KTO), tmp_path / "d", FACTS, 0, KTO)
    spec = dataclasses.replace(
        make_spec(), mixture=mixture(Accumulate(policy="replace"), 1, {1: tmp_path / "d"})
    )
    with pytest.raises(
        StageError, match="all 5 answers to train on are right; kto learns from right and wrong"
    ):
        prepare_data(spec)
    with pytest.raises(StageError, match="would cut"):
        build_trainer(config(spec, [tmp_path / "d"], max_length=40))


@pytest.mark.parametrize(
    ("settings", "right", "wrong", "weights"),
    [
        ({}, 10, 10, (1, 1)),
        ({}, 10, 40, (4, 1)),
        ({}, 40, 10, (1, 4)),
        ({"desirable_weight": 2}, 10, 40, (2, 0.5)),
        ({"undesirable_weight": 0.5}, 10, 40, (2, 0.5)),
        ({"desirable_weight": 1, "undesirable_weight": 1}, 10, 40, (1, 1)),
    ],
)
def test_both_sides_weigh_alike(settings: Any, right: int, wrong: int, weights: tuple[float, float]):
    assert Kto(**settings).weights(right, wrong) == weights
    if len(settings) < 2:
        assert weights[0] * right == weights[1] * wrong


def test_the_loss_is_that_of_the_paper(make_spec, labeled):
    """Before the first step all rewards and the KL are 0: each answer has its weight times 1 - sigmoid(0)."""
    spec = make_spec(policy="replace", max_steps=1)
    trainer = build_trainer(config(spec, [labeled[2]], precompute_ref_log_probs=False))
    batch = next(iter(trainer.get_train_dataloader()))
    right, wrong = int(batch["label"].sum()), int((~batch["label"]).sum())
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(
        0.5 * (2 * right + wrong) / (right + wrong), abs=1e-4
    )


def test_right_answers_gain_on_wrong_ones(in_process, make_spec):
    spec, seen = make_spec(epochs=4), []
    result = train(spec, seen.append)
    assert (result.kind, result.examples, result.left_out, result.steps) == ("kto", 24, 0, 24)
    assert result.hyperparameters["desirable_weight"] == 2 and result.rewards == {MARGIN: seen[-1][MARGIN]}
    margins = [line[MARGIN] for line in seen if MARGIN in line]
    assert margins[0] == pytest.approx(0, abs=1e-4) and margins[-1] > 0.5
    assert not Path(spec.work, REFERENCE_FILE).exists() and result.revision != spec.model.revision
    assert "trl kto" in Path(spec.work, "trainer.yaml").read_text()
    assert train(spec) == result  # nothing is done again


def test_a_resumed_training_ends_in_the_same_weights(make_spec, labeled):
    """Its reference is the model it started from, scored once; no answer is repeated or left out."""
    import torch
    from transformers import TrainerCallback

    class StopsAt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == 8

    def trainer(work: str) -> Any:
        spec = dataclasses.replace(make_spec(epochs=3, learning_rate=1e-3), work=work)
        return build_trainer(config(spec, list(labeled.values()), save_steps=4))

    undisturbed, first = trainer(f"{make_spec().work}-u"), trainer(make_spec().work)
    undisturbed.train()
    first.add_callback(StopsAt())
    first.train()
    reference = Path(make_spec().work, REFERENCE_FILE)
    written = reference.stat().st_mtime_ns
    again = trainer(make_spec().work)
    again.train(resume_from_checkpoint=f"{make_spec().work}/checkpoints/checkpoint-8")
    assert reference.stat().st_mtime_ns == written and again.state.global_step == 18
    weights = [t.model.state_dict() for t in (undisturbed, again, first)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


@pytest.fixture
def parsed(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """A function that reads a config file as `trl kto --config` does, but with any unknown key an error."""
    from trl.scripts.kto import make_parser

    def parse(text: str) -> Any:
        path = tmp_path / "trainer.yaml"
        path.write_text(text)
        return make_parser().parse_args_and_config(["--config", str(path)], fail_with_unknown_args=True)

    yield parse


def test_trl_parses_every_key(make_spec, parsed):
    spec = make_spec({"lora": Lora()}, beta=0.3, extra={"max_grad_norm": 0.5})
    arguments = trainer_arguments(spec, 24, False, True, 8)
    _, kto, model, mixed = parsed(trainer_yaml(spec, arguments, ["one", "two"]))
    assert (kto.beta, kto.desirable_weight, kto.undesirable_weight, kto.max_grad_norm) == (0.3, 2.0, 1.0, 0.5)
    assert kto.train_sampling_strategy == "sequential" and model.use_peft
    assert [part.path for part in mixed.datasets] == ["one", "two"]


@pytest.mark.parametrize(
    ("train", "kto", "said"),
    [
        ({"workers": 4}, {}, r"train\.kto\.batch_size: 4 leaves a worker one answer, and kto compares"),
        ({"workers": 3}, {}, r"train\.kto\.batch_size: 4 is not divisible by train\.workers = 3"),
        ({}, {"extra": {"train_sampling_strategy": "random"}}, "change it there"),
        (
            {},
            {"extra": {"loss_typ": "kto"}},
            r"train\.kto\.extra\.loss_typ: TRL's KTOConfig has no such field",
        ),
        ({}, {"extra": {"optim": "adafactr"}}, r"train\.kto\.extra\.optim: unknown optimizer"),
    ],
)
def test_mistakes_are_told_before_anything_runs(make_spec, train, kto, said):
    with pytest.raises(ConfigError, match=said):
        check_training(make_spec(train, **kto).train, [KTO], lambda: ModelRef("", "", ""), False)


def test_a_forward_pass_has_two_answers_at_least(make_spec):
    arguments = trainer_arguments(make_spec({"micro_batch_size": 1}), 24, False, False, 8)
    assert (arguments["per_device_train_batch_size"], arguments["gradient_accumulation_steps"]) == (2, 2)


def test_the_fingerprint_has_what_matters_to_kto_and_no_more(make_spec):
    one = make_spec()
    same = make_spec({"learning_rate": 0.5, "epochs": 9, "batch_size": 64, "dpo": {"beta": 3}})
    assert differences(fingerprint(one), fingerprint(same)) == []
    changed = make_spec(beta=0.2, desirable_weight=3, epochs=2)
    keys = {key for key, _, _ in differences(fingerprint(one), fingerprint(changed))}
    assert keys == {"kto.beta", "kto.desirable_weight", "train.epochs"}
