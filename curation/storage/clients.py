"""Clients of S3, GCS and Azure: endpoint, region, credentials, timeouts. One set per process, bucket and options.

Creating an S3 client takes 0.1-0.3 s (boto3 reads its configuration and finds credentials), so clients are cached.
Only obstore's and boto3's objects hold credentials; they refresh them, and a pickled Store never carries any.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from curation.core.errors import AccessError, StoreError, TutelageError
from curation.storage.endpoints import check_endpoint
from curation.storage.errors import CREDENTIALS, TransientError
from curation.storage.retry import FIRST, MOST
from curation.storage.urls import Location, StoreOptions

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CONNECT, _READ, _UPLOAD = 5, 10, 60  # seconds without progress after which an attempt counts as failed
_ENDLESS = 1_000_000  # retries: only the time limit ends them
# boto3's credentials last at least 10 minutes; with obstore's default of 30 it would use expired ones.
_TTL = timedelta(minutes=10)
_ENDPOINTS = {"az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"), "gs": ("GOOGLE_BASE_URL",)}
_FIRST, _MOST = timedelta(seconds=FIRST), timedelta(seconds=MOST)  # the pauses of our own retries
_RENEWAL = 60.0  # the least age in seconds at which a bucket's clients are replaced


class Clients(NamedTuple):
    """Three clients of one bucket, which differ in timeouts and retries.

    `patient` retries each request itself for as long as `store.patience` lasts; the others never retry. `quick` waits
    10 s for an answer, the others 60 s.
    """

    quick: ObjectStore
    slow: ObjectStore
    patient: ObjectStore
    endpoint: str
    temporary: bool = False  # the credentials expire and are renewed: a refused request may succeed with the next ones
    made: float = 0.0  # seconds, on the monotonic clock


def clients(place: Location, options: StoreOptions) -> Clients:
    """Return the process's clients for the bucket of `place`, created on first use.

    Raises `AccessError` for missing credentials or an invalid configuration, `StoreError` after a fork.
    """
    refuse_fork()
    memory = place.scheme == "memory"
    key = (place.scheme, place.bucket, place.account, StoreOptions() if memory else options)
    with _LOCK:
        if key not in _CLIENTS:
            _STARTED.append(os.getpid())
            _CLIENTS[key] = _memory() if memory else _make(place, options)
        return _CLIENTS[key]


def renewed(place: Location, options: StoreOptions, refused: Clients) -> Clients | None:
    """Replace clients whose credentials were refused by clients with fresh credentials.

    Returns None if that would change nothing: the keys don't expire, or the clients are less than a minute old (new
    credentials may be refused for some seconds).
    """
    return replaced(place, options, refused, _RENEWAL) if refused.temporary else None


def replaced(place: Location, options: StoreOptions, lost: Clients, age: float = 0.0) -> Clients | None:
    """Replace the clients `lost`, or return the ones with which another thread has already replaced them.

    Returns None if `lost` are younger than `age` seconds, or belong to a memory store, whose content would be lost.
    """
    if place.scheme == "memory":
        return None
    key = (place.scheme, place.bucket, place.account, options)
    with _LOCK:
        current = _CLIENTS.get(key, lost)
        if current is lost:
            if time.monotonic() - lost.made < age:
                return None
            current = _CLIENTS[key] = _make(place, options)
        return current


def refuse_fork() -> None:
    """Raise `StoreError` in a forked child: obstore's threads don't survive a fork, so requests would block forever."""
    if _STARTED and _STARTED[-1] != os.getpid():
        fix = 'start workers with multiprocessing_context="spawn" or "forkserver"'
        raise StoreError("this process was forked after an object store was used, so it can't use one", fix=fix)


_CLIENTS: dict[tuple[str, str, str, StoreOptions], Clients] = {}
_LOCK = threading.Lock()  # two threads must not create two memory stores with one name
_STARTED: list[int] = []  # ids of the processes, this one and its parents, in which obstore has run


def _after_fork() -> None:
    global _LOCK  # a thread of the parent may have held the lock
    _LOCK = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _memory() -> Clients:
    from obstore.store import MemoryStore

    store = MemoryStore()
    return Clients(store, store, store, "memory")


def _make(place: Location, options: StoreOptions) -> Clients:
    from obstore import store

    config, endpoint, provider, temporary = _s3(options) if place.scheme == "s3" else _other(place, options)
    kinds: dict[str, Any] = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}

    def client(read_timeout: int, retries: int) -> ObjectStore:
        made: ObjectStore = kinds[place.scheme](
            place.bucket,
            config=config,
            credential_provider=provider,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=_CONNECT),
                "read_timeout": timedelta(seconds=read_timeout),
                "timeout": timedelta(minutes=10),
            },
            retry_config={
                "max_retries": retries,
                "retry_timeout": timedelta(seconds=options.patience),
                "backoff": {"init_backoff": _FIRST, "max_backoff": _MOST, "base": 2},
            },
        )
        return made

    try:
        three = client(_READ, 0), client(_UPLOAD, 0), client(_UPLOAD, _ENDLESS)
        return Clients(*three, endpoint, temporary, time.monotonic())
    except Exception as error:  # noqa: BLE001  (configuration errors have many types, and their text may quote a secret)
        text = f"{place.scheme}://{place.bucket} cannot be opened ({type(error).__name__})"
        raise AccessError(text, fix=f"check the environment variables for {place.scheme}") from None


def _other(place: Location, options: StoreOptions) -> tuple[dict[str, Any], str, Any, bool]:
    """Return the configuration for GCS or Azure, where obstore finds the credentials.

    Its chain: environment, application default credentials, the machine's identity. Returns (config, endpoint,
    provider, temporary), as `_s3` does.
    """
    config: dict[str, Any] = {"account_name": place.account} if place.account else {}
    host = "storage.googleapis.com" if place.scheme == "gs" else f"{place.account or 'account'}.blob.core.windows.net"
    given = options.endpoint or next(filter(None, map(os.environ.get, _ENDPOINTS[place.scheme])), None)
    if given:
        check_endpoint(given)
        config["endpoint" if place.scheme == "az" else "base_url"] = given
    return config, given or f"https://{host}", None, False


def _s3(options: StoreOptions) -> tuple[dict[str, Any], str, Any, bool]:
    """Return the configuration for S3, with credentials from boto3's chain.

    Its chain: options, environment, profile, SSO, roles, the machine's identity.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, HTTPClientError
    from botocore.exceptions import ConnectionError as AwayError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session(profile_name=options.profile, region_name=options.region)
        region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
        endpoint = session.client("s3", endpoint_url=options.endpoint, region_name=region).meta.endpoint_url
        check_endpoint(endpoint)
        if session.get_credentials() is None:
            raise AccessError(f"no AWS credentials were found for {endpoint}", fix=CREDENTIALS)
        provider = Boto3CredentialProvider(session, ttl=_TTL)
        # This call reports an expired login with boto3's message, before the first request does.
        temporary = bool(provider().get("token"))
    except TutelageError:
        raise
    except (AwayError, HTTPClientError) as error:  # from the service that issues credentials
        raise TransientError(f"AWS: no credentials yet ({type(error).__name__})", fix=CREDENTIALS) from None
    except (BotoCoreError, ValueError) as error:  # unknown profile, expired SSO login, a broken ~/.aws/config
        raise AccessError(f"AWS: {' '.join(str(error).split())[:200]}", fix=CREDENTIALS) from None
    return {"endpoint": endpoint, "region": region}, endpoint, provider, temporary
