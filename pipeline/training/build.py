"""From a training's config to one of TRL's trainers, its data prepared and checked."""

from typing import Any

import datasets
import torch
from transformers import AutoModelForCausalLM, PrinterCallback
from transformers.utils.logging import disable_progress_bar
from trl.trainer import utils

from pipeline.chat.template import load_tokenizer
from pipeline.errors import StageError
from pipeline.publish.dataset import SPLIT, column
from pipeline.publish.kinds import DPO, KINDS, KTO, SFT, Kind
from pipeline.training.arguments import wants_bf16, wants_bf16_weights
from pipeline.training.checkpoints import MarkComplete
from pipeline.training.dpo import LengthGroupedDPOTrainer, dpo_trainer
from pipeline.training.kto import UnpairedTrainer, kto_trainer
from pipeline.training.progress import ProgressWriter
from pipeline.training.sft import LengthGroupedSFTTrainer, sft_trainer

_TRAINERS = {SFT.command: sft_trainer, DPO.command: dpo_trainer, KTO.command: kto_trainer}


def build_trainer(
    config: dict[str, Any],
) -> LengthGroupedSFTTrainer | LengthGroupedDPOTrainer | UnpairedTrainer:
    """Return the trainer for `config` (see pipeline.training.process), its data prepared and checked."""
    # Otherwise `datasets` puts its cache files into the published folders themselves.
    datasets.disable_caching()
    datasets.disable_progress_bars()
    disable_progress_bar()
    arguments, kind = config["arguments"], KINDS[config["kind"]]
    bf16 = wants_bf16(config["precision"], not arguments["use_cpu"])
    if bf16:
        # TRL multiplies the output layer's bf16 as fp32; bf16 units do so exactly, 2 to 4 times faster.
        torch.set_float32_matmul_precision("medium")
    if arguments["use_cpu"]:
        _score_only_completions()
    tokenizer = load_tokenizer(config["model"], config.get("chat_template", ""), config["trust_remote_code"])
    model, lora = load_model(config)
    parts = [datasets.load_from_disk(folder)[SPLIT] for folder in config["datasets"]]
    data = datasets.concatenate_datasets(parts)
    trainer: Any = _TRAINERS[kind.command](
        config,
        {**arguments, "bf16": bf16},
        model=model,
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[ProgressWriter(config["progress"]), MarkComplete()],
    )
    trainer.remove_callback(PrinterCallback)
    _check_nothing_cut(data, trainer, kind)
    return trainer


def load_model(config: dict[str, Any]) -> tuple[Any, Any]:
    """Return the model to train, and the LoraConfig of a new adapter, if it is to get one."""
    bf16 = wants_bf16(config["precision"], not config["arguments"]["use_cpu"])
    adapters = bool(config["lora"] or config.get("adapter"))
    half = wants_bf16_weights(config["precision"], bf16, adapters)  # adapters are fp32: PEFT's default
    model = AutoModelForCausalLM.from_pretrained(
        config["model"],
        dtype=torch.bfloat16 if half else torch.float32,
        use_safetensors=True,
        trust_remote_code=config["trust_remote_code"],
        attn_implementation=config.get("attention"),
    )
    if config.get("adapter"):
        from peft import PeftModel

        return PeftModel.from_pretrained(model, config["adapter"], is_trainable=True), None
    return model, _lora(config["lora"])


def gathered_model(config: dict[str, Any], trainer: Any) -> Any:
    """Return the whole trained model in main memory, in the first of the workers that share it; None in the
    others. All have to call it.
    """
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if not trainer.is_world_process_zero():
        return None
    model, lora = load_model(config)
    if lora is not None:
        from peft import get_peft_model

        model = get_peft_model(model, lora)
    model.load_state_dict(weights)
    own, trained = (m.get_base_model() if hasattr(m, "peft_config") else m for m in (model, trainer.model))
    own.config, own.generation_config = trained.config, trained.generation_config
    return model


def _score_only_completions() -> None:
    """Let TRL compute logits only where there is loss, on the CPU as on GPUs. The loss is the same.

    Without Triton, TRL 1.16 scores every position, including prompts, for compilers that need fixed shapes.
    On a CPU the output layer of a small model then takes a quarter of a step (tests/benchmarks/training.py).
    """
    choose = getattr(utils, "_use_triton", None)  # private to TRL: without it training is slower, not wrong
    if choose is not None and not hasattr(choose, "on_cpu"):

        def compact(device: torch.device) -> bool:
            return device.type == "cpu" or choose(device)

        compact.on_cpu = choose  # type: ignore[attr-defined]
        utils._use_triton = compact


def _check_nothing_cut(data: datasets.Dataset, trainer: Any, kind: Kind) -> None:
    """Raise StageError unless TRL kept every token of the data, within max_length: it truncates silently."""
    published = sum(int(column(data, name).sum()) for name in kind.counts.values())
    limit = trainer.args.max_length
    if trainer.prepared_tokens != published or (limit is not None and trainer.lengths.max() > limit):
        raise StageError(
            f"TRL prepared {trainer.prepared_tokens} of {published} published tokens (max_length {limit}): "
            "it would cut examples, or the tokens were counted with another tokenizer or chat template. "
            "Publish the data again with this model's tokenizer."
        )


def _lora(settings: dict[str, Any] | None) -> Any:
    if settings is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings["r"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=settings["target_modules"],
        task_type="CAUSAL_LM",
    )
