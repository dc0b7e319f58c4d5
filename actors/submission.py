"""Ray Jobs: the client that submits a command to a cluster, and the errors with which it fails."""

from __future__ import annotations

import logging

from aiohttp import ClientError
from ray.exceptions import RayError
from ray.job_submission import JobSubmissionClient

#: What a cluster that takes no job, or breaks off its log, raises.
FAILURES = (OSError, RuntimeError, ValueError, RayError, ClientError)


def job_client(address: str) -> JobSubmissionClient:
    """A client of the dashboard at `address`; Ray's own log lines are off. Raises one of `FAILURES`."""
    for name in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return JobSubmissionClient(address)
