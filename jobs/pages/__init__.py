"""HTML pages and pictures: one file each, without scripts or anything from elsewhere.

The commands with `--html` write them."""

__all__ = [
    "curves",
    "groups",
    "matches",
    "what_if",
]
