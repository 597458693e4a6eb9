"""Two workers make what one makes: the same losses, the same model, and each resumes what the other began.

All trainings of the pair run in one pair of processes (tests/training/pair.py).
"""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.checks.machine import Gpu, Machine
from pipeline.config import Train
from pipeline.errors import ConfigError
from pipeline.estimates import ModelSize, training_need
from pipeline.places import PROJECT
from pipeline.training.arguments import checkpoints
from pipeline.training.data import prepare_data
from pipeline.training.launch import worker_config
from pipeline.training.process import run_worker
from pipeline.training.progress import read_progress
from pipeline.training.workers import check_shares, settled
from tests.training.conftest import spec_maker

pytestmark = pytest.mark.train
GPUS = (Gpu("H100", 80 * 2**30),) * 3

# 36 examples in batches of 8: the last batch of an epoch has none for the second worker.
TRAININGS: dict[str, dict[str, Any]] = {
    "one": {"workers": 1},
    "two": {"workers": 2},
    "shared": {"workers": 2, "shard": "full"},
    "by tokens": {"workers": 1, "micro_batch_tokens": 100},
    "two by tokens": {"workers": 2, "micro_batch_tokens": 100},
    "shared by tokens": {"workers": 2, "shard": "full", "micro_batch_tokens": 100},
    "packed by one": {"workers": 1, "packing": True, "batch_size": 2},
    "packed by two": {"workers": 2, "packing": True, "batch_size": 2},
}
RESUMED = {"shared, begun by one": "one", "one, begun by two": "two", "one, begun shared": "shared"}
SAME = [
    *(("two", "one"), ("shared", "one"), ("by tokens", "one")),
    *(("two by tokens", "one"), ("shared by tokens", "one"), ("packed by two", "packed by one")),
    *((name, "one") for name in RESUMED),
]


