"""The public surface works whole in one process, without Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import write_corpus, write_recipe, write_weights

pytestmark = pytest.mark.slow

_SCRIPT = """
import json, sys
import curation as cu
imported = {name for name in ("ray", "torch", "pyarrow") if name in sys.modules}
recipe, out = sys.argv[1:]
made = cu.curate(recipe)
again = cu.curate(cu.load_recipe(recipe))
answers = cu.what_if(recipe, ["filters.top_fraction.fraction=0.2,0.5"])
findings = cu.verify(out, rescore=1.0)
print(json.dumps({
    "imported": sorted(imported),
    "numbers": [made.number, again.number],
    "kept": [made.document.samples["kept"], *(answer.samples["kept"] for answer in answers)],
    "findings": [str(finding) for finding in findings],
    "ray": sorted(name for name in sys.modules if name.partition(".")[0] in ("ray", "actors", "jobs")),
}))
"""


def test_a_recipe_is_carried_out_questioned_and_verified_without_ray(tmp_path: Path) -> None:
    """From a script without a guard around its main part, which is not run again by worker processes."""
    write_corpus(tmp_path / "pool", 2, 24)
    sha = write_weights(tmp_path / "w.safetensors")
    recipe = write_recipe(tmp_path / "r.yaml", f"{tmp_path}/pool", f"{tmp_path}/out", f"{tmp_path}/w.safetensors", sha)
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(recipe), f"{tmp_path}/out"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["imported"] == [], "importing curation costs nothing"
    assert found["numbers"] == [1, 1]
    kept, fewer, same = found["kept"]
    assert fewer < same == kept
    assert found["findings"] == [] and found["ray"] == []
