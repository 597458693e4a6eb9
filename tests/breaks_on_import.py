"""A module of a user's that raises when it is imported."""

raise RuntimeError("broken")
