"""Diagnosis: from a model's failures to the data behind them.

`failures` finds and splits failures, `trace` ranks training samples by how much they pulled the model towards them.
Everything of `__all__` may be imported from here; above all rooms but the command line.
"""

from __future__ import annotations

__all__ = ["failures", "finding", "subject", "trace", "tracing"]
