"""Where selfloop's own files are: in a checkout (editable installs included), or in an installed wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "_shipped"  # setup.py puts it into wheels only

PROJECT = _PACKAGE.parent  # the checkout, or site-packages
CHECKOUT = not _SHIPPED.is_dir()
PROMPTS = (PROJECT if CHECKOUT else _SHIPPED) / "prompts"
RECIPES = PROJECT / "jobs" / "recipes"
ARENAS = PROJECT / "jobs" / "arenas"


def data(path: str | Path) -> Path:
    """Return the place of a shipped file, such as "data/guidelines.jsonl"; it need not exist."""
    return (PROJECT if CHECKOUT else _SHIPPED) / path
