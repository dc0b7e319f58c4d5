"""Whether the nodes of a cluster have the same software: one small task a node, pinned to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.waiting import ask, get, wait
from curation.software import software

SECONDS = 60.0  # a node that has not answered by then is left out: a run is not stopped for a warning


def software_of_nodes(seconds: float = SECONDS) -> dict[str, dict[str, str]]:
    """Address -> package -> version, of all nodes that are alive and answer in time."""
    task = ray.remote(num_cpus=0, max_retries=0)(software)
    asked = {}
    for node in ask(ray.nodes):
        if node["Alive"]:
            pinned = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            asked[task.options(scheduling_strategy=pinned).remote()] = node["NodeManagerAddress"]
    done, late = wait(list(asked), num_returns=len(asked), timeout=seconds) if asked else ([], [])
    for one in late:
        ray.cancel(one, force=True)
    found = {}
    for one in done:
        try:
            found[asked[one]] = get(one)
        except ray.exceptions.RayError:  # it died meanwhile
            continue
    return found


def mixed(nodes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line a package of which nodes have different versions: how many have which, and where the fewest are."""
    lines = []
    for package in sorted({name for versions in nodes.values() for name in versions}):
        places = defaultdict(list)
        for address, versions in nodes.items():
            places[versions.get(package, "none")].append(address)
        if len(places) > 1:
            each = sorted(places.items(), key=lambda item: (-len(item[1]), item[0]))
            told = ", ".join(f"{version} on {len(where)} nodes" for version, where in each)
            lines.append(f"{package}: {told} (such as {min(each[-1][1])})")
    return lines
