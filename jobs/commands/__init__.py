"""The `curate` command, one subcommand a file: arguments in, calls of the library, lines or JSON out.

Nothing here decides, trains or evaluates. Imported by `jobs.cli` alone, but for what two commands share."""

__all__ = [
    "corpus",
    "evaluate",
    "gc",
    "groups",
    "inspect",
    "learn",
    "matches",
    "policy",
    "proxy",
    "recipes",
    "repair",
    "rooms",
    "run",
    "scores",
    "submit",
    "verify",
    "what_if",
]
