"""The exception tree, and the reason codes that a sample or a unit can carry.

Every error a user can cause is a `TutelageError`: one line that says what happened and where, and `fix`, which
says what to do about it. `code` is for machines and `exit_code` is what the `curate` command returns.

Reason codes are not exceptions to a caller of the pipeline: `TarError` and `ImageError` are raised at the point of
discovery and end as a `quarantined(reason)` in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class TutelageError(Exception):
    """Base of everything raised on purpose. `str(error)` is one line; `error.fix` may be empty."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:  # keeps `fix` when Ray carries the error to the driver
        return _rebuild, (type(self), str(self), self.__dict__.copy())


def _rebuild(cls: type[TutelageError], message: str, state: dict[str, object]) -> TutelageError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


@contextmanager
def locating(what: str) -> Iterator[None]:
    """Prefix user errors raised in the block with `what`: `file:line: name`, where the recipe made the mistake.

    An error that already begins with this place passes unchanged. The class, and with it the reason code, stays.
    """
    try:
        yield
    except UserError as error:
        place = what.partition(": ")[0]
        if str(error).startswith(place):
            raise
        raise type(error)(f"{what}: {error}", fix=error.fix) from None


# --- mistakes of the user -------------------------------------------------------------------------------------


class UserError(TutelageError, ValueError):
    """Something that only the user can put right."""

    code = "user_error"
    exit_code = 2


class RecipeError(UserError):
    """The recipe does not say something that can be run; the message names line and key."""

    code = "bad_recipe"


class UnknownNameError(UserError):
    """A name that is in none of the tables (scorer, filter, model, corpus); the fix names the nearest one."""

    code = "unknown_name"


class EmptyCorpusError(UserError):
    """No shard matches the corpus' patterns."""

    code = "empty_corpus"


class WeightsError(UserError):
    """Weights that are missing, have another sha256 than the recipe says, or are not safetensors."""

    code = "bad_weights"


class NoSnapshotError(UserError):
    """The URL holds no snapshot, or not the one asked for."""

    code = "no_snapshot"


# --- the object store -----------------------------------------------------------------------------------------


class StoreError(TutelageError):
    """The object store could not do what was asked."""

    code = "store_error"
    exit_code = 3


class UnavailableError(StoreError):
    """The store failed, and went on failing for as long as `store.patience` allows. It may be back later."""

    code = "store_unavailable"


class NotFoundError(StoreError):
    """No such object."""

    code = "not_found"


class BucketError(StoreError):
    """The bucket (or the root directory of a local corpus) does not exist."""

    code = "missing_bucket"


class AccessError(StoreError):
    """Credentials are missing, wrong, or do not allow this."""

    code = "access_denied"


class ArchivedError(StoreError):
    """The object lies in a storage class that it must be restored from before it can be read."""

    code = "object_archived"


class ChangedError(StoreError):
    """The object's etag is no longer the planned one: it was overwritten after the plan was made."""

    code = "object_changed"


class UnsafeStoreError(StoreError):
    """The store ignores create-only puts, so nothing can be committed to it."""

    code = "unsafe_store"


# --- this machine ---------------------------------------------------------------------------------------------


class LocalDiskError(TutelageError):
    """This machine's disk for temporary files is full or can't be written."""

    code = "local_disk"
    exit_code = 3


# --- the ledger -----------------------------------------------------------------------------------------------


class LedgerError(TutelageError):
    """The ledger's records do not fit together."""

    code = "ledger_error"
    exit_code = 4


class ConservationError(LedgerError):
    """seen != kept + filtered + quarantined, or a uid occurs twice: no snapshot may be made of it."""

    code = "conservation"


class IncompleteError(LedgerError):
    """Some units could not be finished; run the same command again to go on."""

    code = "incomplete"


class YieldError(TutelageError):
    """The decision is more likely a mistake than meant: `curate run` makes no snapshot of it unless told to."""

    code = "low_yield"
    exit_code = 5


class LostSnapshotError(LedgerError):
    """LATEST names a snapshot whose document is gone: an older one is not opened in its place without a word."""

    code = "snapshot_lost"


class VerifyError(LedgerError):
    """`curate verify` found a difference between the ledger and the bytes."""

    code = "verify_failed"


# --- reasons: what is wrong with a shard, a member or an image ------------------------------------------------


class ReasonError(TutelageError):
    """A finding about input data; `reason` is the code under which it is counted."""

    code = "bad_input"

    def __init__(self, reason: str, message: str = "", *, fix: str = "") -> None:
        super().__init__(message or reason, fix=fix)
        self.reason = reason


class TarError(ReasonError):
    """The shard is not a complete, well-formed tar; `offset` is where that became clear (bytes)."""

    code = "bad_tar"

    def __init__(self, reason: str, message: str = "", *, offset: int = 0) -> None:
        super().__init__(reason, message)
        self.offset = offset


class ImageError(ReasonError):
    """The image cannot, or must not, be decoded."""

    code = "bad_image"
