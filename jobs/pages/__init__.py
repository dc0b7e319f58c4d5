"""HTML pages and pictures: one file each, without scripts and without external resources.

Commands with `--html` write pages from the Jinja2 templates in templates/; `rendering` escapes every value.
`curves` and `gallery` draw PNGs with matplotlib, of a training run and of a snapshot.
"""

__all__ = [
    "curves",
    "diagnosis_report",
    "gallery",
    "groups",
    "matches",
    "review_report",
    "what_if",
]
