"""Clients of S3, GCS and Azure: endpoint, region, credentials, timeouts. One set per process, bucket and options.

Making one for S3 costs 0.1-0.3 s (boto3 reads its configuration and finds credentials), so they are kept. Credentials
live in obstore's and boto3's objects only, are refreshed by them, and never travel with a Store.
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

_CONNECT, _READ, _UPLOAD = 5, 10, 60  # seconds without any progress before an attempt counts as failed
_ENDLESS = 1_000_000  # retries: seconds end them
# boto3 gives credentials that last 10 minutes at least; obstore's 30 would have it use some that have expired.
_TTL = timedelta(minutes=10)
_ENDPOINTS = {"az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"), "gs": ("GOOGLE_BASE_URL",)}
_FIRST, _MOST = timedelta(seconds=FIRST), timedelta(seconds=MOST)  # pauses, as in our own retries
_RENEWAL = 60.0  # seconds between two sets of clients of one bucket


class Clients(NamedTuple):
    """Three ways to talk to one bucket. `patient` retries each request by itself, as long as the patience lasts; the
    others never do. `quick` waits for an answer for 10 s, the others 60 s."""

    quick: ObjectStore
    slow: ObjectStore
    patient: ObjectStore
    endpoint: str
    temporary: bool = False  # credentials that are renewed: what they are refused may be allowed with the next
    made: float = 0.0


def clients(place: Location, options: StoreOptions) -> Clients:
    refuse_fork()
    memory = place.scheme == "memory"
    key = (place.scheme, place.bucket, place.account, StoreOptions() if memory else options)
    with _LOCK:
        if key not in _CLIENTS:
            _STARTED.append(os.getpid())
            _CLIENTS[key] = _memory() if memory else _make(place, options)
        return _CLIENTS[key]


def renewed(place: Location, options: StoreOptions, refused: Clients) -> Clients | None:
    """Clients with fresh credentials in the place of those that were refused. None where nothing would differ: keys
    without an end, or clients younger than a minute (credentials that are just made may be refused for seconds)."""
    return replaced(place, options, refused, _RENEWAL) if refused.temporary else None


def replaced(place: Location, options: StoreOptions, lost: Clients, age: float = 0.0) -> Clients | None:
    """Clients in the place of `lost`, or those that another thread has put there meanwhile. None where `lost` are
    younger than `age` seconds, or of a memory store, which can't be made again."""
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
    """obstore's threads do not survive a fork: every later request would wait forever. Say so instead."""
    if _STARTED and _STARTED[-1] != os.getpid():
        fix = 'start workers with multiprocessing_context="spawn" or "forkserver"'
        raise StoreError("an object store was used before this process was forked, so it cannot be used here", fix=fix)


_CLIENTS: dict[tuple[str, str, str, StoreOptions], Clients] = {}
_LOCK = threading.Lock()  # two threads must not make two memory stores of one name
_STARTED: list[int] = []  # the processes, this one or those it was forked from, in which obstore has run


def _after_fork() -> None:
    global _LOCK  # a thread of the parent may have held it
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
        ways = client(_READ, 0), client(_UPLOAD, 0), client(_UPLOAD, _ENDLESS)
        return Clients(*ways, endpoint, temporary, time.monotonic())
    except Exception as error:  # noqa: BLE001  (errors of configuration are of many types, and may quote a secret)
        text = f"{place.scheme}://{place.bucket} cannot be opened ({type(error).__name__})"
        raise AccessError(text, fix=f"check the environment's settings for {place.scheme}") from None


def _other(place: Location, options: StoreOptions) -> tuple[dict[str, Any], str, Any, bool]:
    """GCS and Azure: obstore's own chain (environment, application default credentials, the machine's identity)."""
    config: dict[str, Any] = {"account_name": place.account} if place.account else {}
    host = "storage.googleapis.com" if place.scheme == "gs" else f"{place.account or 'account'}.blob.core.windows.net"
    given = options.endpoint or next(filter(None, map(os.environ.get, _ENDPOINTS[place.scheme])), None)
    if given:
        check_endpoint(given)
        config["endpoint" if place.scheme == "az" else "base_url"] = given
    return config, given or f"https://{host}", None, False


def _s3(options: StoreOptions) -> tuple[dict[str, Any], str, Any, bool]:
    """Endpoint, region and credentials as boto3 finds them: options, environment, profile, SSO, roles, the machine."""
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
        # An expired login is reported here, in boto3's words, and not by the first request.
        temporary = bool(provider().get("token"))
    except TutelageError:
        raise
    except (AwayError, HTTPClientError) as error:  # of whoever gives credentials
        raise TransientError(f"AWS: no credentials yet ({type(error).__name__})", fix=CREDENTIALS) from None
    except (BotoCoreError, ValueError) as error:  # unknown profile, expired SSO login, a broken ~/.aws/config
        raise AccessError(f"AWS: {' '.join(str(error).split())[:200]}", fix=CREDENTIALS) from None
    return {"endpoint": endpoint, "region": region}, endpoint, provider, temporary
