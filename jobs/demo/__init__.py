"""The demo: the whole flow on a real corpus, one module for each longer step. `make demo` runs it.

Runs `curate` as a user does. Nothing may be imported from here.
"""

__all__: list[str] = []
