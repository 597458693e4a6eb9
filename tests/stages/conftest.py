"""Hypothesis without deadlines: the machine may be busy, and where time matters a test measures CPU time itself."""

from hypothesis import settings

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
