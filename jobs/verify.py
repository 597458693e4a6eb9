"""The verify stage of one round: python -m jobs.verify --run DIR --round K"""

from jobs.common import main
from jobs.stage import stage_job

verify = stage_job("verify")

if __name__ == "__main__":
    main(verify)
