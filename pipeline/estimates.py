"""What a model takes before it runs: bytes of memory and tokens per second, from its size and the machine.

Estimates, and called so wherever they are shown. A figure that a run has measured replaces them.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipeline.checks.machine import GIB, Gpu, Machine
from pipeline.config import Train, VllmEngine
from pipeline.engines.cpu import kv_bytes, sizes
from pipeline.errors import ConfigError
from pipeline.models import PACKAGED, resolve_model
from pipeline.training.arguments import checkpoints, micro_batch, most_answers

# Effective FLOP/s of one core, with bf16 instructions and without: vLLM wrote 440 tokens/s on 2 cores with
# 135M parameters, 239 with 0.5B and 86 with 1.5B; without them 170 with 135M, and training saw 119.
CORE_FLOPS = {True: 145e9, False: 45e9}
TOKEN_FLOPS = 0.3e9  # of a token on a CPU beside the model's own
# bf16 FLOP/s without sparsity, and bytes/s of memory, from the data sheets. Unknown GPUs count as the last.
GPUS = {
    "B200": (2250e12, 8.0e12), "H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100": (312e12, 2.0e12),
    "L40S": (362e12, 0.86e12), "4090": (165e12, 1.0e12), "A10": (125e12, 0.6e12), "L4": (121e12, 0.3e12),
    "3090": (71e12, 0.94e12), "V100": (112e12, 0.9e12), "T4": (65e12, 0.32e12), "": (50e12, 0.4e12),
}  # fmt: skip
TRAINED_SHARE = 0.35  # of a GPU's FLOP/s that training reaches
STEP_SECONDS = 0.015  # of a vLLM step on a GPU, beside the model's own time
PROMPT_SPEED = 4  # prompt tokens are read this many times as fast as new ones are written
# Bytes of a process beside the model: Python, torch and vLLM or TRL.
ENGINE_PROCESS, TRAIN_PROCESS = int(2.5 * 2**30), int(1.3 * 2**30)
DEFAULT_SEQUENCES = {True: 256, False: 64}  # max_num_seqs, by whether there is a GPU


class ModelSize(NamedTuple):
    """A model's parameters and its config.json; `folder` has its tokenizer, and perhaps its weights."""

    folder: str
    parameters: int
    config: dict[str, Any]

    def kv_bytes(self, dtype: int = 2) -> int:
        """Return the bytes of one token's keys and values in all layers, with `dtype` bytes a number."""
        c = self.config
        heads = c.get("num_attention_heads") or 1
        width = c.get("head_dim") or c.get("hidden_size", 0) // heads
        return 2 * c.get("num_hidden_layers", 0) * (c.get("num_key_value_heads") or heads) * width * dtype

    def pass_bytes(self, tokens: int, checkpointing: bool, gpu: bool = False) -> int:
        """Return the bytes that a training pass over `tokens` tokens keeps, about.

        On a CPU as measured (pipeline.engines.pool.training_bytes): 8 vectors of the hidden size and 5 of the
        inner one in each layer, and 5 numbers for each word of the vocabulary, fp32. With `checkpointing`,
        bf16: one vector a layer, one layer at a time, and the words of half of the tokens. Without it on a
        GPU all layers, in 3 bytes a number: products are bf16, norms and residuals fp32.
        """
        c = self.config
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")
        layers, hidden, inner, words = (int(c.get(name, 0)) for name in names)
        layer = 8 * hidden + 5 * inner
        if checkpointing:
            return tokens * (2 * (layers * hidden + layer) + 4 * words)
        if gpu:
            return tokens * (3 * layers * layer + 4 * words)
        return tokens * 4 * (layers * layer + 5 * words)


def model_size(base: str, revision: str | None) -> ModelSize:
    """Look up a model without downloading its weights. Raises ConfigError if there is no such model."""
    on_hub = base != PACKAGED and not Path(base).expanduser().is_dir() and base.count("/") == 1
    if on_hub and (found := _on_the_hub(base, revision)) is not None:
        return found
    return folder_size(resolve_model(base, revision).path)


