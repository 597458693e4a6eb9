"""What would stop a training when it starts, found before anything is generated for it."""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable

from pipeline.config import Train
from pipeline.config.training import SCHEDULERS
from pipeline.errors import ConfigError, suggest
from pipeline.models import ModelRef
from pipeline.publish.accumulate import Mixture
from pipeline.publish.kinds import SFT, Kind
from pipeline.training.arguments import trainer_arguments
from pipeline.training.spec import TrainSpec
from pipeline.training.workers import check_shares, cluster_gpus

_NEED_SETTINGS = ("cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay")
# The module and the package of attentions that torch does not have.
_PACKAGES = {
    "flash_attention_2": ("flash_attn", "flash-attn"),
    "flash_attention_3": ("flash_attn_interface", "flash-attn-3"),
}
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


def check_training(
    train: Train,
    kinds: Iterable[Kind],
    model: Callable[[], ModelRef] | None,
    trust_remote_code: bool,
    address: str | None = None,
) -> None:
    """Raise ConfigError for settings with which a training of one of `kinds` from `model` would fail to
    start, or would not do what it says. `model` is called only if it matters; None: it is not looked at.
    `address` is the cluster's, whose GPUs are counted.
    """
    gpus = cluster_gpus(address) if train.workers == "auto" or train.attention or train.liger else ()
    train = check_shares(train, gpus)
    gpu = bool(gpus) and train.gpus_per_worker != 0
    _check_attention(train, gpu)
    if train.liger:
        _check_liger(gpu, model, trust_remote_code)
    for kind in kinds:
        spec = TrainSpec(ModelRef("", "", ""), "", "", Mixture(()), train, 0, kind=kind)
        trainer_arguments(spec, 1, use_gpu=False, bf16=False)
        _check_names(spec)
        if model and kind.command == SFT.command and not kind.blocks:
            for key, joined in (("packing", train.packing), ("extra.padding_free", _padding_free(train))):
                if joined:
                    _check_apart(f"train.{key}", model(), trust_remote_code)


def _check_names(spec: TrainSpec) -> None:
    """Ask transformers about an optimizer's name, and about a scheduler's own settings."""
    section, extra = spec.key, spec.settings.extra
    if (optimizer := extra.get("optim")) is not None:
        from transformers.training_args import OptimizerNames

        if optimizer not in (known := [str(name.value) for name in OptimizerNames]):
            hint = suggest(str(optimizer), known)
            raise ConfigError(f"{section}.extra.optim: unknown optimizer {optimizer!r}.{hint}")
    name, settings = spec.settings.lr_scheduler_type, extra.get("lr_scheduler_kwargs")
    if name in SCHEDULERS and (settings or name in _NEED_SETTINGS):
        import torch
        from transformers import get_scheduler

        some = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=spec.rate[0])
        try:
            get_scheduler(name, some, 1, 10, scheduler_specific_kwargs=settings or {})
        except (TypeError, ValueError, AttributeError) as e:
            raise ConfigError(
                f"train.lr_scheduler_type: {name}: {e}. Its settings belong into "
                f"{section}.extra.lr_scheduler_kwargs."
            ) from None


def _check_attention(train: Train, gpu: bool) -> None:
    """Raise ConfigError for an attention whose package or GPU is not there."""
    name, package = train.attention, _PACKAGES.get(train.attention or "")
    if not name or name in ("sdpa", "eager"):
        return
    why = "needs a GPU, and the training has none"
    if gpu and package and not importlib.util.find_spec(package[0]):
        why = f"needs the package {package[1]}, which is not installed"
    elif gpu and package and train.precision == "fp32":
        why = "computes in bf16 alone, and train.precision is fp32"
    elif gpu:
        return
    raise ConfigError(f"train.attention: {name} {why}. Use sdpa, or null.")


def _check_liger(gpu: bool, model: Callable[[], ModelRef] | None, trust_remote_code: bool) -> None:
    """Raise ConfigError where Liger's kernels cannot run, or know nothing of the model and would be left out
    without a word.
    """
    why = ""
    if not gpu:
        why = "needs a GPU, and the training has none"
    elif not importlib.util.find_spec("liger_kernel"):
        why = "needs the package liger-kernel, which is not installed"
    elif model:
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(model().path, trust_remote_code=trust_remote_code)
        if config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
            why = f"has no kernels for a {config.model_type} model"
    if why:
        raise ConfigError(f"train.liger: {why}. Set train.liger: false.")


def _padding_free(train: Train) -> bool:
    return bool(train.extra.get("padding_free"))


def _check_apart(key: str, model: ModelRef, trust_remote_code: bool) -> None:
    """Raise ConfigError for a model whose texts would see each other in one sequence (packing, padding_free).

    TRL flattens the texts and restarts their position ids. transformers' attention masks
    (masking_utils) then keep them apart, with any attention implementation; layers that are no attention, and
    models with code of their own, do not.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    config = AutoConfig.from_pretrained(model.path, trust_remote_code=trust_remote_code)
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    made = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)] if known else None
    masked = made and hasattr(sys.modules[made.__module__], "create_causal_mask")
    placed = made and "position_ids" in inspect.signature(made.forward).parameters
    others = set(getattr(config, "layer_types", None) or ()) - _ATTENTION
    if not (masked and placed) or others:
        raise ConfigError(
            f"{key}: the texts in one sequence would see each other in a {config.model_type} model, whose "
            f"layers do not keep them apart. Set {key}: false."
        )
