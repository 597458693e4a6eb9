"""Training: TRL's trainers inside Ray Train, resumable. `launch` takes seconds to import."""

from pipeline.training.spec import TrainResult, TrainSpec

__all__ = ["TrainResult", "TrainSpec"]
