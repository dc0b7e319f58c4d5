"""Everything that uses Ray, and no algorithms: clusters, the executor, learners, the feed, jobs.

The code that runs on the cluster is in `curation`. Only `jobs` imports from here, and only the modules in `__all__`.
"""

__all__ = [
    "learning",
    "ray_cluster",
    "ray_executor",
    "software",
    "submission",
]
