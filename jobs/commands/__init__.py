"""The `curate` command, one subcommand a file: arguments in, calls of the library, lines or JSON out.

Decisions, trainings and evaluations are in the library. Only `jobs.cli` imports commands, except for code that two of
them share."""

__all__ = [
    "corpus",
    "diagnose",
    "edits",
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
    "review",
    "rooms",
    "run",
    "scores",
    "submit",
    "verify",
    "what_if",
]
