"""DPO: what TRL makes of published pairs, and its trainer.yaml.

The margin grows, and a killed training ends the same.
"""

import dataclasses
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from pipeline.config import Accumulate, Lora, Train
from pipeline.errors import ConfigError, StageError
from pipeline.models import ModelRef, folder_revision
from pipeline.publish import DPO
from pipeline.publish.accumulate import mixture
from pipeline.publish.dataset import publish
from pipeline.publish.kinds import measure
from pipeline.rundir import differences
from pipeline.training.arguments import trainer_arguments, trainer_yaml
from pipeline.training.build import build_trainer
from pipeline.training.data import prepare_data
from pipeline.training.launch import train
from pipeline.training.progress import read_progress
from pipeline.training.spec import REFERENCE_FILE, TrainSpec, fingerprint
from tests.in_process import training_in_process
from tests.publish.conftest import FACTS, make_pairs

pytestmark = pytest.mark.train
MARGIN, ACCURACY = "rewards/margins", "rewards/accuracies"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other over such small matrices take more time than they save."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> dict[int, Path]:
    """Published folders with 14 and 10 pairs, of rounds 1 and 2."""
    folder = tmp_path_factory.mktemp("pairs")
    for number, count in ((1, 14), (2, 10)):
        publish(
            measure(make_pairs(count, number), tokenizer, DPO), folder / f"round-{number:03d}", FACTS, 0, DPO
        )
    return {number: folder / f"round-{number:03d}" for number in (1, 2)}


