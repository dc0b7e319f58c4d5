"""Object-store errors translated into one actionable line, and classified: is a retry useful?

obstore's messages contain the request, the whole response and a debug dump (40 lines and more). Only three facts are
extracted: the HTTP status, the store's error code, and the kind of network failure. Nothing else is passed on, so no
signature, token or header can end up in a log.
"""

from __future__ import annotations

import re

from curation.core.errors import (
    AccessError,
    ArchivedError,
    BucketError,
    ChangedError,
    NotFoundError,
    StoreError,
    UnavailableError,
    UnsafeStoreError,
)

_STATUS = re.compile(r"status code: (\d{3})|status: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
# boto3 could not reach the service that issues its credentials.
_NO_CREDENTIALS = re.compile(
    r"credential provider: (HTTPClient|ConnectTimeout|ReadTimeout|EndpointConnection|ConnectionClosed|ProxyConnection"
    r"|CredentialRetrieval|MetadataRetrieval)Error"
)
_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")
# obstore's messages about a proxy's page with status 200: no listing XML, no etag, a whole body for a range request.
_FOREIGN = re.compile(
    r"invalid (list|DeleteObjects|[\w ]+) response|header not present|header missing|Failed to parse value for"
    r"|non-partial response|Requested \d+\.\.\d+, got",
    re.IGNORECASE,
)
_MISSING_BUCKET = {"NoSuchBucket", "ContainerNotFound", "AccountNotFound"}
_ACCESS = {
    "AccessDenied", "AllAccessDisabled", "AuthenticationFailed", "AuthorizationFailure", "ExpiredToken", "Forbidden",
    "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired",
}  # fmt: skip
_ARCHIVED = {"InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"}
_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
_BUSY = {"RequestTimeout", "SlowDown", "OperationAborted", "ConditionalRequestConflict", "InternalError", "ServerBusy"}
_NETWORK = {
    "Connect": "could not be reached",
    "Timeout": "did not answer in time",
    "Interrupted": "interrupted the connection",
    "Request": "could not be reached",
    "Decode": "interrupted an answer",
    "Unknown": "could not be used (unknown network error)",
}


class TransientError(UnavailableError):
    """One attempt failed for a reason that may pass. It is retried within the budget (`curation.storage.retry`)."""


def is_web_page(data: bytes) -> bool:
    """Whether bytes look like the page that a proxy or a login form sends instead of an object."""
    return data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<?xml"))


def explain(error: BaseException, place: str, bucket: str, endpoint: str) -> StoreError:
    """Translate an obstore error into one of `curation.core.errors`.

    `place` is the object's URL; `bucket` and `endpoint` are named in the message.
    """
    text = str(error)
    status = next((int(a or b) for a, b in _STATUS.findall(text)), 0)
    found = _CODE.search(text)
    code = found[1] if found else ""
    name = type(error).__name__
    if code in _MISSING_BUCKET or (status == 404 and "bucket does not exist" in text):
        return missing_bucket(bucket, endpoint)
    if isinstance(error, FileNotFoundError) or status == 404:
        return NotFoundError(f"{place} does not exist")
    if name in ("PreconditionError", "NotModifiedError") or status == 412:
        return ChangedError(f"{place} is not the object it was", fix="plan again: curate run")
    if _NO_CREDENTIALS.search(text):
        return TransientError(f"credentials for {endpoint} could not be renewed", fix=CREDENTIALS)
    if code in _ARCHIVED:
        return ArchivedError(f"{place} is archived", fix="restore it from its storage class, and run again")
    if code in _CLOCK:
        return AccessError(f"{endpoint} refused a request signed by this machine's clock", fix="set the clock")
    if name in ("PermissionDeniedError", "UnauthenticatedError") or status in (401, 403) or code in _ACCESS:
        return _denied(name, code, status, place, endpoint)
    if status in (301, 307, 308) or "redirect" in text[:300].lower():
        return StoreError(f"bucket {bucket} is in another region", fix="name it: store: {region: ...} or AWS_REGION")
    if status == 501 or code == "NotImplemented" or name == "NotSupportedError":
        text = f"{endpoint} does not implement a required operation ({code or 'not implemented'})"
        return UnsafeStoreError(text, fix=SAFE_STORES)
    return _failure(status, code, text, place, endpoint)


SAFE_STORES = "use a store that honours If-None-Match: * (S3, GCS, Azure, MinIO, seaweedfs 4 and later, a local disk)"


def missing_bucket(bucket: str, endpoint: str) -> BucketError:
    """Return the error for a bucket that does not exist."""
    return BucketError(f"bucket {bucket} does not exist at {endpoint}", fix="create it, or check its name and endpoint")


CREDENTIALS = "check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile) and their permissions"
_OTHER_CREDENTIALS = "check the credentials of the environment or this machine, and their permissions"


def _denied(name: str, code: str, status: int, place: str, endpoint: str) -> AccessError:
    fix = CREDENTIALS if place.startswith("s3:") else _OTHER_CREDENTIALS
    if name == "UnauthenticatedError" and not status:
        return AccessError(f"no valid credentials were found for {endpoint}", fix=fix)
    return AccessError(f"{endpoint} refused access to {place} ({code or status})", fix=fix)


def _failure(status: int, code: str, text: str, place: str, endpoint: str) -> StoreError:
    if status >= 500 or status in (408, 409, 429) or code in _BUSY:
        return TransientError(f"{endpoint} answered {status or ''} {code} for {place}".replace("  ", " "), fix=LATER)
    if status:
        return StoreError(f"{endpoint} answered {status} {code} for {place}".replace("  ", " "))
    kind = _KIND.search(text)
    if "BadScheme" in text:
        return StoreError(f"{endpoint} is not a usable endpoint", fix="write https://host:port")
    if kind or "error sending request" in text or "reqwest::Error" in text:
        what = _NETWORK.get(kind[1] if kind else "Request", "could not be reached")
        if "dns error" in text:
            what = "could not be reached (unknown host name)"
        return TransientError(f"{endpoint} {what}", fix="check the endpoint and the network")
    if _FOREIGN.search(text):
        return foreign_answer(place, endpoint)
    return StoreError(f"{place}: {_first_line(text)}")


def foreign_answer(place: str, endpoint: str) -> TransientError:
    """Return the error for an answer of status 200 that does not come from an object store, such as a proxy's page."""
    fix = "check the endpoint, and the proxies in front of it"
    return TransientError(f"the answer of {endpoint} for {place} does not come from an object store", fix=fix)


LATER = "run the same command again later"


def _first_line(text: str) -> str:
    return re.sub(r"\s+", " ", text.split("\n")[0].split("Debug source")[0])[:200]
