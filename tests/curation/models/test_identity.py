"""An encoder's identity holds everything that determines its output, and nothing else."""

from __future__ import annotations

import subprocess
import sys

from curation.models.identity import encoder_identity

SHA = "ab" * 32


def test_everything_that_decides_values_is_in_it() -> None:
    base = encoder_identity("proxy-mu", SHA, "fp32")
    assert base["weights"] == SHA and set(base) == {"model", "config", "weights", "preprocess", "precision"}
    others = [
        encoder_identity("proxy-ti", SHA, "fp32"),
        encoder_identity("proxy-mu", "cd" * 32, "fp32"),
        encoder_identity("proxy-mu", SHA, "bf16"),
    ]
    assert all(other != base for other in others)
    assert encoder_identity("proxy-mu", SHA, "fp32") == base


def test_a_fingerprint_costs_no_import_of_torch() -> None:
    """A run without anything to score computes it: 3 s of imports would be most of its time."""
    code = "import sys; from curation.models.identity import encoder_identity as f; f('proxy-mu', 'a' * 64, 'fp32')\n"
    code += "sys.exit(bool({'torch', 'open_clip'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