@pytest.fixture(scope="module")
def other_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """The tiny model with other weights, to be a reference that is not the start."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("other") / "model"
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return ModelRef(str(folder), "other", folder_revision(folder))


@pytest.fixture
def make_spec(tiny_model: Path, pairs: dict[int, Path], tmp_path: Path) -> Callable[..., TrainSpec]:
    """A function from settings of train.dpo (and of train) to a spec for the tiny model in tmp_path."""

    def make(train: dict[str, Any] | None = None, policy: str = "all", **dpo: Any) -> TrainSpec:
        settings = {
            "max_length": 128,
            "save_steps": 2,
            "precision": "fp32",
            "cpus_per_worker": 1,
            **(train or {}),
        }
        section = Train(
            kind="dpo",
            dpo={"batch_size": 4, "learning_rate": 1e-2, "loss_type": "sigmoid", **dpo},
            **settings,
        )
        model = ModelRef(str(tiny_model), "tiny", folder_revision(tiny_model))
        chosen = mixture(Accumulate(policy=policy), 2, pairs)
        return TrainSpec(
            model, str(tmp_path / "model"), str(tmp_path / "train"), chosen, section, 3, kind=DPO
        )

    return make


def config(spec: TrainSpec, folders: list[Path], **arguments: Any) -> dict[str, Any]:
    Path(spec.work).mkdir(parents=True, exist_ok=True)
    return {
        "kind": "dpo",
        "model": spec.model.path,
        "reference": spec.reference.path if spec.reference else None,
        "reference_file": f"{spec.work}/{REFERENCE_FILE}",
        "trust_remote_code": False,
        "datasets": [str(folder) for folder in folders],
        "arguments": trainer_arguments(spec, 24, False, False) | arguments,
        "lora": spec.train.lora.model_dump() if spec.train.lora else None,
        "precision": "fp32",
        "progress": f"{spec.work}/progress.jsonl",
    }


def test_the_default_loss_also_teaches_the_chosen_answer(make_spec, pairs):
    """The first loss is log 2 of DPO, plus the mean negative log-likelihood of a chosen token."""
    import torch

    assert Train().dpo.loss_type == ["sigmoid", "sft"]
    spec = make_spec(loss_type=Train().dpo.loss_type, max_steps=1)
    arguments = {"precompute_ref_log_probs": False, "save_strategy": "no"}
    trainer = build_trainer(config(spec, list(pairs.values()), **arguments))
    batch = next(iter(trainer.get_train_dataloader()))
    chosen = {name: tensor.chunk(2)[0] for name, tensor in batch.items()}
    labels = chosen["input_ids"].masked_fill(chosen["completion_mask"] == 0, -100)
    with torch.no_grad():
        plain = trainer.ref_model(input_ids=chosen["input_ids"], attention_mask=chosen["attention_mask"])
        expected = torch.nn.functional.cross_entropy(
            plain.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        )
        loss = trainer.compute_loss(trainer.model, batch)
    assert loss.item() == pytest.approx(0.6931 + expected.item(), abs=1e-3)


def test_trl_reads_every_token_of_both_answers(make_spec, pairs, tokenizer):
    """Pairs with every lineage column through the real DPOTrainer; ids and masks token by token."""
    trainer = build_trainer(config(make_spec(), list(pairs.values()), precompute_ref_log_probs=False))
    published = datasets.concatenate_datasets(
        [datasets.load_from_disk(str(folder))["train"] for folder in pairs.values()]
    )
    assert len(trainer.train_dataset) == len(published) == 24 and set(published.column_names) == set(
        DPO.features
    )
    for made, row in zip(trainer.train_dataset, published, strict=True):
        head = tokenizer(
            tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        )["input_ids"]
        sides = [
            tokenizer(row[s][0]["content"] + "<|im_end|>\n", add_special_tokens=False)["input_ids"]
            for s in ("chosen", "rejected")
        ]
        assert [made["prompt_ids"], made["chosen_ids"], made["rejected_ids"]] == [head, *sides]
        assert [row["tokens_prompt"], row["tokens_chosen"], row["tokens_rejected"]] == [
            len(head),
            *map(len, sides),
        ]
    batch = next(iter(trainer.get_train_dataloader()))
    assert (
        set(batch) == {"input_ids", "attention_mask", "completion_mask"} and len(batch["input_ids"]) == 2 * 4
    )
    assert (batch["completion_mask"] <= batch["attention_mask"]).all() and (
        batch["completion_mask"].sum(1) > 0
    ).all()
    assert trainer.ref_model is not None and trainer.lengths.max() <= 128


def test_the_trainer_refuses_to_cut(make_spec, pairs):
    with pytest.raises(StageError, match="would cut"):
        build_trainer(config(make_spec(), [pairs[2]], max_length=42))


def test_pairs_that_are_too_long_are_left_out_and_counted(make_spec, tmp_path, tokenizer):
    rows = make_pairs(5) + [{**row, "row_id": f"long-{i}"} for i, row in enumerate(make_pairs(3, words=120))]
    publish(measure(rows, tokenizer, DPO), tmp_path / "d", FACTS, 0, DPO)
    spec = dataclasses.replace(
        make_spec(), mixture=mixture(Accumulate(policy="replace"), 1, {1: tmp_path / "d"})
    )
    data = prepare_data(spec)
    assert (data.examples, data.left_out) == (5, 3) and prepare_data(spec) == data
    assert build_trainer(config(spec, [Path(f) for f in data.folders])).lengths.max() <= 128


def test_counts_of_another_tokenizer_are_made_anew(make_spec, tmp_path):
    publish(make_pairs(5), tmp_path / "d", FACTS, 0, DPO)  # never measured: all counts are 0
    spec = dataclasses.replace(
        make_spec(), mixture=mixture(Accumulate(policy="replace"), 1, {1: tmp_path / "d"})
    )
    data = prepare_data(spec)
    assert (
        data.folders == [f"{spec.work}/dataset"]
        and build_trainer(config(spec, [Path(f) for f in data.folders])).prepared_tokens > 0
    )


@pytest.mark.parametrize(
    ("steps", "expected"),
    [({"epochs": 1}, True), ({"max_steps": 5}, False), ({"max_steps": 6}, True), ({"epochs": 0.5}, False)],
)
def test_the_reference_is_asked_beforehand_where_that_is_cheaper(make_spec, steps, expected):
    """24 pairs in batches of 4: from 6 steps on, each pair is seen at least once."""
    assert trainer_arguments(make_spec(**steps), 24, False, False)["precompute_ref_log_probs"] is expected


@pytest.mark.parametrize("which", ["start", "base", "base with LoRA"])
def test_what_is_computed_beforehand_is_what_would_be_computed_then(make_spec, pairs, other_model, which):
    """The first loss of both ways is the same.

    It is log 2 from the start itself, another one from another reference.
    """
    lora = {"lora": Lora(r=4, alpha=8)} if "LoRA" in which else {}
    spec = make_spec(lora, max_steps=1)
    spec = dataclasses.replace(spec, reference=None if which == "start" else other_model)
    losses = []
    for beforehand in (True, False):
        shutil.rmtree(spec.work, ignore_errors=True)
        trainer = build_trainer(
            config(spec, list(pairs.values()), precompute_ref_log_probs=beforehand, save_strategy="no")
        )
        assert beforehand == (Path(spec.work) / REFERENCE_FILE).exists()
        assert (trainer.ref_model is None) == beforehand
        trainer.train()
        losses.append(read_progress(Path(spec.work) / "progress.jsonl")[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert (losses[0] == pytest.approx(0.6931, abs=1e-3)) == (which == "start")


def test_the_margin_grows(local_ray, make_spec, tiny_model):
    import torch
    from transformers import AutoModelForCausalLM

    spec, seen = make_spec(epochs=3), []
    work = Path(spec.work)
    with training_in_process():
        result = train(spec, seen.append)
    assert (result.kind, result.examples, result.left_out, result.steps) == ("dpo", 24, 0, 18)
    assert result.shares == {"real": 0, "synthetic": 24, "rounds": {"1": 14, "2": 10}}
    assert seen[0][MARGIN] == pytest.approx(0, abs=1e-4) and seen[0]["loss"] == pytest.approx(
        0.6931, abs=1e-3
    )
    assert seen[-1][MARGIN] > 0.5 > seen[1][MARGIN] and seen[-1][ACCURACY] == 1 and seen[-1]["loss"] < 0.4
    assert result.rewards == {MARGIN: seen[-1][MARGIN], ACCURACY: 1.0}
    assert (work / "loss.png").read_bytes().startswith(b"\x89PNG") and "trl dpo" in (
        work / "trainer.yaml"
    ).read_text()
    assert not (work / "checkpoints").exists() and not (work / REFERENCE_FILE).exists()
    model = AutoModelForCausalLM.from_pretrained(spec.out)
    assert model.dtype == torch.bfloat16 and model.config.use_cache and result.revision != spec.model.revision
    assert train(spec) == result  # nothing is done again


def test_lora_against_a_reference_of_its_own_on_two_workers(
    local_ray, make_spec, tiny_model, other_model, tmp_path, monkeypatch
):
    """The adapter is merged, the reference is another model, and both workers find its log-probabilities."""
    import torch
    from transformers import AutoModelForCausalLM

    monkeypatch.chdir(tmp_path)  # relative folders mean the driver's, not the workers' own
    spec = make_spec({"lora": Lora(r=4, alpha=8), "workers": 2}, epochs=1)
    result = train(dataclasses.replace(spec, reference=other_model, out="model", work="train"))
    assert result.steps == 6 and result.hyperparameters["precompute_ref_log_probs"]
    assert result.model == spec.out and result.hyperparameters["per_device_train_batch_size"] == 2
    base, tuned = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).state_dict()
        for path in (tiny_model, spec.out)
    )
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert base.keys() == tuned.keys() and changed and all("_proj" in name for name in changed)


def test_an_interrupted_training_ends_the_same(make_spec, in_process, monkeypatch):
    """A resumed training's reference is the model it started from, not its checkpoint."""
    from transformers import Trainer

    spec = make_spec(epochs=4, learning_rate=1e-3, beta=0.5)
    spec = dataclasses.replace(spec, train=spec.train.model_copy(update={"save_steps": 5}))
    undisturbed = train(dataclasses.replace(spec, work=spec.work + "-u", out=spec.out + "-u"))
    reference, step, seen = Path(spec.work) / REFERENCE_FILE, Trainer.training_step, []

    def stopped_after_8(*arguments: Any, **named: Any) -> Any:
        seen.append(reference.stat().st_mtime_ns)
        if len(seen) == 9:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(Trainer, "training_step", stopped_after_8)
    with pytest.raises(KeyboardInterrupt):
        train(spec)
    result = train(spec)
    log = (Path(spec.work) / "logs" / "worker.0.log").read_text()
    assert re.search(r"resuming from .*checkpoint-5", log) and len(set(seen)) == 1, "computed once"
    assert (result.steps, result.tokens, result.final_loss, result.rewards) == (
        24,
        undisturbed.tokens,
        undisturbed.final_loss,
        undisturbed.rewards,
    )
    assert result.revision == undisturbed.revision


