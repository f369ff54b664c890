"""The model against real kernels: recordings are replayed from their requests and scored; `published/` has tables.

`recorded_machine` and `requests` say what a recording's machine was and what its workload asked for, `replay` runs
them on the model, `score` and `events` judge, `outcomes` does so for a folder, `replay_page` and `replay_plots` show.
"""
