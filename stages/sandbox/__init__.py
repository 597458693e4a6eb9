"""Model-written programs, run against tests where they can do no harm: see README.md."""

from stages.sandbox.client import Job, Limits, Outcome, Sandbox, isolation_problem

__all__ = ["Job", "Limits", "Outcome", "Sandbox", "isolation_problem"]
