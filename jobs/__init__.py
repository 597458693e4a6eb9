"""The commands that a person or `ray job submit` starts: one module per job."""

import os

# Libraries read it on import; their progress bars would garble the jobs' own display.
os.environ.setdefault("TQDM_DISABLE", "1")
