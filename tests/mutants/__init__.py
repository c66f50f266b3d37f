"""Faults put into the product on purpose, to see whether the fast tests notice: `python -m tests.mutants`."""
