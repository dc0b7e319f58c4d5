"""The command: starts fast, explains itself, and answers a user's mistake with one line, the fix and an exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders import write_corpus, write_recipe, write_weights

from jobs.cli import _main, cli

REPO = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    write_corpus(root / "corpus", 2, 8, flaws=False)
    sha = write_weights(root / "w.safetensors")
    write_recipe(root / "recipe.yaml", str(root / "corpus"), str(root / "out"), str(root / "w.safetensors"), sha)
    (root / "model.pt").write_bytes(b"PK\x03\x04")
    (root / "empty").mkdir()
    return root


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = _main([*arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.slow
def test_help_is_complete() -> None:
    done = subprocess.run([sys.executable, "-m", "jobs.cli", "--help"], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0
    codes = re.findall(r"^ +(\d+) ", done.stdout.partition("Exit codes")[2], re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "4", "5", "130", "137"]
    expected = "corpus proxy plan run status show verify diff gc quarantine submit learn policy evaluate"
    for command in expected.split():
        assert f"  {command} " in done.stdout


def test_help_imports_nothing_heavy() -> None:
    heavy = "('torch', 'ray', 'duckdb', 'pyarrow', 'numpy', 'boto3', 'scipy', 'jinja2')"
    code = f"import sys, jobs.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    subcommands = getattr(cli.commands[name], "commands", {})
    text = out + "".join(run(capsys, name, sub, "--help")[1] for sub in subcommands)
    assert f"curate {name}" in text.partition("Example")[2]


MISTAKES = [
    (["--set", "corpus={home}/nowhere"], 3, "missing_bucket", "nowhere"),
    (["--set", "corpus={home}/empty"], 2, "empty_corpus", "empty"),
    (["--set", "corpus=ftp://host/x.tar"], 2, "user_error", "s3"),
    (["--set", "filtres=[]"], 2, "bad_recipe", "filters"),
    (["--set", "filters.top_fraction.fractoin=0.5"], 2, "bad_recipe", "fraction"),
    (["--set", "scorers=[{{clip_scor: {{}}}}]"], 2, "unknown_name", "clip_score"),
    (["--set", "scorers.clip_score.weights={home}/gone.safetensors"], 2, "bad_weights", "gone.safetensors"),
    (["--set", "scorers.clip_score.sha256=" + "a" * 64], 2, "bad_weights", "aaaa"),
    (["--set", "scorers.clip_score.weights={home}/model.pt"], 2, "bad_weights", "convert"),
    (["--set", "scorers.clip_score.model=proxy-mi"], 2, "unknown_name", "proxy-"),
    (["--set", "keep={home}/recipe.yaml"], 2, "bad_recipe", "uid"),
    (["--set", "filters.top_fraction.fraction=much"], 2, "bad_recipe", "--set filters.top_fraction.fraction: "),
    (["--set", "shards.samples=1", "--set", "shards.samples=2"], 2, "bad_recipe", "given twice"),
    (["--set", "scorers=[phash]"], 2, "bad_recipe", "an empty one is `name:`"),
    (["--set", "corpus='{{corpus}}'"], 2, "bad_recipe", "--fill corpus"),
]


@pytest.mark.parametrize(("changes", "exit_code", "reason", "hint"), MISTAKES, ids=[m[0][1] for m in MISTAKES])
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_mistake_is_one_line(
    command: str,
    changes: list[str],
    exit_code: int,
    reason: str,
    hint: str,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [text.format(home=home) for text in changes]
    code, out, err = run(capsys, command, str(home / "recipe.yaml"), *arguments)
    line = err.strip()
    assert (code, out) == (exit_code, "")
    assert line.startswith("curate: ") and "\n" not in line and "Traceback" not in line
    assert f"[{reason}]" in line and hint in line
    assert not list((home / "out").glob("snapshots/*"))


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["run", "/nowhere/recipe.yaml"], 2),
        (["run"], 2),
        (["nonsense"], 2),
        (["show", "/nowhere/at/all"], 2),
        (["show", "{home}/corpus"], 2),
        (["verify", "{home}/corpus@3"], 2),
        (["gc", "{home}/corpus"], 2),
        (["gc", "{home}/corpus", "--grace", "soon"], 2),
        (["diff", "{home}/corpus", "{home}/corpus"], 2),
        (["submit", "{home}/recipe.yaml", "--address", "http://127.0.0.1:9"], 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_other_mistakes(arguments: list[str], exit_code: int, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *(text.format(home=home) for text in arguments))
    assert code == exit_code
    assert "Traceback" not in err and err.strip()


def test_errors_for_machines(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "plan", str(home / "recipe.yaml"), "--set", f"corpus={home}/empty", "--json")
    assert (code, out) == (2, "")
    error = json.loads(err)
    assert error["error"] == "empty_corpus" and error["fix"]


def test_plan_puts_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(str(path) for path in home.rglob("*"))
    code, out, _ = run(capsys, "plan", str(home / "recipe.yaml"), "--json", "--set", f"output={home}/unmade")
    plan = json.loads(out)
    assert code == 0
    assert (plan["units"], plan["units_to_score"], plan["snapshot"]) == (2, 2, None)
    assert plan["bytes"] == plan["bytes_to_read"] == sum(p.stat().st_size for p in (home / "corpus").glob("*.tar"))
    assert sorted(str(path) for path in home.rglob("*")) == before


def test_status_before_any_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "status", str(home / "recipe.yaml"), "--set", f"output={home}/unmade", "--json")
    assert code == 0
    found = {"units": 2, "scored": 0, "unreadable": {}, "snapshot": None, "up_to_date": False, "samples": None}
    assert json.loads(out) == found
