"""The critique stage of one round: python -m jobs.critique --run DIR --round K"""

from jobs.common import main
from jobs.stage import stage_job

critique = stage_job("critique")

if __name__ == "__main__":
    main(critique)
