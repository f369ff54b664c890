"""Floor 4, the lab: training, evaluation, comparison, export and the command line.

Imports every floor below; nothing imports it.
"""
