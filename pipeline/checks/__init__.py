"""What `doctor` checks about the machine before a run is started on it. Each module has functions that yield findings."""

from pipeline.checks.finding import Finding, ok, problem, warning

__all__ = ["Finding", "ok", "problem", "warning"]
