"""Data inside of a page: compressed, in an alphabet in which nothing can end the element that holds it."""

import base64
import gzip
import hashlib
import json
from typing import Any

from pipeline.printable import printable


def packed(value: Any) -> str:
    """Return a JSON value, gzipped, as base64."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def source_hash(text: str) -> str:
    """Return how a content security policy allows exactly this inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def safe(text: Any, limit: int) -> str:
    """Return model text of at most `limit` characters, with control and reordering characters as escapes, and
    a note of what is missing.
    """
    text = str(text)
    left = len(text) - limit
    return printable(text[:limit]) + (f" … ({left:,} more characters)" if left > 0 else "")


def signed(share: float) -> str:
    """Return a difference of shares in points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")
