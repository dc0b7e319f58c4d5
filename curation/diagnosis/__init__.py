"""Diagnosis: from a model's failures to the data behind them.

`judged_data` says what a model was judged on, `finding` finds failures and `failures` splits them, `trace` ranks
training samples by how much they pulled the model towards them, `repair` tunes the model on failures, and `erase`
unlearns traced samples. Everything of `__all__` may be imported from here; above all rooms but the command line.
"""

from __future__ import annotations

__all__ = [
    "collecting",
    "doubted",
    "erase",
    "erasing",
    "failures",
    "finding",
    "finding_types",
    "judged_data",
    "repair",
    "repairing",
    "report",
    "subject",
    "trace",
    "trace_document",
    "tracing",
    "type_tuning",
]
