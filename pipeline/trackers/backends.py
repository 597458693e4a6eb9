"""The trackers: each is opened in a process of its own (follower.py) and told one point at a time."""

import importlib.util
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pipeline import registry
from pipeline.overview import TRAININGS
from pipeline.trackers.points import Point

# Tracker -> the package it needs.
PACKAGES = {"trackio": "trackio", "wandb": "wandb", "tensorboard": "tensorboardX", "mlflow": "mlflow"}


class Session(NamedTuple):
    """A run as a tracker sees it. The same run, resumed, has the same `id`."""

    project: str
    name: str
    id: str
    config: dict[str, Any]  # the recipe, without secrets
    folder: Path  # where a tracker may keep files
    memory: dict[str, Any]  # JSON that is kept for the next start


class Tracker(Protocol):
    """What a tracker does; `where` tells people where to look. Errors may be raised anywhere: the follower
    opens the tracker again later.
    """

    where: str

    def log(self, number: int, point: Point) -> None:
        """Log a point; `number` counts all points of the run from 0."""

    def close(self) -> None:
        """Return once everything is stored."""


class TensorBoard:
    """Event files in the run directory; trainings by optimizer step, all else by round."""

    def __init__(self, session: Session) -> None:
        from tensorboardX import SummaryWriter

        # Files are named by the second they were opened in: one of the same second would be overwritten.
        suffix = f".{uuid.uuid4().hex[:8]}"
        self._writer = SummaryWriter(str(session.folder / "tensorboard"), filename_suffix=suffix)
        if not session.memory.get("described"):
            import yaml

            text = yaml.safe_dump(session.config, sort_keys=False, allow_unicode=True)
            self._writer.add_text("recipe", "\n".join(f"    {line}" for line in text.splitlines()))
            session.memory["described"] = True
        self.where = f"tensorboard --logdir {session.folder / 'tensorboard'}"

    def log(self, number: int, point: Point) -> None:
        for name, value in point.metrics.items():
            self._writer.add_scalar(name, value, point.step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Trackio:
    """Trackio's local database, or the Space that TRACKIO_SPACE_ID names."""

    def __init__(self, session: Session) -> None:
        import trackio

        self._run = trackio.init(
            project=session.project,
            name=f"{session.name}-{session.id}",
            config=session.config,
            resume="allow",
            embed=False,
            auto_log_cpu=False,
        )
        self.where = f"trackio show --project {session.project}"

    def log(self, number: int, point: Point) -> None:
        self._run.log(_with_axes(point), step=number)

    def close(self) -> None:
        self._run.finish()


class Wandb:
    """Weights & Biases; WANDB_MODE=offline keeps everything in the run directory."""

    def __init__(self, session: Session) -> None:
        import wandb

        self._run = wandb.init(
            project=session.project,
            name=session.name,
            id=session.id,
            resume="allow",
            dir=str(session.folder),
            config=session.config,
            settings=wandb.Settings(console="off"),
        )
        for axis in ("round", "train/step", "train_sft/step"):
            self._run.define_metric(axis, hidden=True)
        self._run.define_metric("*", step_metric="round")
        for stage in ("train", "train_sft"):
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._run.define_metric(f"{stage}/round/*", step_metric="round")
        self.where = self._run.url or f"wandb sync {Path(self._run.dir).parent}"

    def log(self, number: int, point: Point) -> None:
        self._run.log(_with_axes(point), step=number)

    def close(self) -> None:
        self._run.finish()


class Mlflow:
    """MLflow's store, which MLFLOW_TRACKING_URI names; trainings by optimizer step, all else by round."""

    def __init__(self, session: Session) -> None:
        import mlflow

        mlflow.set_experiment(session.project)
        run = mlflow.start_run(run_id=session.memory.get("run"), run_name=session.name)
        if "run" not in session.memory:
            session.memory["run"] = run.info.run_id
            mlflow.log_dict(session.config, "recipe.yaml")
        self._mlflow = mlflow
        self.where = f"mlflow ui, at {mlflow.get_tracking_uri()}: run {run.info.run_id}"

    def log(self, number: int, point: Point) -> None:
        self._mlflow.log_metrics(point.metrics, step=point.step)

    def close(self) -> None:
        self._mlflow.end_run()


BACKENDS: dict[str, Callable[[Session], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
    "mlflow": Mlflow,
}


def backend(name: str) -> Callable[[Session], Tracker]:
    """Return a tracker's class: a known one, or the user's `module:Class`. Raises ConfigError."""
    return BACKENDS.get(name) or registry.resolve("tracker", name)


def missing_package(name: str) -> str | None:
    """Return the package that a tracker needs and that is not installed."""
    package = PACKAGES.get(name)
    return package if package and importlib.util.find_spec(package) is None else None


def _with_axes(point: Point) -> dict[str, float]:
    """Return the metrics with what they can be drawn against, for trackers with one count of steps."""
    axes = {"round": point.round}
    if point.stage in TRAININGS:
        axes[f"{point.stage}/step"] = point.step
    return {**axes, **point.metrics}
