"""The Rich console that everything prints to."""

import sys

from rich.console import Console

# A file or `ray job logs` has no width of its own: 150 columns hold the table over rounds.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 150)
