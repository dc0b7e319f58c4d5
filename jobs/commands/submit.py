"""`curate submit`: run a curation or learning recipe as a Ray job on a cluster, and follow its log."""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from jobs.options import recipe_argument, set_option

PACKAGES = ("curation", "actors", "jobs")
LOOK_SECONDS = 1.0  # between two polls of a job while its log has no new line
AGENT_SECONDS = 60


@click.command(epilog="\b\nExamples:\n  curate submit recipe.yaml --address http://head:8265\n"
               "  curate submit learn.yaml --set compute.learners=8 --address http://head:8265\n"
               "  curate submit recipe.yaml --with-code --env AWS_PROFILE=curator")  # fmt: skip
@recipe_argument
@set_option
@click.option("--address", envvar="RAY_API_SERVER_ADDRESS", default="http://127.0.0.1:8265", show_default=True,
              help="URL of the cluster's dashboard.")  # fmt: skip
@click.option(
    "--with-code",
    is_flag=True,
    help="Upload this installation's code; by default, the job uses that of the cluster's image.",
)
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE",
              help="Environment variable of the job (repeatable). Ray displays it, so don't pass secrets.")  # fmt: skip
@click.option("--no-wait", is_flag=True, help="Print the job's id and return.")
@click.option("--accept-yield", is_flag=True, help="See `curate run`.")
def submit(
    recipe: str,
    overrides: tuple[str, ...],
    address: str,
    with_code: bool,
    variables: tuple[str, ...],
    no_wait: bool,
    accept_yield: bool,
) -> None:
    """Run a recipe as a job on a Ray cluster, and follow its log.

    Submits `curate run RECIPE`, or `curate learn RECIPE` for a recipe with a learner, through the Ray Jobs API, and
    ends with the job's exit code. Interrupting this command does not stop the job. A recipe that is submitted again
    continues where it stopped.
    """
    command = _command(recipe, overrides)
    settings = "".join(f" --set {shlex.quote(override)}" for override in overrides)
    settings += " --accept-yield" if accept_yield and command == "run" else ""
    with tempfile.TemporaryDirectory(prefix="tutelage-") as folder, _one_line(address):
        environment = _environment(Path(folder), Path(recipe), with_code, variables)
        client = _client(address)
        job = _submit(client, f"python -m jobs.cli {command} recipe.yaml{settings}", environment)
    click.echo(f"job {job} on {address}", err=True)
    if no_wait:
        click.echo(job)
        return
    with _one_line(address, f"stopped reporting on job {job}", "the job continues: ray job logs --follow"):
        code = _follow(client, job)
    raise SystemExit(code)


def _command(recipe: str, overrides: tuple[str, ...]) -> str:
    """Return `run` or `learn`, by the kind of recipe. Reports mistakes in it here instead of in the cluster's log."""
    from curation.recipes.yaml_document import is_of_learning, read_recipe

    if is_of_learning(read_recipe(recipe)):
        from curation.recipes.learning_recipe import load_learn_recipe

        learning = load_learn_recipe(recipe, overrides)
        reference = learning.reference
        others = {
            "compare": learning.compare,
            "evaluation": learning.evaluation,
            "reference.weights": reference and reference.weights,
            "reference.train": reference and reference.train,
            "selection.selector.replay.run": learning.replay,
        }
        places = [("output", learning.output), *(("data", url) for url in learning.data)]
        _check_places([*places, *((name, url) for name, url in others.items() if url)])
        return "learn"
    from curation.recipes.curation_recipe import load_recipe

    curating = load_recipe(recipe, overrides)
    places = [("output", curating.output), ("scores", curating.scores)]
    _check_places([*places, *(("corpus", url) for url in curating.corpus)])
    return "run"


def _check_places(places: Iterable[tuple[str, str]]) -> None:
    """Raise `RecipeError` for a relative path: the job's folder is deleted with all that was written below it."""
    from curation.core.errors import RecipeError

    for name, url in places:
        if "://" not in url and not Path(url).is_absolute():
            text = f"{name} is {url}, a path below the job's temporary folder"
            raise RecipeError(text, fix="use a URL, or an absolute path that all machines of the cluster share")


def _client(address: str) -> Any:
    from actors.submission import job_client

    return job_client(address)


def _submit(client: Any, entrypoint: str, environment: dict[str, Any]) -> str:
    """Submit a job and return its id. Waits up to a minute for the agent of a cluster that has just started."""
    from actors.ray_cluster import ClusterError

    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            job: str = client.submit_job(entrypoint=entrypoint, runtime_env=environment)
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the Ray cluster has had no agent to run jobs for {AGENT_SECONDS} s",
                    fix="see dashboard_agent.log on its head node; if another Ray there uses port 52365, "
                    "start this one with --dashboard-agent-listen-port=PORT",
                ) from None
            time.sleep(1)
        else:
            return job


_ACCESS_FIX = "check the dashboard's URL, RAY_AUTH_MODE and RAY_AUTH_TOKEN (or ~/.ray/auth_token)"


@contextmanager
def _one_line(address: str, what: str = "accepted no job", fix: str = _ACCESS_FIX) -> Iterator[None]:
    """Report an error of the cluster as one line with a fix."""
    from actors.ray_cluster import ClusterError
    from actors.submission import FAILURES

    try:
        yield
    except FAILURES as error:
        if isinstance(error, ClusterError):
            raise
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ClusterError(f"the Ray cluster at {address} {what}: {line}", fix=fix) from None


def _environment(folder: Path, recipe: Path, with_code: bool, variables: tuple[str, ...]) -> dict[str, Any]:
    """Return the job's runtime environment: a folder with the recipe and, with --with-code, our packages."""
    shutil.copy(recipe, folder / "recipe.yaml")
    if with_code:
        home = Path(__file__).parents[2]
        for package in PACKAGES:
            shutil.copytree(home / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return {"working_dir": str(folder), "env_vars": dict(_variable(text) for text in variables)}


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--env")
    return name, value


def _follow(client: Any, job: str) -> int:
    """Print the job's log as it grows, and return the exit code of the job.

    The log's stream may break off on a busy cluster. A new stream begins with the first line of the log, so that what
    was already printed is skipped.
    """
    import asyncio

    printed = 0  # characters of the log

    async def tail() -> None:
        nonlocal printed
        received = 0
        async for text in client.tail_job_logs(job):
            click.echo(text[max(0, printed - received) :], nl=False)
            received += len(text)
            printed = max(printed, received)

    while True:
        asyncio.run(tail())
        status = client.get_job_status(job)
        if status.is_terminal():
            break
        time.sleep(LOOK_SECONDS)
    info = client.get_job_info(job)
    click.echo(f"job {job}: {status.value.lower()}", err=True)
    if status.value == "SUCCEEDED":
        return 0
    return int(info.driver_exit_code) if info.driver_exit_code else 1
