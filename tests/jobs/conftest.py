"""One Ray for all job tests of a process: starting it takes seconds, and `cluster()` uses the one that runs.

It starts after the S3 server, whose credentials its workers inherit from the environment.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_local(s3: object) -> Iterator[None]:
    from actors.cluster import cluster

    with cluster():
        yield
