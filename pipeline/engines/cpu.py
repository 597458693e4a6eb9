"""What vLLM needs to be told on a machine without a GPU, worked out from the machine.

Ray sets OMP_NUM_THREADS to an actor's num_cpus (1 when unset), which starves vLLM and torch; vLLM's own default reserves a
core. Measured on 2 cores with SmolLM2-135M: 430 tokens/s with both cores bound, 260 with the default.
"""

import os
from pathlib import Path
from typing import Any

import orjson
import psutil


def cores_of(replica: int, replicas: int, cores: int | None = None) -> list[int]:
    """Return the cores of one replica: an even share of those this process may use, or `cores` of them."""
    usable = sorted(os.sched_getaffinity(0))
    size = cores or max(1, len(usable) // replicas)
    start = (replica * size) % len(usable)
    return sorted(usable[(start + i) % len(usable)] for i in range(min(size, len(usable))))


def kv_bytes(model: str, args: dict[str, Any], replicas: int, asked: float | None = None) -> int:
    """Return bytes for the KV cache of one replica: `asked` GiB, else twice what all sequences at their longest take.

    Twice, so that shared prefixes stay cached. Never more than a quarter of the free memory's share, or 8 GiB: all of it is written
    when the engine starts, about 2.5 s a GiB. A model whose folder does not tell its sizes gets that most.
    """
    if asked:
        return int(asked * 2**30)
    most = int(min(8.0, max(1.0, psutil.virtual_memory().available / 2**30 / replicas / 4)) * 2**30)
    per_token = _kv_bytes_per_token(model, str(args.get("dtype", "")))
    tokens = int(args.get("max_num_seqs", 0)) * int(args.get("max_model_len") or 0)
    return min(most, max(2 * per_token * tokens, 2**28)) if per_token and tokens else most


def sizes(model: str) -> dict[str, Any]:
    """Return the config.json of a model's folder, {} where there is none (a Hub id)."""
    path = Path(model, "config.json")
    return orjson.loads(path.read_bytes()) if path.is_file() else {}


def _kv_bytes_per_token(model: str, dtype: str) -> int:
    """Return bytes of keys and values of one token over all layers, 0 when the model's config.json does not say."""
    config = sizes(model)
    try:
        heads = config["num_attention_heads"]
        size = config.get("head_dim") or config["hidden_size"] // heads
        return (
            2
            * config["num_hidden_layers"]
            * (config.get("num_key_value_heads") or heads)
            * size
            * (4 if dtype == "float32" else 2)
        )
    except (KeyError, TypeError):
        return 0


def environment(replica: int, replicas: int, cores: int | None, one_process: bool) -> dict[str, str]:
    """Return the environment of a CPU engine. It must be set before its processes are started.

    `one_process`: scheduler and model share a process, which saves an import of vLLM at the start and a message each step. vLLM
    does that on a CPU only when told that there is no multiprocessing, and then leaves it to us to set OpenMP's variables.
    """
    mine = ",".join(map(str, cores_of(replica, replicas, cores)))
    found = {"OMP_NUM_THREADS": str(mine.count(",") + 1), "VLLM_CPU_OMP_THREADS_BIND": mine}
    alone = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_PLACES": f"{{{mine}}}", "OMP_PROC_BIND": "true"}
    return found | alone if one_process else found


def engine_args(args: dict[str, Any]) -> dict[str, Any]:
    """Return AsyncEngineArgs with the defaults that pay on a CPU, unless `args` says otherwise.

    torch.compile costs 190 s at start and gains nothing. Where the CPU has instructions for it, bf16 is twice as fast as fp32;
    where it has not, a fifth as fast (29 against 152 tokens/s on AVX2). The prefix cache works in whole blocks, and in vLLM's
    default for CPUs, 128 tokens, few prompts fill one: with 32 the samples of one request share their prompt.
    """
    return {
        "enforce_eager": True,
        "dtype": "bfloat16" if computes_bf16() else "float32",
        "block_size": 32,
        "max_num_seqs": 64,
        **args,
    }


def computes_bf16() -> bool:
    """Tell whether this CPU has instructions that multiply bf16 numbers (AVX512-BF16 or AMX)."""
    import torch

    flags = torch.cpu.get_capabilities()
    return bool(flags.get("amx_bf16") or flags.get("avx512_bf16"))


def without_gpu() -> bool:
    """Tell whether this process sees no GPU, without initialising CUDA in it."""
    import torch

    return not torch.cuda.is_available()
