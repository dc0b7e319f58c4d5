"""Small parts that everything else stands on: types, errors, digests, intervals, threads, progress.

They import nothing from the other rooms, and neither torch nor Ray."""
