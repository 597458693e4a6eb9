"""Tokens/s of training on this machine, setting by setting, in one run; each setting in a process of its own.

    python -m tests.benchmarks.training            (about 4 minutes on 2 cores)
    python -m tests.benchmarks.training long       (about 5; needs 16 GiB)
    python -m tests.benchmarks.training varied     (about 4; texts of which hardly two are equally long)

Prints each setting's tokens/s, its ratio to the first one, and the process's peak of memory.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.engines.cpu import computes_bf16
from pipeline.places import PROJECT
from pipeline.training.launch import CPU_ENVIRONMENT

STEPS, WARM = 10, 3  # WARM steps are not counted
FAST = {"precision": "auto"}  # what a run does by itself
NO_ALLOCATOR = [name for name in CPU_ENVIRONMENT if name.startswith("MALLOC")]
SETTINGS: dict[str, dict[str, Any]] = {
    "as a run trains": FAST,
    "without the allocator keeping memory": {**FAST, "without": NO_ALLOCATOR},
    "with logits at every position, as TRL has it": {**FAST, "every_position": True},
    "with eager attention": {**FAST, "attention": "eager"},
    "with passive OpenMP waits": {**FAST, "environment": {"OMP_WAIT_POLICY": "PASSIVE"}},
    "LoRA r=16": {**FAST, "lora": True},
    "fp32 throughout": {**FAST, "precision": "fp32"},
    "fp32 weights, bf16 autocast": {**FAST, "precision": "bf16_autocast"},
    "bf16 weights (loses small updates)": {**FAST, "precision": "bf16"},
}
LONG: dict[str, dict[str, Any]] = {  # 16 texts of some 250 to 1,000 tokens, 4 to a step
    "long texts, as a run trains": {**FAST, "long": True},
    "long texts, a whole batch at once": {**FAST, "long": True, "at_once": 4},
}
VARIED: dict[str, dict[str, Any]] = {
    "varied texts, as a run trains": {**FAST, "varied": True},
    "varied texts, oneDNN keeping 1,024 primitives": {
        **FAST,
        "varied": True,
        "without": ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"],
    },
}
GROUPS = {"long": LONG, "varied": VARIED}


def measure(setting: dict[str, Any]) -> tuple[float, float]:
    """Train the packaged model for a few steps on demonstrations; return tokens/s and the peak in GiB."""
    import torch
    from transformers import AutoTokenizer, TrainerCallback
    from trl.trainer import utils

    from pipeline.config import Accumulate, Lora, Train
    from pipeline.models import PACKAGED, resolve_model
    from pipeline.publish import SFT, CardFacts, Lineage, measure, mixture
    from pipeline.publish.dataset import publish
    from pipeline.training import TrainSpec
    from pipeline.training.arguments import trainer_arguments, wants_bf16
    from pipeline.training.build import build_trainer

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = resolve_model(PACKAGED)
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            json.loads(line)
            for line in (PROJECT / "data/addition/demonstrations.jsonl").read_text().splitlines()
        ]
        if setting.get("long"):
            lines = [
                {"question": "Count.", "answer": " ".join(f"number {k}" for k in range(75 + 17 * i))}
                for i in range(16)
            ]
        if setting.get("varied"):
            text = (PROJECT / "data/dictionary/definitions.jsonl").read_text()
            lines = [
                {"question": d["question"], "answer": d["solution"]}
                for d in map(json.loads, text.splitlines())
            ]
        rows = (
            SFT.row(
                Lineage(
                    row_id=str(i),
                    parent_ids=[],
                    task_id=str(i),
                    kind="real",
                    round=0,
                    method="demonstration",
                ),
                prompt=[{"role": "user", "content": d["question"]}],
                completion=[{"role": "assistant", "content": f"Answer: {d['answer']}"}],
            )
            for i, d in enumerate(lines)
        )
        publish(
            measure(rows, AutoTokenizer.from_pretrained(model.path)),
            f"{folder}/data",
            CardFacts("benchmark", "", "", 0),
            0,
        )
        size = (
            {"batch_size": 4, "max_length": 1408, "micro_batch_size": setting.get("at_once")}
            if setting.get("long")
            else {"batch_size": 8}
        )
        steps, warm = (5, 1) if setting.get("long") else (25 if setting.get("varied") else STEPS, WARM)
        train = Train(
            max_steps=steps,
            **size,
            precision=setting["precision"],
            lora=Lora() if setting.get("lora") else None,
        )
        spec = TrainSpec(
            model, f"{folder}/out", folder, mixture(Accumulate(), 0, {0: f"{folder}/data"}), train, 0
        )
        arguments = {
            **trainer_arguments(spec, len(lines), False, wants_bf16(setting["precision"], False)),
            "save_strategy": "no",
        }
        trainer = build_trainer(
            {
                "kind": "sft",
                "model": model.path,
                "trust_remote_code": False,
                "datasets": [f"{folder}/data"],
                "arguments": arguments,
                "lora": train.lora.model_dump() if train.lora else None,
                "precision": setting["precision"],
                "progress": f"{folder}/progress",
            }
        )
        if setting.get("every_position"):
            utils._use_triton = utils._use_triton.on_cpu
        trainer.model.set_attn_implementation(setting.get("attention", "sdpa"))
        seen: list[tuple[float, float]] = []

        class Clock(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                seen.append((time.monotonic(), trainer._total_train_tokens))

        trainer.add_callback(Clock())
        trainer.train()
        (began, before), (ended, after) = seen[warm - 1], seen[-1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return (after - before) / (ended - began), peak


def main() -> None:
    if sys.argv[1:2] == ["--json"]:
        print(json.dumps(measure(json.loads(sys.argv[2]))))
        return
    first = None
    for name, setting in GROUPS.get((sys.argv[1:2] or [""])[0], SETTINGS).items():
        if setting["precision"].startswith("bf16") and not computes_bf16():
            print(
                f"{name:48} left out: this CPU has no bf16 instructions and takes many times as long",
                flush=True,
            )
            continue
        own = {k: v for k, v in CPU_ENVIRONMENT.items() if k not in setting.get("without", ())}
        environment = {**os.environ, **own, **setting.get("environment", {}), "TQDM_DISABLE": "1"}
        command = [sys.executable, "-m", "tests.benchmarks.training", "--json", json.dumps(setting)]
        done = subprocess.run(command, env=environment, cwd=Path(PROJECT), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        rate, peak = json.loads(done.stdout.strip().splitlines()[-1])
        first = first or rate
        print(f"{name:48} {rate:6.0f} tokens/s  {rate / first:.2f}  {peak:.1f} GiB", flush=True)


if __name__ == "__main__":
    main()
