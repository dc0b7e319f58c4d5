"""One Ray and one finished dataset for all job tests of a process.

Starting Ray takes seconds, and `ray_cluster()` uses the one that runs. It starts after the S3
server, whose credentials its workers inherit from the environment.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from services import Clock

if TYPE_CHECKING:
    from damaged_tree import Tree


@pytest.fixture(scope="session")
def _started() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def ray_local(s3: object, _started: ExitStack) -> None:
    """Asked for by every file: another one of this process, with a Ray of its own, may have shut it down."""
    from actors.ray_cluster import ray_cluster

    _started.enter_context(ray_cluster())


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands work in this process, call by call: a run takes 0.3 s instead of 5 to 10 of worker processes.

    For tests of what a command makes and says. tests/contracts/test_engines.py shows that processes and Ray make the
    same, tests/faults what becomes of processes that die.
    """
    from inline_executor import InlineExecutor

    here = InlineExecutor(tmp_path_factory.mktemp("places"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("curation.core.local_executor.LocalExecutor", lambda: here)
        yield


@pytest.fixture(scope="session")
def finished_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dataset of `finished` in `whole`, made at `here`: its documents name that place."""
    import finished

    root = tmp_path_factory.mktemp("finished")
    finished.make(root / "here")
    (root / "here").rename(root / "whole")
    return root


@pytest.fixture
def tree(finished_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    """A copy of the finished dataset at the place that its documents name, to damage.

    A damaged object is read again after 0.1 s: these seconds do not pass.
    """
    from damaged_tree import Tree

    from curation.storage import retry

    monkeypatch.setattr(retry, "time", Clock())
    shutil.copytree(finished_dataset / "whole", finished_dataset / "here")
    yield Tree(finished_dataset / "here")
    shutil.rmtree(finished_dataset / "here")
