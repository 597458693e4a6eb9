"""Every retry in one table: what is tried again, how often, after how long.

Five more are settings of a recipe: `engine.max_retries`, `engine.backoff` and `engine.outage_seconds` (a
request to an endpoint), `runner.max_attempts` (a row that kills its worker), and `runner.on_unanswered` (what
happens to rows that are still unanswered after UNANSWERED_PASSES).
"""

# A request to an endpoint (pipeline.engines.retry).
MAX_BACKOFF = 60.0  # seconds; engine.backoff doubles up to this
MAX_RETRY_AFTER = 120.0  # seconds; an endpoint that asks for a longer wait is asked again sooner

# An engine whose process died (pipeline.engines.router).
ENGINE_DEATHS = 3  # a request in flight at this many deaths fails; the last time it runs alone
RESTART_WAITS = (1, 5, 15, 30, 60)  # seconds between attempts to restart it; then the stage stops

# Rows and their workers (pipeline.runner).
UNANSWERED_PASSES = 1  # further passes over the rows whose requests went unanswered in the first
WORKER_STARTS = 3  # attempts to start a stage worker before the stage stops
SUSPECT_GROUP = 16  # rows of a dead worker are retried in groups of this size, then one by one
EARLY_FAILURES = 50  # this many failed rows before the first success stop the stage at once
OUTAGE = 50  # this many consecutive unanswered rows mean the engine is down

# Everything else.
HELPER_ATTEMPTS = 2  # pipeline.limited: a helper killed from outside must not decide a verdict
TRAINING_ATTEMPTS = 3  # pipeline.training.launch: starts of a training whose workers die
MEMORY_HALVINGS = 1  # pipeline.training.launch: half as much in a forward pass, when memory is full
