"""Names to things, and helpful errors."""

import pytest

from pipeline import registry
from pipeline.errors import ConfigError


def test_a_registered_name_is_imported_when_asked_for() -> None:
    from stages.methods.direct.method import Direct

    assert registry.resolve("method", "direct") is Direct
    assert "direct" in registry.names("method")


def test_module_and_attribute() -> None:
    assert registry.resolve("verifier", "math:sqrt")(4) == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("direkt", "unknown method 'direkt'. Did you mean 'direct'?"),
        ("no_such_module:thing", "points at 'no_such_module:thing', which cannot be imported"),
        ("math:no_such", "cannot be imported"),
        ("tests.breaks_on_import:thing", "RuntimeError: broken"),
        ("..above:thing", "cannot be imported"),
        ("xyzzy", "or your own as 'module:Name'"),
    ],
)
def test_what_is_wrong_is_said(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match="method") as e:
        registry.resolve("method", name)
    assert said in str(e.value)
