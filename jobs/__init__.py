"""Composition only: the `curate` command (`cli`, `commands/`), its pages (`pages/`), recipes and the demo.

Nothing imports from here. `pipeline`, `checks` and `protocol` still hold code of the library: they move there with the
executor.
"""
