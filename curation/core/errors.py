"""The exception tree, with the reason code and the exit status of each error.

Every error a user can cause is a `TutelageError`: its message is one line that says what is wrong and where, and `fix`
says what to do. `code` is for programs; `exit_code` is the exit status of the `curate` command.

Findings about input data never reach a caller of the pipeline as exceptions: `TarError` and `ImageError` are raised
where the damage is found and end as `quarantined(reason)` in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class TutelageError(Exception):
    """Base class of every error raised on purpose. `str(error)` is one line; `error.fix` may be empty."""

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


# --- the user's mistakes --------------------------------------------------------------------------------------


class UserError(TutelageError, ValueError):
    """A mistake that only the user can correct."""

    code = "user_error"
    exit_code = 2


class RecipeError(UserError):
    """An invalid recipe; the message names the line and the key."""

    code = "bad_recipe"


class EditListError(UserError):
    """An invalid edit list; the message names its URL and the row."""

    code = "bad_edit_list"


class ContradictingEditsError(EditListError):
    """Two edit lists ask for different things of one sample."""

    code = "contradicting_edits"


class UnknownNameError(UserError):
    """A name that is not in its table (scorers, filters, models, corpora); the fix suggests the nearest name."""

    code = "unknown_name"


class EmptyCorpusError(UserError):
    """A corpus whose patterns match no shard."""

    code = "empty_corpus"


class PinnedFileError(UserError):
    """A file that is missing, or whose sha256 differs from the recipe's."""

    code = "bad_file"


class WeightsError(PinnedFileError):
    """Weights that are missing, are not safetensors, or whose sha256 differs from the recipe's."""

    code = "bad_weights"


class NoSnapshotError(UserError):
    """A URL without any snapshot, or without the requested one."""

    code = "no_snapshot"


# --- the object store -----------------------------------------------------------------------------------------


class StoreError(TutelageError):
    """A request to the object store failed."""

    code = "store_error"
    exit_code = 3


class UnavailableError(StoreError):
    """The store kept failing for as long as `store.patience` allows; a later attempt may succeed."""

    code = "store_unavailable"


class NotFoundError(StoreError):
    """The object does not exist."""

    code = "not_found"


class BucketError(StoreError):
    """The bucket (or the root directory of a local corpus) does not exist."""

    code = "missing_bucket"


class AccessError(StoreError):
    """Credentials are missing, wrong, or lack the permission."""

    code = "access_denied"


class ArchivedError(StoreError):
    """The object is archived: its storage class requires a restore before it can be read."""

    code = "object_archived"


class ChangedError(StoreError):
    """The object's etag differs from the planned one: the object was overwritten after planning."""

    code = "object_changed"


class UnsafeStoreError(StoreError):
    """The store ignores create-only puts, so it can't hold commits."""

    code = "unsafe_store"


# --- this machine ---------------------------------------------------------------------------------------------


class LocalDiskError(TutelageError):
    """The disk for temporary files is full or not writable."""

    code = "local_disk"
    exit_code = 3


# --- the ledger -----------------------------------------------------------------------------------------------


class LedgerError(TutelageError):
    """The ledger's documents are damaged, missing, or contradict each other."""

    code = "ledger_error"
    exit_code = 4


class ConservationError(LedgerError):
    """seen != kept + filtered + quarantined, or a uid occurs twice: the snapshot is not created."""

    code = "conservation"


class IncompleteError(LedgerError):
    """Some units are unfinished; running the same command again continues."""

    code = "incomplete"


class YieldError(TutelageError):
    """A suspiciously low yield: `curate run` creates no snapshot unless the user confirms it."""

    code = "low_yield"
    exit_code = 5


class LostSnapshotError(LedgerError):
    """LATEST names a snapshot whose document is gone; an older snapshot is never opened silently in its place."""

    code = "snapshot_lost"


class VerifyError(LedgerError):
    """`curate verify` found a difference between the ledger and the stored bytes."""

    code = "verify_failed"


# --- findings about input data: a shard, a member or an image -------------------------------------------------


class ReasonError(TutelageError):
    """A finding about input data; `reason` is the code under which reports count it."""

    code = "bad_input"

    def __init__(self, reason: str, message: str = "", *, fix: str = "") -> None:
        super().__init__(message or reason, fix=fix)
        self.reason = reason


class TarError(ReasonError):
    """The shard is not a complete, well-formed tar; `offset` is the byte at which this was found."""

    code = "bad_tar"

    def __init__(self, reason: str, message: str = "", *, offset: int = 0) -> None:
        super().__init__(reason, message)
        self.offset = offset


class ImageError(ReasonError):
    """The image cannot, or must not, be decoded."""

    code = "bad_image"