def parse(path: Path) -> Any:
    """Read the file as `trl dpo --config` does, but with any unknown key an error."""
    from trl.scripts.dpo import make_parser

    return make_parser().parse_args_and_config(["--config", str(path)], fail_with_unknown_args=True)


def test_trl_parses_every_key(make_spec, pairs, other_model, tmp_path):
    spec = make_spec(
        {"lora": Lora(target_modules=["q_proj"])},
        loss_type=["sigmoid", "sft"],
        loss_weights=[1, 0.2],
        beta=0.3,
        extra={"max_grad_norm": 0.5, "label_smoothing": 0.1},
    )
    path = tmp_path / "trainer.yaml"
    path.write_text(
        trainer_yaml(
            spec, trainer_arguments(spec, 24, False, True), [str(folder) for folder in pairs.values()]
        )
    )
    _, dpo, model, mixed = parse(path)
    assert (dpo.beta, dpo.loss_type, dpo.loss_weights, dpo.label_smoothing) == (
        0.3,
        ["sigmoid", "sft"],
        [1.0, 0.2],
        0.1,
    )
    assert (dpo.max_length, dpo.per_device_train_batch_size, dpo.learning_rate, dpo.max_grad_norm) == (
        128,
        4,
        1e-2,
        0.5,
    )
    assert (
        dpo.bf16
        and dpo.precompute_ref_log_probs
        and [part.path for part in mixed.datasets] == [str(f) for f in pairs.values()]
    )
    assert (model.use_peft, model.lora_target_modules) == (
        True,
        "q_proj",
    )  # TRL takes the one out of its list
    assert "# Not the same" not in path.read_text()
    assert f"its reference was {other_model.path}" in trainer_yaml(
        dataclasses.replace(spec, reference=other_model), {}, []
    )


