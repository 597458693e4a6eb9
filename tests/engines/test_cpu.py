"""What a CPU engine is told, worked out from the model and the machine."""

import json
from pathlib import Path

import pytest

from pipeline.engines import cpu

LLAMA = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}


def model(folder: Path, config: dict) -> str:
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_the_kv_cache_holds_twice_all_sequences_at_their_longest(tmp_path: Path) -> None:
    """30 layers x keys and values x 3 heads x 64 x 4 bytes = 46,080 bytes a token."""
    args = {"max_num_seqs": 64, "max_model_len": 128, "dtype": "float32"}
    assert cpu.kv_bytes(model(tmp_path, LLAMA), args, 1) == 2 * 46_080 * 64 * 128
    assert cpu.kv_bytes(model(tmp_path, LLAMA), {**args, "dtype": "bfloat16"}, 1) == 46_080 * 64 * 128
    assert cpu.kv_bytes(model(tmp_path, {**LLAMA, "head_dim": 128}), args, 1) == 4 * 46_080 * 64 * 128


def test_it_is_bounded_by_memory_and_by_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 16 * 2**30}))
    long = {"max_num_seqs": 256, "max_model_len": 8192, "dtype": "float32"}
    folder = model(tmp_path, LLAMA)
    assert cpu.kv_bytes(folder, long, 1) == 4 * 2**30 and cpu.kv_bytes(folder, long, 2) == 2 * 2**30
    assert cpu.kv_bytes(folder, long, 1, gib=0.5) == 2**29
    # Neither a model that does not tell its sizes nor a length that is the model's own can be worked out.
    assert cpu.kv_bytes("org/name", long, 1) == cpu.kv_bytes(folder, {"max_num_seqs": 256}, 1) == 4 * 2**30
    assert cpu.kv_bytes(model(tmp_path, {"model_type": "other"}), long, 1) == 4 * 2**30


@pytest.mark.parametrize("one_process", [True, False])
def test_openmp_is_told_the_cores(one_process: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: {4, 5, 6, 7})
    found = cpu.environment(1, 2, None, one_process)
    assert found["OMP_NUM_THREADS"] == "2" and found["VLLM_CPU_OMP_THREADS_BIND"] == "6,7"
    assert found.get("OMP_PLACES") == ("{6,7}" if one_process else None)
