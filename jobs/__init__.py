"""What a person or `ray job submit` starts: one module per job."""

import os

# Before any library is imported that reads it: the progress bars of libraries would tear the jobs' own display.
os.environ.setdefault("TQDM_DISABLE", "1")
