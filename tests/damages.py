"""Damages that `curate verify` must find and name: how each is planted into the dataset that `finished.make` makes.

"With consistent hashes" is an attacker's damage: every document that names the object by its hash is rewritten to
match, up to the snapshot's document.
"""

from __future__ import annotations

from damaged_tree import Damage
from document_damages import DOCUMENT_DAMAGES
from output_damages import OUTPUT_DAMAGES
from score_damages import SCORE_DAMAGES

DAMAGES: dict[str, Damage] = {**DOCUMENT_DAMAGES, **SCORE_DAMAGES, **OUTPUT_DAMAGES}
