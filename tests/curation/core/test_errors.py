"""The tree of exceptions: every error has a code, an exit code and a fix, and survives the way to another process."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

from curation.core import errors
from curation.core.errors import ImageError, RecipeError, StoreError, TutelageError, UserError


def classes(base: type[TutelageError] = TutelageError) -> Iterator[type[TutelageError]]:
    """All errors of the tree, parents before their children."""
    yield base
    for child in base.__subclasses__():
        yield from classes(child)


OURS = [cls for cls in classes() if cls.__module__ == errors.__name__]


def test_codes_are_words_and_no_two_errors_share_one() -> None:
    assert all(cls.code.replace("_", "").isalpha() and cls.code.islower() for cls in OURS)
    own = [cls.code for cls in OURS if "code" in vars(cls)]
    assert len(own) == len(set(own)) > 10


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)
def test_an_error_says_why_it_exists_and_ends_the_command(cls: type[TutelageError]) -> None:
    assert (cls.__doc__ or "").strip()
    assert 1 <= cls.exit_code <= 9
    if issubclass(cls, UserError):
        assert issubclass(cls, ValueError), "Python's own word for a wrong argument"


@pytest.mark.parametrize("way", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301  (ours)
def test_what_an_error_carries_survives_another_process(way: object) -> None:
    error = RecipeError("recipe:3: no such key", fix="leave it out")
    error.__dict__["extra"] = 7
    again = way(error)  # type: ignore[operator]
    assert type(again) is RecipeError and str(again) == str(error)
    assert vars(again) == vars(error)
    image = way(ImageError("image_truncated", "only 3 bytes"))  # type: ignore[operator]
    assert image.reason == "image_truncated" and str(image) == str(ImageError("image_truncated", "only 3 bytes"))


def test_a_users_mistake_is_not_a_stores_failure() -> None:
    assert not issubclass(RecipeError, StoreError) and not issubclass(StoreError, UserError)
