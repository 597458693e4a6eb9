"""Base of all sections of a recipe. The docstring under a setting says what it means."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
