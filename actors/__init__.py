"""Ray, and no algorithms: clusters, streaming scoring, parallel writing. What they run is in `curation`."""
