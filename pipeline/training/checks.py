"""What would stop a training when it starts, found before anything is generated for it."""

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

_NEED_SETTINGS = ("cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay")
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


def check_training(
    train: Train, kinds: Iterable[Kind], model: Callable[[], ModelRef] | None, trust_remote_code: bool
) -> None:
    """Raise ConfigError for settings with which a training of one of `kinds` from `model` would fail to
    start, or would not do what it says. `model` is called only if it matters; None: it is not looked at.
    """
    for key, problem in train.mistakes():
        raise ConfigError(f"{'.'.join(('train', *key))}: {problem}.")
    for kind in kinds:
        spec = TrainSpec(ModelRef("", "", ""), "", "", Mixture(()), train, 0, kind=kind)
        trainer_arguments(spec, 1, use_gpu=False, bf16=False)
        _check_names(spec)
        if model and train.packing and kind.command == SFT.command and not kind.blocks:
            _check_packing(model(), trust_remote_code)


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


def _check_packing(model: ModelRef, trust_remote_code: bool) -> None:
    """Raise ConfigError for a model whose texts would see each other in a packed sequence.

    TRL flattens packed texts and restarts their position ids (bfd packing). transformers' attention masks
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
            f"train.packing: the texts in a packed sequence would see each other in a {config.model_type} "
            "model, whose layers do not keep them apart. Set train.packing: false."
        )
