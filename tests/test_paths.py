"""Paths through the links: how many, which set has them, and invented ones."""

import random
import re
from collections import Counter
from functools import lru_cache
from itertools import combinations

import pytest

from data.laws import FIELDS
from data.links import LINKS
from data.paths import PATHS, invented_path, paths_of, split_of, twin_links
from data.questions import exposures, questions

SEEDS = (0, 1, 2)
SOLELY = dict(explanation_share=1)


@lru_cache
def sets_of(seed):
    """Small sets of questions that ask why: {"train", "valid", "test", "hard"}."""
    taken = {
        "test": questions("test_known", 90, "test", seed, new_share=0.5, **SOLELY),
        "hard": questions("test_hard", 150, "test", seed, new_share=0.5, hard=True, **SOLELY),
        "valid": questions("valid", 80, "valid", seed, new_share=0.5, **SOLELY),
    }
    train = questions("stage2", 700, "train", seed, new_share=0.6, **SOLELY)
    return taken | {"train": train + exposures(200, 1, seed)}


def test_counts_by_recursion():
    def ways(field, cause, more):
        """How many paths of `more` links begin at a quantity."""
        if more == 0:
            return 1
        ends = [link.effect for link in LINKS if (link.field, link.cause) == (field, cause)]
        return sum(ways(field, end, more - 1) for end in ends)

    lengths = Counter(len(path.links) for path in PATHS)
    starts = {(link.field, link.cause) for link in LINKS}
    for more in (1, 2, 3):
        assert lengths[more] == sum(ways(field, cause, more) for field, cause in starts)
    assert lengths.keys() == {1, 2, 3} and len({path.name for path in PATHS}) == len(PATHS)
    for path in PATHS:
        assert all(a.effect == b.cause for a, b in zip(path.links, path.links[1:]))
        downs = sum(link.sign < 0 for link in path.links)
        assert path.sign == (-1 if downs % 2 else 1)
        assert path.new == any(link.new for link in path.links)


def test_each_path_is_in_one_set_of_its_field_and_length():
    found = Counter()
    for field in FIELDS:
        for new in (False, True):
            for length in (1, 2, 3):
                for split in ("train", "valid", "hard"):
                    paths = paths_of(field, new, length, split)
                    found.update(path.name for path in paths)
                    assert {path.new for path in paths} <= {new}
                    assert bool(paths) == (length > 1 or split == "train"), (field, new, length)
    assert found == Counter(path.name for path in PATHS)


def test_no_training_path_has_a_hard_or_validation_one_in_it():
    names = {s: [p.name for p in PATHS if split_of(p) == s] for s in ("train", "valid", "hard")}
    assert all(len(paths) > 60 for paths in names.values())
    for hard in names["hard"]:
        inside = re.compile(rf"(?:^|> ){re.escape(hard)}(?: >|$)")
        assert not any(inside.search(name) for name in names["train"] + names["valid"]), hard
    for valid in names["valid"]:
        assert not any(f"> {valid} >" in f"> {name} >" for name in names["train"]), valid


def ends_of(e):
    """The first and the last quantity of each path, by the name of its row."""
    for name in e.meta["law"].split(" and "):
        steps = name.split(" > ")
        yield steps[0], steps[-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_key_of_a_test_is_in_another_set(seed):
    sets = sets_of(seed)
    keys = {name: {k for e in rows for k in e.meta["keys"]} for name, rows in sets.items()}
    for name, other in combinations(keys, 2):
        if {name, other} != {"test", "hard"}:  # both are tests
            assert not keys[name] & keys[other], (name, other)
    assert len(keys["train"]) > 500


@pytest.mark.parametrize("seed", SEEDS)
def test_no_training_question_goes_along_a_hard_path(seed):
    """By text: no solution says the lines of a hard path in a row, whatever rises or falls."""
    sets, hard = sets_of(seed), set()
    for e in sets["hard"]:
        if e.meta["combination"] == "unseen":
            hard.add(tuple(e.meta["law"].split(" > ")))
    assert len(hard) > 60 and {len(steps) for steps in hard} == {3, 4}
    for e in sets["train"] + sets["valid"]:
        steps = walked(e.solution)
        for length in (3, 4):
            for i in range(len(steps) - length + 1):
                assert tuple(steps[i : i + length]) not in hard, e.solution


def walked(solution):
    """The quantities of a solution's lines in a row; a break where a line begins anew."""
    steps = []
    for line in solution.split("\n"):
        pair = re.findall(r"the (.+?) (?:rises|falls|stays the same|is greater|is lower)\b", line)
        if len(pair) == 2:
            steps += pair[1:] if steps and steps[-1] == pair[0] else [None, *pair]
    return steps


def test_the_conditions_tell_apart_paths_with_the_same_ends():
    """Else one question would have two solutions."""
    marks = Counter()
    for path in PATHS:
        ends = path.links[0].cause, path.links[-1].effect
        marks[ends, frozenset(link.condition for link in path.links)] += 1
    assert not [mark for mark, count in marks.items() if count > 1]


def test_twin_links_have_one_effect():
    for field in FIELDS:
        pairs = twin_links(field)
        assert len(pairs) > 10
        assert all(a.effect == b.effect and a.cause != b.cause for a, b in pairs)


def test_twin_links_change_freely_together():
    """By hand: no cause leads to the other, and none of the pairs that exclude each other is left."""
    causes = {frozenset((a.cause, b.cause)) for field in FIELDS for a, b in twin_links(field)}
    for pair in (
        ("stream speed", "bed erosion"),
        ("surface sunlight", "air temperature"),
        ("air temperature", "lake temperature"),
        ("acceleration", "hill height"),
        ("salt mass", "stock volume"),
    ):
        assert frozenset(pair) not in causes
    assert frozenset(("soil nitrate", "light intensity")) in causes


def test_invented_paths_join_no_two_quantities_of_a_real_path():
    after = {}
    for link in LINKS:
        after.setdefault((link.field, link.cause), set()).add(link.effect)

    def reached(field, name, more):
        found = set(after.get((field, name), ())) if more else set()
        return found.union(*(reached(field, far, more - 1) for far in found))

    real = {
        (field, name): reached(field, name, 3)
        for field in FIELDS
        for name in {link.cause for link in LINKS}
    }
    rng, signs = random.Random(5), Counter()
    for i in range(3000):
        path = invented_path(1 + i % 3, rng)
        names = [path.links[0].cause, *(link.effect for link in path.links)]
        assert len(set(names)) == len(path.links) + 1 == 2 + i % 3
        signs[path.sign] += 1
        for a, b in combinations(names, 2):
            assert not any(b in real[f, a] for f in FIELDS if (f, a) in real), (a, b)
            assert not any(a in real[f, b] for f in FIELDS if (f, b) in real), (a, b)
    assert abs(signs[1] - 1500) < 150
