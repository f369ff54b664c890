"""The model against published tables, `experiments/evidence/published/*/table.toml`: what was measured there, the
simulator answers.

A published number is never used twice: what a scenario's parameters were fitted on is named in its table, and
the rows that are judged are others.
"""
