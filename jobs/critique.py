"""The critique stage of one round: python -m jobs.critique --run DIR --round K"""

from jobs.stage import stage_job

critique = stage_job("critique")

if __name__ == "__main__":
    from jobs.common import main

    main(critique)
