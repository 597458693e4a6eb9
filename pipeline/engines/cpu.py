"""What vLLM needs to be told on a machine without a GPU, worked out from the machine.

Ray sets OMP_NUM_THREADS to an actor's num_cpus (1 when unset), which starves vLLM and torch; vLLM's own default reserves a
core. Measured on 2 cores with SmolLM2-135M: 430 tokens/s with both cores bound, 260 with the default.
"""

import os
from typing import Any

import psutil


def cores_of(replica: int, replicas: int, cores: int | None = None) -> list[int]:
    """Return the cores of one replica: an even share of those this process may use, or `cores` of them."""
    usable = sorted(os.sched_getaffinity(0))
    size = cores or max(1, len(usable) // replicas)
    start = (replica * size) % len(usable)
    return sorted(usable[(start + i) % len(usable)] for i in range(min(size, len(usable))))


def kv_gib(replicas: int, asked: float | None = None) -> float:
    """Return GiB for the KV cache of one replica: `asked`, or a quarter of the free memory's share, 1 to 8."""
    return asked or min(8.0, max(1.0, psutil.virtual_memory().available / 2**30 / replicas / 4))


def environment(replica: int, replicas: int, cores: int | None, kv: float | None) -> dict[str, str]:
    """Return the environment of a CPU engine. It must be set before torch is imported."""
    mine = cores_of(replica, replicas, cores)
    return {
        "OMP_NUM_THREADS": str(len(mine)),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, mine)),
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, int(kv_gib(replicas, kv)))),
    }


def engine_args(args: dict[str, Any]) -> dict[str, Any]:
    """Return AsyncEngineArgs with the defaults that pay on a CPU, unless `args` says otherwise.

    torch.compile costs 190 s at start and gains nothing. Where the CPU has instructions for it, bf16 is twice as fast as fp32;
    where it has not, a fifth as fast (29 against 152 tokens/s on AVX2). The prefix cache works in whole blocks, and in vLLM's
    default for CPUs, 128 tokens, few prompts fill one: with 32 the samples of one request share their prompt.
    """
    return {"enforce_eager": True, "dtype": "bfloat16" if computes_bf16() else "float32", "block_size": 32, "max_num_seqs": 64, **args}


def computes_bf16() -> bool:
    """Tell whether this CPU has instructions that multiply bf16 numbers (AVX512-BF16 or AMX)."""
    import torch

    flags = torch.cpu.get_capabilities()
    return bool(flags.get("amx_bf16") or flags.get("avx512_bf16"))


def without_gpu() -> bool:
    """Tell whether this process sees no GPU, without initialising CUDA in it."""
    import torch

    return not torch.cuda.is_available()
