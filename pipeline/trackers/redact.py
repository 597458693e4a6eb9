"""A recipe as a tracker or a card may show it: without secrets, and without the texts of prompts."""

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

SECRET = re.compile(r"key|token|secret|signature|auth|passw|credential|cookie", re.IGNORECASE)
HIDDEN, LONGEST = "(hidden)", 500  # characters of a text


def redacted(value: Any, key: str = "") -> Any:
    """Return JSON without texts under keys that sound secret, without users and queries of URLs, and without
    the ends of long texts. Names of environment variables (`*_env`) stay.
    """
    if isinstance(value, dict):
        return {name: redacted(inner, f"{name}") for name, inner in value.items()}
    if isinstance(value, list):
        return [redacted(inner, key) for inner in value]
    if not isinstance(value, str):
        return value
    if SECRET.search(key) and not key.endswith("_env"):
        return HIDDEN
    if "://" in value:
        return re.sub(r"\S+://\S+", lambda m: _without_query(m[0]), value)
    return value if len(value) <= LONGEST else f"{value[:LONGEST]} ..."


def _without_query(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
