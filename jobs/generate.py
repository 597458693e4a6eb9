"""The generate stage of one round: python -m jobs.generate --run DIR --round K"""

from jobs.common import main
from jobs.stage import stage_job

generate = stage_job("generate")

if __name__ == "__main__":
    main(generate)
