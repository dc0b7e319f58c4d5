"""Composition only: the `curate` command (`cli`, `commands/`), its pages (`pages/`), recipes and the demo.

`engine` chooses the executor of a command, `supervised` restarts a command whose local Ray cluster breaks, `options`
holds what commands share. Imports `actors` and `curation`; nothing imports from here.
"""
