"""One Ray for all job tests of a process: starting it takes seconds, and `cluster()` uses the one that runs.

It starts after the S3 server, whose credentials its workers inherit from the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest


@pytest.fixture(scope="session")
def _started() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def ray_local(s3: object, _started: ExitStack) -> None:
    """Asked for by every file: another one of this process, with a Ray of its own, may have shut it down."""
    from actors.cluster import cluster

    _started.enter_context(cluster())
