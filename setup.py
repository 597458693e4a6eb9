"""Puts the prompts and the recipes' data into wheels, as pipeline/_shipped; all else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = (("prompts", "**/*.jinja"), ("data", "**/*.jsonl"), ("data", "**/*.txt"), ("data", "README.md"))


class BuildPy(build_py):
    """Copy what lies outside the packages; an editable install reads it from the checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for path in _shipped():
            target = Path(self.build_lib, "pipeline", "_shipped", path)
            self.mkpath(str(target.parent))
            self.copy_file(path, str(target))

    def get_source_files(self) -> list[str]:
        """List these files for sdists too, so that wheels can be built from them."""
        return [*super().get_source_files(), *_shipped()]


def _shipped() -> list[str]:
    files = {path for folder, pattern in SHIPPED for path in Path(folder).glob(pattern)}
    return sorted(str(path) for path in files if path.parts[:2] != ("data", "runs"))


setup(cmdclass={"build_py": BuildPy})
