"""The Rich consoles: results go to stdout, progress and errors to stderr."""

import sys

from rich.console import Console

# A file or `ray job logs` has no width of its own: 150 columns hold the table over rounds.
console = Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else 150)
progress = Console(
    stderr=True, highlight=False, emoji=False, soft_wrap=True, width=None if sys.stderr.isatty() else 150
)
