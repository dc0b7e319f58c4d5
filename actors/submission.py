"""Ray Jobs: the client that submits a command to a cluster, and the errors with which it fails."""

from __future__ import annotations

import logging

from aiohttp import ClientError
from ray.exceptions import RayError
from ray.job_submission import JobSubmissionClient

#: Errors of a cluster that accepts no job or ends its log early.
FAILURES = (OSError, RuntimeError, ValueError, RayError, ClientError)


def job_client(address: str) -> JobSubmissionClient:
    """Return a client of the dashboard at `address`, with Ray's log lines off. Raises one of `FAILURES`."""
    for name in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return JobSubmissionClient(address)
