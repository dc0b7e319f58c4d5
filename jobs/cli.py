"""The `curate` command. Each command is a module of commands/, and imports heavy libraries only when it runs."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from curation.core.allocation import use_one_arena
from jobs.commands.corpus import corpus
from jobs.commands.diagnose import diagnose
from jobs.commands.edits import edits
from jobs.commands.evaluate import evaluate
from jobs.commands.gc import gc
from jobs.commands.groups import groups
from jobs.commands.inspect import diff, quarantine, show, status
from jobs.commands.learn import learn
from jobs.commands.matches import matches
from jobs.commands.policy import policy
from jobs.commands.proxy import proxy
from jobs.commands.recipes import recipes
from jobs.commands.repair import repair
from jobs.commands.review import review
from jobs.commands.rooms import rooms
from jobs.commands.run import plan, run
from jobs.commands.scores import scores
from jobs.commands.submit import submit
from jobs.commands.verify import verify
from jobs.commands.what_if import what_if
from jobs.supervised import supervised

if TYPE_CHECKING:
    from curation.core.errors import TutelageError

EPILOG = """\b
Examples:
  curate corpus openmoji-icons --out demo/corpus
  curate proxy train --data demo/corpus --model proxy-mu --out demo/proxy
  curate run recipe.yaml
  curate show --json demo/curated
\b
Exit codes:
  0    done
  1    an unexpected error
  2    a mistake in the command line, the recipe or the input
  3    the object store, the cluster or the local disk failed
  4    the ledger is incomplete or damaged (run again, verify, repair)
  5    the run would keep too few samples and made no snapshot (see curate run --accept-yield)
  130  interrupted (run the same command again to continue)
  137  killed, most likely because memory ran out (run the same command again to continue)
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(package_name="tutelage", prog_name="curate")
@click.option("--debug", is_flag=True, envvar="CURATE_DEBUG", help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Curate large image-text corpora: score once, decide many times."""
    # torch reads the variable when a command first imports it. By default, OpenMP's threads spin while they wait for
    # each other: beside other busy processes, two threads trained 26-96 samples/s spinning and 245-954 sleeping, and
    # semantic_duplicates took 35 CPU seconds instead of 3. The results are equal to the bit.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    use_one_arena()
    context.obj = {"debug": debug}


READING = (plan, edits, status, show, diff, groups, matches, quarantine, what_if, scores, rooms, recipes)
for command in (corpus, proxy, run, verify, repair, gc, submit, learn, policy, evaluate, review, diagnose, *READING):
    cli.add_command(command)


def main() -> None:
    """Run the command; turn an error into one line and an exit code."""
    sys.exit(supervised(sys.argv[1:], _main))


def _main(arguments: list[str]) -> int:
    debug = "--debug" in arguments or bool(os.environ.get("CURATE_DEBUG"))
    try:
        cli.main(arguments, standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("curate: interrupted; run the same command again to continue", err=True)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `curate show | head` is not an error
        return 0
    except Exception as error:
        found = _explained(error)
        if debug or found is None:
            raise
        return _report(found, as_json="--json" in arguments)
    return 0


def _explained(error: Exception) -> TutelageError | None:
    """Return the `TutelageError` to report: the error itself, or one for an uncaught error of Ray or the local disk.

    None for a defect of the code. Imports no Ray.
    """
    from curation.core.errors import TutelageError
    from curation.storage.tables import disk_error

    if isinstance(error, TutelageError):
        return error
    if full := disk_error(error, "this command"):
        return full
    ray = sys.modules.get("ray")
    if ray is None or not isinstance(error, ray.exceptions.RayError):
        return None
    from actors.ray_cluster import explained

    found = explained(error)
    return found if isinstance(found, TutelageError) else None


def _report(error: TutelageError, *, as_json: bool) -> int:
    """Print an error to stderr, as a line of text or as a JSON object; return its exit code."""
    from curation.core.printable import printable

    if as_json:
        click.echo(json.dumps({"error": error.code, "message": str(error), "fix": error.fix}), err=True)
    else:
        fix = f" -- {error.fix}" if error.fix else ""
        click.echo(printable(f"curate: {error} [{error.code}]{fix}"), err=True)
    return error.exit_code


if __name__ == "__main__":
    main()
