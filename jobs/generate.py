"""The generate stage of one round: python -m jobs.generate --run DIR --round K"""

from jobs.stage import stage_job

generate = stage_job("generate")

if __name__ == "__main__":
    from jobs.common import main

    main(generate)