@pytest.fixture(scope="module")
def trained(
    tiny_model: Path, rounds: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """The configs of TRAININGS and of RESUMED, all done: first those of one worker."""
    folder = tmp_path_factory.mktemp("workers")

    def config(name: str, settings: dict[str, Any]) -> dict[str, Any]:
        spec = spec_maker(tiny_model, rounds, folder / name)(
            **{"learning_rate": 1e-2, "batch_size": 8, "epochs": 2, "save_steps": 4, **settings}
        )
        Path(spec.work, "logs").mkdir(parents=True)
        return worker_config(spec, prepare_data(spec), use_gpu=False, threads=1)

    made = {name: config(name, settings) for name, settings in TRAININGS.items()}
    made |= {name: config(name, TRAININGS[name.partition(",")[0]]) for name in RESUMED}
    alone = [name for name, settings in TRAININGS.items() if settings["workers"] == 1]
    for name in alone:
        one_worker(made[name])
    begin(made["shared, begun by one"], made["one"])
    two_workers(
        [made[name] for name in TRAININGS if name not in alone] + [made["shared, begun by one"]], folder
    )
    for name in ("one, begun by two", "one, begun shared"):
        begin(made[name], made[RESUMED[name]])
        one_worker(made[name])
    return made


def begin(config: dict[str, Any], other: dict[str, Any]) -> None:
    """Give a training the checkpoint of another one that is not its last."""
    first = min(Path(other["arguments"]["output_dir"]).glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    shutil.copytree(first, Path(config["arguments"]["output_dir"]) / first.name)


def one_worker(config: dict[str, Any]) -> None:
    import torch
    from accelerate.state import AcceleratorState, PartialState

    torch.set_num_threads(1)
    run_worker(config)
    AcceleratorState._reset_state()
    PartialState._reset_state()


def two_workers(configs: list[dict[str, Any]], folder: Path) -> None:
    """Train one after another in two processes. Raises AssertionError with what they wrote if one fails."""
    path = folder / "configs.json"
    path.write_text(json.dumps(configs))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    command = [sys.executable, "-m", "tests.training.pair"]
    logs = [folder / f"{rank}.log" for rank in (0, 1)]
    pair = []
    for rank, log in enumerate(logs):
        with open(log, "w") as out:
            arguments = [*command, str(rank), port, str(path)]
            pair.append(subprocess.Popen(arguments, cwd=PROJECT, stdout=out, stderr=subprocess.STDOUT))
    try:
        codes = [process.wait(280) for process in pair]
    finally:
        for process in pair:
            process.kill()
    assert codes == [0, 0], "\n".join(log.read_text()[-5000:] for log in logs)


def losses(config: dict[str, Any]) -> list[float]:
    return [line["loss"] for line in read_progress(config["progress"])]


def weights(folder: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(Path(folder) / "model.safetensors")


def assert_same_model(one: str, two: str) -> None:
    """bf16 has 8 bits of mantissa: the workers' sums may round to a neighbor."""
    import torch

    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype == torch.bfloat16
        assert torch.allclose(tensor.float(), second[name].float(), rtol=2e-2, atol=1e-4), name


@pytest.mark.parametrize(("name", "other"), SAME)
def test_the_workers_make_what_one_makes(trained: dict[str, dict[str, Any]], name: str, other: str) -> None:
    config, one = trained[name], trained[other]
    seen, expected = losses(config), losses(one)
    assert len(expected) > 4 and expected[-1] < 0.99 * expected[0], "it learns something"
    assert len(seen) == (2 if name in RESUMED else len(expected))
    assert seen == pytest.approx(expected[-len(seen) :], rel=1e-4)
    assert_same_model(config["out"], one["out"])
    names, configs = zip(
        *(
            (sorted(p.name for p in Path(c["out"]).iterdir()), Path(c["out"], "config.json"))
            for c in (config, one)
        ),
        strict=True,
    )
    assert names[0] == names[1] and configs[0].read_text() == configs[1].read_text()


def test_a_checkpoint_has_the_same_files_whoever_writes_it(trained: dict[str, dict[str, Any]]) -> None:
    def files(name: str) -> set[str]:
        folder = Path(trained[name]["arguments"]["output_dir"])
        names = {path.name for path in next(folder.glob("checkpoint-*")).iterdir()}
        return {name for name in names if not name.startswith("rng_state")}

    assert files("one") == files("two") == files("shared") and "optimizer.pt" in files("one")


@pytest.mark.parametrize(
    ("settings", "gpus", "count"),
    [
        ({}, (), 1),
        ({}, GPUS, 3),
        ({"workers": 2}, GPUS, 2),
        ({"gpus_per_worker": 0}, GPUS, 1),
        ({"gpus_per_worker": 2}, GPUS, 1),
        ({"gpus_per_worker": 0.5}, GPUS, 3),
    ],
)
def test_auto_takes_every_gpu(settings: dict[str, Any], gpus: tuple[Gpu, ...], count: int) -> None:
    assert settled(Train(**settings), gpus).workers == count


def test_a_batch_that_the_gpus_cannot_share_is_refused_with_the_numbers() -> None:
    said = r"train\.batch_size: 16 is not divisible by train\.workers = 3 \(auto: one for each of 3 GPUs\)"
    with pytest.raises(ConfigError, match=said):
        check_shares(Train(), GPUS)
    assert check_shares(Train(batch_size=18), GPUS).workers == 3


@pytest.mark.parametrize(
    ("parameters", "settings", "gpus", "shard"),
    [
        (1_500_000_000, {}, GPUS, "none"),
        (8_000_000_000, {}, GPUS, "full"),
        (8_000_000_000, {"lora": {}}, GPUS, "none"),
        (8_000_000_000, {"workers": 1}, GPUS, "none"),
        (8_000_000_000, {"shard": "none"}, GPUS, "none"),
        (8_000_000_000, {"workers": 3}, (), "none"),  # on CPUs, memory is shared
    ],
)
def test_auto_divides_what_does_not_fit_one_gpu(
    parameters: int, settings: dict[str, Any], gpus: tuple[Gpu, ...], shard: str
) -> None:
    layers = {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128_256}
    size = ModelSize("", parameters, layers)
    train = settled(Train(batch_size=18, **settings), gpus, size)
    assert train.shard == shard
    if shard == "full":
        machine = Machine(8, True, 0, gpus)
        whole, divided = (
            training_need(size, train.model_copy(update={"shard": s}), machine) for s in ("none", "full")
        )
        assert divided.parts["optimizer"] == whole.parts["optimizer"] // 3
        assert divided.total < divided.available < whole.total
        assert str(divided).startswith("training: about ") and str(divided).endswith(" on each of 3 GPUs)")


@pytest.mark.parametrize(
    ("settings", "gpus", "expected"),
    [
        ({}, GPUS, True),
        ({"micro_batch_size": 1}, GPUS, False),
        ({"micro_batch_size": 1, "gradient_checkpointing": True}, GPUS, True),
        ({"micro_batch_size": 1}, (Gpu("unknown", 0),), True),
        ({"gradient_checkpointing": False}, GPUS, False),
        ({}, (), False),
        ({"gpus_per_worker": 0}, GPUS, False),
    ],
)
def test_auto_computes_activations_again_where_they_do_not_fit(
    settings: dict[str, Any], gpus: tuple[Gpu, ...], expected: bool
) -> None:
    layers = {"num_hidden_layers": 32, "hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 128_256}
    size = ModelSize("", 1_500_000_000, layers)
    train = settled(Train(batch_size=36, max_length=2048, **settings), gpus, size)
    gpu = bool(gpus) and train.gpus_per_worker != 0
    assert checkpoints(train, gpu) is expected
    need = training_need(size, train, Machine(8, True, 2**40, gpus if gpu else ()))
    assert expected or "gradient_checkpointing" in settings or need.total < need.available