def folder_size(folder: str) -> ModelSize:
    """Look up a model in a folder."""
    return ModelSize(folder, parameters(Path(folder).glob("*.safetensors")), _config(folder))


def parameters(files: Iterable[Path]) -> int:
    """Return the number of parameters in safetensors files, read from their headers."""
    count = 0
    for file in files:
        with open(file, "rb") as f:
            header = orjson.loads(f.read(int.from_bytes(f.read(8), "little")))
        count += sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    return count


def _config(folder: str) -> dict[str, Any]:
    config = sizes(folder)
    return {**config, **config.get("text_config", {})}  # of a model that also sees, the part that writes


def _on_the_hub(base: str, revision: str | None) -> ModelSize | None:
    """Return the size of a Hub model not here yet; None for one that is here, or cannot be reached."""
    from huggingface_hub import constants, get_safetensors_metadata, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, NotASafetensorsRepoError

    try:
        resolved = snapshot_download(base, revision=revision, local_files_only=True)
        if constants.HF_HUB_OFFLINE or any(Path(resolved).glob("*.safetensors")):
            return None
    except LocalEntryNotFoundError:
        if constants.HF_HUB_OFFLINE:
            return None
    try:
        small = [f"*{suffix}" for suffix in (".json", ".model", ".txt", ".jinja")]
        folder = snapshot_download(base, revision=revision, allow_patterns=small)
        count = get_safetensors_metadata(base, revision=revision).parameter_count
    except NotASafetensorsRepoError:
        raise ConfigError(f"model.base: {base} has no weights as safetensors on the Hub.") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        return None
    return ModelSize(folder, sum(count.values()), _config(folder))


class Need(NamedTuple):
    """Bytes that one process needs, by what for, and what it has: `available`, or 0 where that is unknown.

    `processes` share what is available; on each of `gpus` is a process like this one.
    """

    name: str
    parts: dict[str, int]
    available: int
    processes: int = 1
    gpus: int = 1

    @property
    def total(self) -> int:
        """The bytes of all processes that share `available`."""
        return self.processes * sum(self.parts.values())

    def __str__(self) -> str:
        parts = " + ".join(f"{size / GIB:.1f} {name}" for name, size in self.parts.items())
        times = f" in each of {self.processes} processes" if self.processes > 1 else ""
        times += f" on each of {self.gpus} GPUs" if self.gpus > 1 else ""
        of = f" of {self.available / GIB:.1f}" if self.available else ""
        return f"{self.name}: about {self.total / GIB:.1f} GiB{of} ({parts}{times})"


def engine_need(size: ModelSize, engine: VllmEngine, machine: Machine) -> Need:
    """Return what a vLLM engine needs: on a GPU, of each of its GPUs, for one sequence at full length."""
    args, longest = (
        engine.args,
        int(engine.args.get("max_model_len") or size.config.get("max_position_embeddings", 4096)),
    )
    if machine.gpus:
        ranks = engine.tensor_parallel_size * engine.pipeline_parallel_size
        dtype = 4 if args.get("dtype") == "float32" else 2
        parts = {
            "weights": size.parameters * dtype // ranks,
            "KV cache of one sequence": size.kv_bytes() * longest // ranks,
            "the rest": int(1.5 * 2**30),
        }
        share = float(args.get("gpu_memory_utilization", 0.9))
        return Need("engine", parts, int(machine.gpus[0].memory * share))
    dtype = 2 if machine.bf16 and args.get("dtype") != "float32" else 4
    settings = {
        "max_num_seqs": DEFAULT_SEQUENCES[False],
        **args,
        "dtype": "float32" if dtype == 4 else "bfloat16",
    }
    cache = kv_bytes(size.folder, settings, engine.replicas, engine.cpu_kv_gib)
    parts = {"weights": size.parameters * dtype, "KV cache": cache, "the rest": ENGINE_PROCESS}
    return Need("engine", parts, machine.memory, engine.replicas)


