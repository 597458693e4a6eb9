"""The filter stage of one round: python -m jobs.filter --run DIR --round K"""

from jobs.stage import stage_job

filter = stage_job("filter")

if __name__ == "__main__":
    from jobs.common import main

    main(filter)
