"""Corpora made from an idea: grammars, grids and language models write rows; a job writes the corpus.

Run it: `python -m core.synth RECIPE --tokens 200000 --model M --out DIR --seed 7 --json`.
"""
