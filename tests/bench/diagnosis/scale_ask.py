"""One question to committed gradients, as `curate diagnose trace` asks it, in a process whose memory is measured.

    python tests/bench/diagnosis/scale_ask.py MODEL FAILURES FOLDER NUMBERS

FOLDER has `corpus` and `scores`. The command line sketches 100 numbers a layer; NUMBERS are more. Prints seconds, CPU
seconds and the peak of memory as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[at]) for at in (2, 3)]  # the root, or tests/curation would shadow ours


def main(model: str, failures: str, folder: str, numbers: str) -> None:
    """Trace the failures, and print what it took."""
    import pyarrow.parquet as pq
    from memory_peaks import peak

    from curation.diagnosis.failures import read_failures
    from curation.diagnosis.subject import open_subject, subject_scores
    from curation.diagnosis.trace import TRACE_SCHEMA
    from curation.diagnosis.tracing import drops, trace_failures
    from curation.ledger.edit_lists import write_edit_list

    began = time.monotonic()
    subject, given, place = open_subject(model, "label"), read_failures(failures), Path(folder)
    subject = replace(subject, numbers=int(numbers))
    with (
        subject_scores(subject, str(place / "corpus"), str(place / "scores"), gradients=True) as scored,
        pq.ParquetWriter(place / "scores.parquet", TRACE_SCHEMA, compression="zstd") as writer,
    ):
        found = trace_failures(
            subject, given, scored, method="dual_fisher", count=100, write=writer.write_table
        )  # fmt: skip
    write_edit_list(str(place / "drops.parquet"), drops(found.trace, subject, "dual_fisher"))
    print(json.dumps({"seconds": time.monotonic() - began, "cpu": time.process_time(), "bytes": peak()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
