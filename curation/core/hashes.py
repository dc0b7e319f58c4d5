"""The perceptual hash of a featureless image, shared by the scorer that computes it and the filters that ignore it."""

from __future__ import annotations

#: The hash of an image without features, such as a white page. Two such images have equal hashes whatever they show,
#: so filters never treat this value as evidence that two images are similar.
BLANK = 0
