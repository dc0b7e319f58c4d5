"""How good data are: small models trained on them and judged, with intervals over seeds.

Imports `learning` and below."""

__all__ = [
    "training",
    "trials",
]
