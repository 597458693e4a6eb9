"""Where selfloop's own files are: at the top of a checkout (editable installs included), or inside an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "_shipped"  # setup.py puts it into wheels only

PROJECT = _PACKAGE.parent  # the checkout, or site-packages
CHECKOUT = not _SHIPPED.is_dir()
PROMPTS = (PROJECT if CHECKOUT else _SHIPPED) / "prompts"
RECIPES = PROJECT / "jobs" / "recipes"


def data(path: str | Path) -> Path:
    """Return where a shipped file lies that recipes call `path`, such as "data/guidelines.jsonl"; it need not exist."""
    return (PROJECT if CHECKOUT else _SHIPPED) / path
