"""Ray, and no algorithms: clusters, pools of scorers, learners, the feed, jobs.

What they run is in `curation`. Only `jobs` imports from here, and only the modules in `__all__`.
"""

__all__ = [
    "learning",
    "ray_cluster",
    "ray_executor",
    "software",
    "submission",
]
