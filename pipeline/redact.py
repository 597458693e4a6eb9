"""A recipe as a tracker or a card may show it: without secrets."""

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

SECRET = re.compile(r"key|token|secret|signature|auth|passw|credential|cookie", re.IGNORECASE)
HIDDEN, LONGEST = "(hidden)", 500  # characters of a text


def redacted(value: Any, key: str = "", folders: bool = True, longest: int | None = LONGEST) -> Any:
    """Return JSON without texts under keys that sound secret, without users and queries of URLs, and without
    the ends of texts beyond `longest` characters. Names of environment variables (`*_env`) stay. Without
    `folders`, only the name of an absolute path does.
    """
    if isinstance(value, dict):
        return {name: redacted(inner, f"{name}", folders, longest) for name, inner in value.items()}
    if isinstance(value, list):
        return [redacted(inner, key, folders, longest) for inner in value]
    if not isinstance(value, str):
        return value
    if SECRET.search(key) and not key.endswith("_env"):
        return HIDDEN
    if "://" in value:
        return re.sub(r"\S+://\S+", lambda m: _without_query(m[0]), value)
    if not folders and re.fullmatch(r"[/~]\S*", value):
        return value.rstrip("/").rsplit("/", 1)[-1]
    return value if longest is None or len(value) <= longest else f"{value[:longest]} ..."


def _without_query(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