def training_need(size: ModelSize, train: Train, machine: Machine) -> Need:
    """Return what one training process needs, with the largest forward pass that its settings allow."""
    lora, gpu = train.lora is not None, bool(machine.gpus) and train.gpus_per_worker != 0
    half = train.precision == "bf16"
    frozen = lora and train.precision != "fp32" and (gpu or machine.bf16)  # adapters stay fp32
    trained = _adapter_parameters(size, train.lora.r) if train.lora else size.parameters
    answers = most_answers(train)
    rows = micro_batch(train, max(1, train.batch_size // train.processes), answers, gpu)
    checkpointing = recomputes(train, gpu)
    weights = size.parameters * (2 if half or frozen else 4) + (4 * trained if lora else 0)
    states = {
        "weights": weights,
        "gradients": trained * (2 if half and not lora else 4),
        "optimizer": trained * (4 if half and not lora else 8),
    }
    # Of a divided model two layers are whole at a time, the one computed with and the next on its way, and
    # for the loss the output layer.
    c = size.config
    output = weights * c.get("vocab_size", 0) * c.get("hidden_size", 0) // max(1, size.parameters)
    layers = {"whole layers": 2 * weights // max(1, c.get("num_hidden_layers", 1)) + output}
    parts = {
        **{name: count // train.shards for name, count in states.items()},
        **(layers if train.shards > 1 else {}),
        f"a pass of {rows} x {train.max_length * answers} tokens": size.pass_bytes(
            rows * answers * train.max_length, checkpointing, gpu
        ),
        "the rest": TRAIN_PROCESS,
    }
    available = machine.gpus[0].memory if gpu else machine.memory
    workers = train.processes
    return Need("training", parts, available, 1 if gpu else workers, workers if gpu else 1)


def recomputes(train: Train, gpu: bool) -> bool:
    """Tell whether a training computes activations again; `extra` goes over the setting, as for TRL."""
    return bool(train.extra.get("gradient_checkpointing", checkpoints(train, gpu)))


def _adapter_parameters(size: ModelSize, rank: int) -> int:
    """Return the parameters of LoRA adapters on all linear layers, about."""
    c = size.config
    hidden, inner = c.get("hidden_size", 0), c.get("intermediate_size", 0)
    return c.get("num_hidden_layers", 0) * rank * (4 * 2 * hidden + 3 * (hidden + inner))


def written_per_second(size: ModelSize, engine: VllmEngine, machine: Machine, at_once: float) -> float:
    """Return the tokens that all replicas write per second, with `at_once` sequences under way."""
    if not machine.gpus:
        cores = min(machine.cores, (engine.cpu_cores or machine.cores) * engine.replicas)
        return cores * CORE_FLOPS[machine.bf16] / (2 * size.parameters + TOKEN_FLOPS)
    flops, memory = _gpu(machine.gpus[0])
    ranks = engine.tensor_parallel_size * engine.pipeline_parallel_size
    most = int(engine.args.get("max_num_seqs", DEFAULT_SEQUENCES[True]))
    batch = max(1.0, min(most, at_once / engine.replicas))
    step = max(2 * size.parameters / (ranks * memory), 2 * size.parameters * batch / (ranks * 0.5 * flops))
    return engine.replicas * batch / (step + STEP_SECONDS)


def trained_per_second(size: ModelSize, train: Train, machine: Machine) -> float:
    """Return the tokens that all workers train on per second: 6 FLOP for each parameter, 8 if recomputed."""
    if machine.gpus and train.gpus_per_worker != 0:
        speed = train.processes * _gpu(machine.gpus[0])[0] * TRAINED_SHARE
        return speed / ((8 if recomputes(train, gpu=True) else 6) * size.parameters)
    return machine.cores * CORE_FLOPS[machine.bf16] / (6 * size.parameters)


def _gpu(gpu: Gpu) -> tuple[float, float]:
    return next(figures for name, figures in GPUS.items() if name in gpu.name)
