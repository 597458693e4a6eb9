"""Seconds of a hand-over, and whether a woken engine is what it was: python -m tests.gpu.engine WHAT FOLDER.

`sleeping` starts vLLM, asks for a canary's log-probabilities, puts the engine to sleep (level 1: weights to
main memory, the KV cache dropped), wakes it and asks again. `fresh` starts another and asks it, as a restart
does.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.gpu import made_up

CANARY = "The canary sings in the mine until the air is bad, and then it stops. " * 8


def main(what: str, folder: Path) -> None:
    model = made_up.model(folder)
    began = time.monotonic()
    from vllm import LLM

    settings: Any = {"max_model_len": 2048, "enable_prefix_caching": False}
    llm = LLM(model=str(model), enable_sleep_mode=what == "sleeping", **settings)
    before = canary(llm)
    print(f"  start to the first answer: {time.monotonic() - began:.1f} s", flush=True)
    stored = folder / "canary.json"
    if what == "fresh":
        for name, woken in json.loads(stored.read_text()).items():
            print(f"  canary, {name} against fresh: {difference(woken, before):.2e} at most", flush=True)
        return
    for turn in (1, 2):
        began = time.monotonic()
        llm.sleep(level=1)
        asleep = time.monotonic()
        free = free_gib()
        llm.wake_up()
        after = canary(llm)
        seconds = f"{asleep - began:.1f} s to sleep, {time.monotonic() - asleep:.1f} s to the next answer"
        print(f"  turn {turn}: {seconds}; {free:.1f} GiB free in between", flush=True)
        print(f"  canary, woken against before: {difference(after, before):.2e} at most", flush=True)
    stored.write_text(json.dumps({"before sleeping": before, "woken": after}))


def canary(llm: Any) -> list[float]:
    """Return the log-probability of each token of CANARY but the first."""
    from vllm import SamplingParams

    settings = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0)
    done = llm.generate([CANARY], settings, use_tqdm=False)[0]
    ids = done.prompt_token_ids[1:]
    return [scores[i].logprob for i, scores in zip(ids, done.prompt_logprobs[1:], strict=True)]


def difference(one: list[float], other: list[float]) -> float:
    """Return the largest difference of two log-probabilities of one token."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def free_gib() -> float:
    """Return the GPU's free memory."""
    import torch

    return torch.cuda.mem_get_info()[0] / 2**30


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
