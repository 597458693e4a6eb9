"""Training on machines without a GPU."""

from trl.trainer import utils


def score_only_completions() -> None:
    """Let TRL compute logits only where there is loss, on the CPU as on GPUs. The loss is the same.

    On devices without Triton, TRL 1.16 scores every position, including prompts, for the sake of compilers
    that need fixed shapes. On a CPU the output layer of a small model then takes a quarter of a step
    (tests/benchmarks/training.py).
    """
    choose = getattr(utils, "_use_triton", None)  # private to TRL: without it training is slower, not wrong
    if choose is not None and not hasattr(choose, "on_cpu"):

        def compact(device: object) -> bool:
            return device.type == "cpu" or choose(device)

        compact.on_cpu = choose
        utils._use_triton = compact
