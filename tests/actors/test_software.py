"""A cluster whose nodes have different versions is named so; nodes of one version are not."""

from __future__ import annotations

import pytest
import ray

from actors.ray_cluster import ray_cluster
from actors.software import mixed, silent, software_of_nodes
from curation.core.software import software

SAME = {"torch": "2.10.0", "python": "3.11.7"}


def test_nodes_of_one_version_are_no_news() -> None:
    assert mixed({}) == [] and mixed({"10.0.0.1": SAME, "10.0.0.2": dict(SAME)}) == []


def test_packages_are_named_with_their_versions_and_a_node() -> None:
    nodes = {f"10.0.0.{n}": SAME for n in range(3)} | {"10.0.0.9": {"python": "3.11.7"}, "10.0.0.8": {**SAME, "x": "1"}}
    assert mixed(nodes) == [
        "torch: 2.10.0 on 4 nodes, none on 1 node (such as 10.0.0.9)",
        "x: none on 4 nodes, 1 on 1 node (such as 10.0.0.8)",
    ]


def test_nodes_that_do_not_answer_are_named() -> None:
    assert silent({}) == "" and silent({"10.0.0.1": SAME}) == ""
    assert silent({"10.0.0.1": SAME, "10.0.0.7": None}) == "1 node did not answer: 10.0.0.7"
    many = {f"10.0.0.{n}": None for n in range(9)}
    assert silent(many) == "9 nodes did not answer: " + ", ".join(f"10.0.0.{n}" for n in range(5)) + " and 4 more"


def test_a_node_that_is_late_or_dies_has_no_software(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": name != "d", "NodeID": "0" * 56, "NodeManagerAddress": name} for name in "abcd"]

    class Task:
        def options(self, **options: object) -> Task:
            return self

        def remote(self) -> object:
            return object()

    def died(ref: object) -> dict[str, str]:
        if ref is asked[1]:
            raise ray.exceptions.NodeDiedError("gone")
        return SAME

    asked: list[object] = []
    cancelled: list[object] = []
    monkeypatch.setattr(ray, "remote", lambda **options: lambda function: Task())
    monkeypatch.setattr(ray, "cancel", lambda ref, force: cancelled.append(ref))
    monkeypatch.setattr("actors.software.ask", lambda question: nodes)
    monkeypatch.setattr("actors.software.wait", lambda refs, **options: (asked.extend(refs) or refs[:2], refs[2:]))
    monkeypatch.setattr("actors.software.get", died)
    assert software_of_nodes() == {"a": SAME, "b": None, "c": None} and cancelled == [asked[2]]


@pytest.mark.ray
def test_every_node_is_asked() -> None:
    with ray_cluster():
        assert list(software_of_nodes().values()) == [software()]
