"""The calculator beside a table of measurements: `python -m tests.check_estimate`."""
