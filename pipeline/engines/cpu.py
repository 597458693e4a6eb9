"""What vLLM has to be told on a machine without a GPU.

Ray sets OMP_NUM_THREADS to an actor's num_cpus (1 if unset), which starves vLLM and torch; vLLM's own default
reserves a core. Measured on 2 cores with SmolLM2-135M: 430 tokens/s with both cores bound, 260 with the
default.
"""

import os
from pathlib import Path
from typing import Any

import orjson
import psutil


def cores_of(replica: int, replicas: int, cores: int | None = None) -> list[int]:
    """Return the cores of one replica: `cores` of those this process may use, or an even share of them."""
    usable = sorted(os.sched_getaffinity(0))
    size = cores or max(1, len(usable) // replicas)
    start = (replica * size) % len(usable)
    return sorted(usable[(start + i) % len(usable)] for i in range(min(size, len(usable))))


def kv_bytes(model: str, args: dict[str, Any], replicas: int, gib: float | None = None) -> int:
    """Return the bytes of one replica's KV cache: `gib`, or twice what all sequences take at full length.

    Twice, so that shared prefixes stay cached; but at most a quarter of the replica's share of the free
    memory, and 8 GiB: vLLM writes all of it at the start, at about 2.5 s per GiB. A model without a
    config.json gets that maximum.
    """
    if gib:
        return int(gib * 2**30)
    most = int(min(8.0, max(1.0, psutil.virtual_memory().available / 2**30 / replicas / 4)) * 2**30)
    per_token = _kv_bytes_per_token(model, str(args.get("dtype", "")))
    tokens = int(args.get("max_num_seqs", 0)) * int(args.get("max_model_len") or 0)
    return min(most, max(2 * per_token * tokens, 2**28)) if per_token and tokens else most


def sizes(model: str) -> dict[str, Any]:
    """Return the config.json of a model's folder; {} without one (a Hub id)."""
    path = Path(model, "config.json")
    return orjson.loads(path.read_bytes()) if path.is_file() else {}


def _kv_bytes_per_token(model: str, dtype: str) -> int:
    """Return the bytes of one token's keys and values in all layers; 0 if config.json does not tell."""
    config = sizes(model)
    try:
        heads = config["num_attention_heads"]
        width = (config.get("num_key_value_heads") or heads) * (
            config.get("head_dim") or config["hidden_size"] // heads
        )
        return 2 * config["num_hidden_layers"] * width * (4 if dtype == "float32" else 2)
    except (KeyError, TypeError):
        return 0


def environment(replica: int, replicas: int, cores: int | None, one_process: bool) -> dict[str, str]:
    """Return the environment of a CPU engine, to be set before its processes start.

    `one_process`: scheduler and model share a process, which saves an import of vLLM at the start and a
    message per step. On a CPU, vLLM does that only with multiprocessing off, and then leaves OpenMP's
    variables to us.
    """
    cpus = ",".join(map(str, cores_of(replica, replicas, cores)))
    variables = {"OMP_NUM_THREADS": str(cpus.count(",") + 1), "VLLM_CPU_OMP_THREADS_BIND": cpus}
    alone = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_PLACES": f"{{{cpus}}}", "OMP_PROC_BIND": "true"}
    return variables | alone if one_process else variables


def engine_args(args: dict[str, Any]) -> dict[str, Any]:
    """Return AsyncEngineArgs with the defaults that pay off on a CPU; `args` override them.

    torch.compile costs 190 s at the start and gains nothing. bf16 is twice as fast as fp32 on CPUs with
    instructions for it, and a fifth as fast on others (29 against 152 tokens/s on AVX2). The prefix cache
    works in whole blocks, and few prompts fill one of vLLM's default for CPUs, 128 tokens; with 32 the
    samples of a request share its prompt.
    """
    dtype = "bfloat16" if computes_bf16() else "float32"
    return {"enforce_eager": True, "dtype": dtype, "block_size": 32, "max_num_seqs": 64, **args}


def computes_bf16() -> bool:
    """Whether this CPU has instructions to multiply bf16 numbers (AVX512-BF16 or AMX)."""
    import torch

    flags = torch.cpu.get_capabilities()
    return bool(flags.get("amx_bf16") or flags.get("avx512_bf16"))


def without_gpu() -> bool:
    """Whether this process sees no GPU, found out without initializing CUDA."""
    import torch

    return not torch.cuda.is_available()
