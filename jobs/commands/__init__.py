"""The `curate` command, one subcommand a file: arguments in, calls of the library, lines or JSON out.

Nothing here decides, trains or evaluates. Imported by `jobs.cli` alone, but for what two commands share."""
