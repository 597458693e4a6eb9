"""Methods of the user's own that are none: what is missing is said by name."""

from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.methods import Method, Options
from stages.methods.direct.method import Direct
from tests.conftest import tiny_recipe


class Unfinished(Method):
    """A method of the user's own that lacks most of it."""

    name = "unfinished"
    Options = Options

    def question(self, row: Any) -> Any:
        return []


class Nameless(Direct):
    """A method without a name of its own, by mistake."""

    name = None


class Misnamed(Direct):
    """A method whose name cannot be a folder's."""

    name = "my method/2"


class Failing(Direct):
    """A method that cannot be made."""

    Options = Options
    name = "failing"

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        self.missing["key"] = 1


class NotAMethod:
    """It has options, which are no class of options."""

    Options = 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tests.config.test_own_method:Unfinished", "does not define examples, stages"),
        ("tests.config.test_own_method:NotAMethod", "expected a subclass of pipeline.methods.Method"),
        ("tests.config.test_own_method:Nameless", "class Nameless has no `name`; expected a line such as"),
        ("tests.config.test_own_method:Misnamed", "class Misnamed has the name 'my method/2'"),
        (
            "tests.config.test_own_method:Failing",
            r"__init__ raises AttributeError: .*'missing' \(.*test_own_method.py:",
        ),
        ("math:sqrt", "expected a subclass of pipeline.methods.Method"),
    ],
)
def test_a_method_of_one_s_own_that_is_none_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tiny_recipe(method={"name": name})
