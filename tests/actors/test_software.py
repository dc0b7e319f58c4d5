"""A cluster whose nodes have different versions is named so; nodes of one version are not."""

from __future__ import annotations

import pytest

from actors.cluster import cluster
from actors.software import mixed, software_of_nodes
from curation.software import software

SAME = {"torch": "2.10.0", "python": "3.11.7"}


def test_nodes_of_one_version_are_no_news() -> None:
    assert mixed({}) == [] and mixed({"10.0.0.1": SAME, "10.0.0.2": dict(SAME)}) == []


def test_packages_are_named_with_their_versions_and_a_node() -> None:
    nodes = {f"10.0.0.{n}": SAME for n in range(3)} | {"10.0.0.9": {"python": "3.11.7"}, "10.0.0.8": {**SAME, "x": "1"}}
    assert mixed(nodes) == [
        "torch: 2.10.0 on 4 nodes, none on 1 nodes (such as 10.0.0.9)",
        "x: none on 4 nodes, 1 on 1 nodes (such as 10.0.0.8)",
    ]


@pytest.mark.ray
def test_every_node_is_asked() -> None:
    with cluster():
        assert list(software_of_nodes().values()) == [software()]