@pytest.mark.filterwarnings("ignore")
def test_trl_dpo_trains_with_it(make_spec, tmp_path, monkeypatch):
    from trl.scripts.dpo import main

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    spec = make_spec(max_steps=2)
    data = prepare_data(spec)
    path = tmp_path / "trainer.yaml"
    path.write_text(trainer_yaml(spec, trainer_arguments(spec, data.examples, False, False), data.folders))
    main(*parse(path))
    output = Path(yaml.safe_load(path.read_text())["output_dir"])
    assert output.name == "trl-dpo" and (output / "model.safetensors").exists()


def test_mistakes_are_told_with_the_key_of_dpo(make_spec):
    for settings, said in (
        ({"batch_size": 3}, r"train\.dpo\.batch_size: 3 pairs cannot be split evenly among 2"),
        ({"micro_batch_size": 3, "batch_size": 8}, r"train\.dpo\.micro_batch_size"),
        ({"extra": {"packing": True}}, r"train\.dpo\.extra\.packing: TRL's DPOConfig has no such field"),
        ({"extra": {"beta": 1}}, r"change it there"),
    ):
        with pytest.raises(ConfigError, match=said):
            trainer_arguments(make_spec({"workers": 2}, **settings), 10, False, False)


def test_the_fingerprint_has_what_matters_to_dpo_and_no_more(make_spec, other_model):
    one = make_spec()
    assert differences(fingerprint(one), fingerprint(pickle.loads(pickle.dumps(one)))) == []
    same = make_spec(
        {"learning_rate": 0.5, "epochs": 9, "batch_size": 64, "extra": {"packing": True}}, micro_batch_size=2
    )
    assert differences(fingerprint(one), fingerprint(same)) == [], (
        "the supervised settings that train.dpo replaces"
    )
    changed = dataclasses.replace(
        make_spec({"max_length": 99}, beta=0.2, loss_type="ipo", epochs=2), reference=other_model
    )
    keys = {key for key, _, _ in differences(fingerprint(one), fingerprint(changed))}
    assert keys == {"dpo.beta", "dpo.loss_type", "dpo.reference", "train.epochs", "train.max_length"}
    supervised = Train(dpo={"beta": 0.3}).model_dump(mode="json").keys() - {"kind", "dpo"}
    assert fingerprint(one)["train"].keys() <= supervised
