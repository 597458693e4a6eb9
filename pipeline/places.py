"""Where selfloop's own files are: the checkout it runs from, or the folder it is installed in."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
