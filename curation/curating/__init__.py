"""The pipeline from score tables to a snapshot: decide, write, what-if, verify, repair, garbage.

Imports `dataset` and below."""
