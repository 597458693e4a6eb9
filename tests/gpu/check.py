"""What only a GPU shows, each part in a process of its own: python -m tests.gpu.check [--without-vllm].

Prints figures; nothing is compared with a threshold. Without a GPU it trains a tiny model on the CPU, leaves
out what cannot run there, and says so.
"""

import os
import subprocess
import sys
import tempfile
import time

from pipeline.checks.machine import gpus
from pipeline.places import PROJECT

SECONDS = 590  # for all parts
ENGINE = {
    "engine: put to sleep and woken": ["tests.gpu.engine", "sleeping"],
    "engine: a fresh one": ["tests.gpu.engine", "fresh"],
    "generation: the pipeline against vLLM alone": ["tests.benchmarks.overhead", "vllm"],
}


def main() -> int:
    """Run the parts and return how many failed."""
    found, until, failed = gpus(), time.monotonic() + SECONDS, 0
    print(f"GPUs: {', '.join(gpu.name for gpu in found) or 'none; a tiny model on the CPU'}", flush=True)
    parts = {"training": ["tests.gpu.training"]}
    if "--without-vllm" in sys.argv[1:]:
        print("skipped, --without-vllm: hand-over, waking against a fresh engine, generation", flush=True)
    elif not found:
        print("skipped, without a GPU: hand-over, waking against a fresh engine, generation", flush=True)
    else:
        parts = ENGINE | parts
    parts = {"random weights": ["tests.gpu.made_up"]} | parts
    with tempfile.TemporaryDirectory() as folder:
        for name, (module, *arguments) in parts.items():
            print(f"\n{name}", flush=True)
            where = [folder] if module.startswith("tests.gpu.") else []
            command = [sys.executable, "-m", module, *arguments, *where]
            environment = {**os.environ, "TQDM_DISABLE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
            try:
                left = max(1.0, until - time.monotonic())
                failed += bool(subprocess.run(command, cwd=PROJECT, env=environment, timeout=left).returncode)
            except subprocess.TimeoutExpired:
                print(f"stopped: the {SECONDS} s for all parts are over", flush=True)
                failed += 1
    print(f"\n{failed} of {len(parts)} parts failed" if failed else "\nall parts ran", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
