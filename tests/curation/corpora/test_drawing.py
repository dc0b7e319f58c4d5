"""Choices by hash: the same on every machine, in proportion to their weights."""

from __future__ import annotations

from collections import Counter

from curation.corpora.drawing import Drawing, SeededChoices, order


def test_a_choice_depends_on_seed_key_and_question_alone() -> None:
    dice = SeededChoices(0, "apple")
    rolls = [dice.roll("size"), SeededChoices(1, "apple").roll("size"), SeededChoices(0, "pear").roll("size")]
    assert len({*rolls, dice.roll("ink")}) == 4 and all(0 <= roll < 1 for roll in rolls)
    assert SeededChoices(0, "apple").roll("size") == rolls[0] == dice.roll("size"), "in any order"


def test_options_are_picked_in_proportion_to_their_weights() -> None:
    seen = Counter(SeededChoices(0, f"key {n}").pick("size", "abc", [6, 3, 1]) for n in range(3000))
    for option, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
        assert abs(seen[option] - 3000 * share) < 4 * (3000 * share * (1 - share)) ** 0.5


def test_the_order_mixes_packs_and_follows_the_seed() -> None:
    drawings = [
        Drawing(key=f"{pack}-{n}", kind="icon", pack=pack, name="x", svg="", licence="MIT", origin="")
        for pack in ("one", "other") for n in range(50)
    ]  # fmt: skip
    first, second = ([d.key for d in sorted(drawings, key=lambda d: order(seed, d))] for seed in (0, 1))
    assert first != second and sorted(first) == sorted(second)
    assert 5 < sum(key.startswith("one") for key in first[:30]) < 25
