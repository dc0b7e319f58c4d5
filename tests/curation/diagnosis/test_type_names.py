"""Names of types: terms by log-odds, deterministic, and none where nothing is distinct."""

from curation.diagnosis.type_names import distinct_terms, name_of, terms_of


def test_terms_are_words_and_plain_values() -> None:
    found = terms_of("A Dog, at night!", {"camera": 7, "name": "dog", "box": [1], "tutelage": "x"}, ("name",))
    assert found == {"dog", "at", "night", "camera=7"}


def test_the_most_distinct_terms_make_the_name() -> None:
    ours = [frozenset({"dog", "night"})] * 8 + [frozenset({"dog", "rain"})] * 2 + [frozenset({"dog"})]
    others = [frozenset({"dog", "day"})] * 20 + [frozenset({"dog", "rain"})] * 3
    assert distinct_terms(ours, others) == ["night"]
    assert distinct_terms(ours, ours) == [] and distinct_terms([], others) == []
    assert name_of("dog", "cat", ["night"]) == "dog as cat: night" and name_of("dog", "cat", []) == "dog as cat"
