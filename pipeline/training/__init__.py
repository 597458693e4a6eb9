"""Training: TRL's trainers inside Ray Train, restartable by the same call. `launch` is imported when a training begins: it takes seconds."""

from pipeline.training.spec import TrainResult, TrainSpec

__all__ = ["TrainResult", "TrainSpec"]
