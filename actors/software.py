"""Whether the nodes of a cluster have the same software: one small task a node, pinned to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.waiting import ask, get, wait
from curation.core.software import software

SECONDS = 60.0  # limit for all answers: a warning must not delay a run for longer
NAMED = 5  # nodes that one line names


def software_of_nodes(seconds: float = SECONDS) -> dict[str, dict[str, str] | None]:
    """Return address -> package -> version for all living nodes; None for a node that does not answer in time."""
    task = ray.remote(num_cpus=0, max_retries=0)(software)
    asked: dict[Any, str] = {}
    for node in ask(ray.nodes):
        if node["Alive"]:
            pinned = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            asked[task.options(scheduling_strategy=pinned).remote()] = node["NodeManagerAddress"]
    done, late = wait(list(asked), num_returns=len(asked), timeout=seconds) if asked else ([], [])
    for one in late:
        ray.cancel(one, force=True)
    found: dict[str, dict[str, str] | None] = dict.fromkeys(asked.values())
    for one in done:
        try:
            found[asked[one]] = get(one)
        except ray.exceptions.RayError:  # the node died
            continue
    return found


def silent(nodes: Mapping[str, Mapping[str, str] | None]) -> str:
    """Return a line that counts the nodes without an answer and names up to `NAMED` of them; "" if all answered."""
    late = sorted(address for address, versions in nodes.items() if versions is None)
    if not late:
        return ""
    more = f" and {len(late) - NAMED} more" if len(late) > NAMED else ""
    return f"{_nodes(len(late))} did not answer: {', '.join(late[:NAMED])}{more}"


def mixed(nodes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a line for each package whose versions differ: the nodes by version, and one node with the rarest."""
    lines = []
    for package in sorted({name for versions in nodes.values() for name in versions}):
        places = defaultdict(list)
        for address, versions in nodes.items():
            places[versions.get(package, "none")].append(address)
        if len(places) > 1:
            each = sorted(places.items(), key=lambda item: (-len(item[1]), item[0]))
            versions_text = ", ".join(f"{version} on {_nodes(len(where))}" for version, where in each)
            lines.append(f"{package}: {versions_text} (such as {min(each[-1][1])})")
    return lines


def _nodes(count: int) -> str:
    return f"{count:,} node{'' if count == 1 else 's'}"
