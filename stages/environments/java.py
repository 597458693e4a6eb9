"""Environments that run in a Java process: what they need, and how their process ends."""

import importlib.util
import shutil
import subprocess

from pipeline.errors import ConfigError

_SECONDS = 5.0  # a process has to end by itself


def require(module: str, extra: str) -> None:
    """Raise ConfigError, saying how to install what is missing, unless the package `module` and Java are there."""
    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"environment {extra}: its package is not installed; install it with: pip install 'selfloop[{extra}]'")
    if shutil.which("java") is None:
        raise ConfigError(
            f"environment {extra}: there is no java on the PATH. It needs Java 8 or later, such as Debian's default-jre-headless "
            "(apt-get install default-jre-headless)."
        )


def end(process: "subprocess.Popen[bytes]") -> None:
    """Wait for a process that was told to end, and end it if it does not."""
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
