"""The recipe's section `track`."""

from pydantic import Field, field_validator

from pipeline.config.section import Section

TRACKERS = ("trackio", "wandb", "tensorboard", "mlflow")


class Track(Section):
    """Trackers that show the run while it goes on. Nothing here changes a result, and all of it may change
    when a run is resumed."""

    to: list[str] = Field(default_factory=list)
    """Any of trackio, wandb, tensorboard and mlflow, or your own as `module:Class`."""
    project: str = Field("selfloop", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The project (mlflow: experiment) that the run appears in."""

    @field_validator("to")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in TRACKERS and ":" not in name:
                raise ValueError(f"{name!r} is no tracker; expected {', '.join(TRACKERS)} or module:Class")
        return list(dict.fromkeys(names))
