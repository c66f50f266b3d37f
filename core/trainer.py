"""The process of one run: `python -m core.trainer RUN_DIR`. The command has its own name: a run that was started before an
update is found by it."""

from core.runs.trainer import main

if __name__ == "__main__":
    main()
