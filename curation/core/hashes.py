"""What the perceptual hash of a picture without features is: scorers give it, filters know it."""

from __future__ import annotations

#: The hash of a picture in which a perceptual hash finds nothing, such as a white page. Two of them look the same to
#: the hash whatever they show, so a filter never takes this value for a sign that two pictures are alike.
BLANK = 0
