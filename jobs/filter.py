"""The filter stage of one round: python -m jobs.filter --run DIR --round K"""

from jobs.common import main
from jobs.stage import stage_job

filter = stage_job("filter")

if __name__ == "__main__":
    main(filter)
