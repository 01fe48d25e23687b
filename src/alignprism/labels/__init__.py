"""People's labels on a run's completions: which to ask for, the blind sheet, and what came back, kept for good.

Everything lies in the run folder's ``labels/``: one file per plan, with the inclusion probabilities that no sheet shows,
and ``labels.parquet``, which is only ever replaced whole.
"""
