"""python -m jobs: the same as the command `selfloop`."""

from jobs.cli import main

if __name__ == "__main__":
    main()
