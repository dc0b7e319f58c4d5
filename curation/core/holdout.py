"""The held-out split, by hash: the same samples for every corpus, run and machine, without a list.

Samples are held out by *group*: all samples with the same name, because icon sets repeat an image under one name in
several styles and packs, and a split by sample would leak it. Samples without a name are grouped by the bytes of their
image, whatever their captions, so an exact duplicate never falls on both sides of the split.

An image with two names can still fall on both sides. Only a list of all images could detect this; `curate evaluate`
counts the images that make a figure too optimistic, and the filter `exact_duplicates` removes them beforehand.
"""

from __future__ import annotations

from hashlib import sha256

HOLDOUT_RULE = (
    2  # increment it with any change of the rule: identities include it. Rule 1 grouped unnamed samples by uid
)


def group_of(name: str, image: bytes) -> str:
    """Return the group of a sample: its normalised `name`, or the content hash of its image where the name is empty.

    Cost for a sample without a name: 1 ms a megabyte of image.
    """
    return group_of_name(name) or content_of(image)


def group_of_name(name: str) -> str:
    """Return the group for a name, ignoring case and punctuation; "" for an empty name."""
    return " ".join("".join(c if c.isalnum() else " " for c in name.casefold()).split())


def content_of(image: bytes) -> str:
    """Return the content hash of an image as the index and the manifest record it: 32 hexadecimal characters."""
    return sha256(image).hexdigest()[:32]


def is_held_out(group: str, share: float) -> bool:
    """Whether the hash of `group` falls into the held-out `share` (0 to 1)."""
    return int.from_bytes(sha256(group.encode()).digest()[:8], "big") < share * 2**64
