"""Repeated pictures: counted against a slow, obvious count, for any rows."""

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.components.data.validate.repeats import find_repeats

ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.sampled_from(["train", "validation", "test"])))


@given(ROWS)
def test_counts_are_those_of_a_slow_count(rows: list[tuple[int, int, str]]) -> None:
    pictures, labels, splits = ([row[column] for row in rows] for column in range(3))
    found = find_repeats(np.array(pictures, int), np.array(labels, int), np.array(splits, np.str_))

    per_split: dict[str, Counter[int]] = defaultdict(Counter)
    seen_labels = defaultdict(set)
    places = defaultdict(list)
    for row, (picture, label, split) in enumerate(rows):
        per_split[split][picture] += 1
        seen_labels[picture].add(label)
        places[picture].append(row)
    assert found.surplus == {split: sum(counts.values()) - len(counts) for split, counts in per_split.items()}
    assert found.conflicting == sum(len(labels) > 1 for labels in seen_labels.values())
    assert found.shared == {f"{one}/{other}": len(per_split[one].keys() & per_split[other].keys())
                            for one, other in combinations(per_split, 2)}
    assert dict(found.groups) == {picture: where for picture, where in places.items() if len(where) > 1}


def test_the_largest_group_comes_first() -> None:
    groups = find_repeats(np.array([5, 3, 3, 5, 3]), np.zeros(5, int), np.full(5, "train")).groups

    assert groups == [(3, [1, 2, 4]), (5, [0, 3])]
