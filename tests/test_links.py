"""The table of links: no cycle, no pair twice, signs that agree on every way, clean words."""

import re
from collections import Counter, defaultdict

import pytest

from data.laws import FIELDS
from data.links import LINKS
from data.statements import RISES, claims_of, statement

WORD = r"(?:[a-z]+(?:-[a-z]+)*|pH)"


def test_counts_by_field():
    fields = Counter(link.field for link in LINKS)
    new = Counter(link.field for link in LINKS if link.new)
    assert len(LINKS) >= 150 and fields.keys() == set(FIELDS)
    assert all(new[field] >= 10 and fields[field] > 3 * new[field] for field in FIELDS)
    assert min(fields.values()) >= 40


def test_no_pair_twice_and_none_both_ways_in_a_field():
    assert len({(link.cause, link.effect) for link in LINKS}) == len(LINKS)
    pairs = {(link.field, frozenset((link.cause, link.effect))) for link in LINKS}
    assert len(pairs) == len(LINKS) and all(len(pair) == 2 for _, pair in pairs)


def test_no_quantity_is_a_cause_of_itself():
    """Take away the quantities without a cause, again and again: nothing may be left."""
    left = {(link.field, link.cause, link.effect) for link in LINKS}
    while left:
        effects = {(field, effect) for field, _, effect in left}
        stay = {row for row in left if row[:2] in effects}
        assert len(stay) < len(left), stay
        left = stay


def test_all_ways_of_up_to_three_links_between_two_quantities_have_one_sign():
    signs = {(link.field, link.cause, link.effect): link.sign for link in LINKS}
    after = defaultdict(set)
    for field, cause, effect in signs:
        after[field, cause].add(effect)
    found = defaultdict(set)
    for (field, a, b), one in signs.items():
        found[field, a, b].add(one)
        for c in after[field, b]:
            two = one * signs[field, b, c]
            found[field, a, c].add(two)
            for d in after[field, c]:
                found[field, a, d].add(two * signs[field, c, d])
    assert len(found) > 500
    assert not [ends for ends, both in found.items() if len(both) > 1]
    pooled = defaultdict(set)  # a question does not name its field
    for (_, *ends), both in found.items():
        pooled[tuple(ends)] |= both
    assert not [ends for ends, both in pooled.items() if len(both) > 1]


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_each_link_is_whole_and_clean(link):
    for name in (link.cause, link.effect, link.thing):
        assert re.fullmatch(f"{WORD}(?: {WORD}){{0,3}}", name), name
    assert link.sign in (1, -1) and link.cause != link.effect
    for text in (link.condition, link.source):
        assert text and text == text.strip() and not re.search(r"[.;\n]|  ", text)
    assert "answer" not in link.condition and len(link.condition) <= 60
    # Both names come back out of a sentence as they are.
    for then in (RISES, -RISES):
        said = statement(link.cause, RISES, link.effect, then)
        assert claims_of(said) == {(link.cause.lower(), link.effect.lower(), then)}
        other = f"the {link.effect} {'increases' if then == RISES else 'decreases'}"
        assert claims_of(f"When the {link.cause} increases, {other}.") == claims_of(said)


def test_a_quantity_belongs_to_one_field_or_is_the_same_there():
    """A name that two fields share is asked about within one: its links stay apart."""
    fields = defaultdict(set)
    for link in LINKS:
        fields[link.cause].add(link.field)
        fields[link.effect].add(link.field)
    shared = {name for name, places in fields.items() if len(places) > 1}
    assert len(shared) < 10, shared
