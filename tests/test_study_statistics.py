"""The study's numbers: intervals against a plain loop, means and crossings by hand."""

import numpy as np
import pytest

from study.read import GROUPS
from study.statistics import (
    MEASURES,
    accuracies,
    best_rate,
    difference,
    mean_curve,
    resample,
    sampled_difference,
    share_of_gain,
    spread,
    summary,
)
from study_rows import SIZES, indexed, made, model, sampled


def slow_bootstrap(runs, names, draws) -> np.ndarray:
    """[draws, measure, run] by drawing seeds and questions one by one."""
    rng = np.random.default_rng(7)
    seeds = sorted(set.intersection(*(set(runs[name]) for name in names)))
    right = {
        (seed, name): np.array(
            [[int(c) for c in runs[run][seed]["correct"][name]] for run in names]
        )
        for seed in seeds
        for name in SIZES
    }
    found = np.zeros((draws, 8, len(names)))
    for d in range(draws):
        for _ in seeds:
            seed = seeds[rng.integers(len(seeds))]
            for i, name in enumerate(GROUPS):
                answers = right[seed, name]
                found[d, i] += answers[
                    :, rng.integers(answers.shape[1], size=answers.shape[1])
                ].mean(1) / len(seeds)
        found[d, 7] = found[d, :7].mean(0)
    return found


def test_intervals_are_those_of_resampling_by_index():
    runs = indexed(
        *(made("rcsd-learned", s, 0.85) for s in range(4)),
        *(made("rcsd-reference", s, 0.9) for s in range(3)),
        *(made("base", s, 0.2) for s in range(3)),
    )
    for seed in range(3):  # answers that go together: an unpaired interval would be too wide
        runs["rcsd-reference"][seed]["correct"] = {
            name: text[:-9] + "110111011"
            for name, text in runs["rcsd-learned"][seed]["correct"].items()
        }
    draws = slow_bootstrap(runs, ("rcsd-learned", "rcsd-reference", "base"), 3000)
    pairs = [
        ("rcsd-reference", draws[..., 0] - draws[..., 1]),
        ("base", draws[..., 0] - draws[..., 2]),
    ]
    for found, slow in [
        *((difference(runs, "rcsd-learned", other), slow) for other, slow in pairs),
        (share_of_gain(runs), (draws[..., 0] - draws[..., 2]) / (draws[..., 1] - draws[..., 2])),
    ]:
        assert found["seeds"] == [0, 1, 2]
        for i, m in enumerate(MEASURES):
            if m in found:
                low, high = np.percentile(slow[:, i], (2.5, 97.5))
                tolerance = 0.08 * (high - low) + 0.002
                assert found[m]["low"] == pytest.approx(low, abs=tolerance), m
                assert found[m]["high"] == pytest.approx(high, abs=tolerance), m
                assert found[m]["low"] <= found[m]["value"] <= found[m]["high"]
    assert np.std(draws[:, 7, 0]) == pytest.approx(
        np.std(resample(runs, ("rcsd-learned",), [0, 1, 2])[:, 7, 0]), rel=0.08
    )


def test_same_answers_differ_by_nothing_and_opposite_ones_by_all():
    runs = indexed(
        *(
            made(name, s, share)
            for s in range(3)
            for name, share in (("a", 1), ("b", 0), ("c", 0.5))
        )
    )
    runs["same"] = runs["c"]
    for a, b, expected in (("a", "b", 1), ("b", "a", -1), ("c", "same", 0)):
        for m in MEASURES:
            assert set(difference(runs, a, b)[m].values()) == {expected}


def test_differences_use_shared_seeds_and_need_one():
    runs = indexed(made("a", 0, 1), made("a", 1, 0), made("b", 1, 1), made("b", 2, 0))
    assert (
        difference(runs, "a", "b")["seeds"] == [1]
        and difference(runs, "a", "b")["new laws"]["value"] == -1
    )
    assert difference(runs, "a", "nowhere") is None
    assert difference(indexed(made("a", 0), made("b", 1)), "a", "b") is None


def test_share_of_gain_by_hand_and_none_without_a_gain():
    def answers(share):
        return {"correct": {name: "1" * (10 * share) + "0" * (100 - 10 * share) for name in SIZES}}

    runs = indexed(
        made("base", **answers(1)),
        made("rcsd-learned", **answers(7)),
        made("rcsd-reference", **answers(9)),
    )
    assert share_of_gain(runs)["new links"]["value"] == pytest.approx(6 / 8)
    assert share_of_gain(runs)["average"]["value"] == pytest.approx(6 / 8)
    assert share_of_gain({**runs, "rcsd-reference": runs["base"]}) is None
    assert share_of_gain({"base": runs["base"]}) is None


def test_accuracies_mean_and_standard_deviation_by_hand():
    same = dict.fromkeys(GROUPS, "1")
    answers = {"new laws": "1100", "unseen chain": "1000", "known links": "00"}
    first = made("sft", 0, correct=same | answers, lr=0.001)
    second = made("sft", 1, correct=same | {"new laws": "1110"}, lr=0.002, kept=20)
    assert accuracies(first) == pytest.approx([0.5, 1, 1, 0.25, 1, 1, 0, 4.75 / 7])
    found = summary({1: second, 0: first})
    assert found["seeds"] == [0, 1] and found["lr"] == [0.001, 0.002]
    assert found["new laws"] == pytest.approx({"mean": 0.625, "sd": 0.125 * 2**0.5})
    assert found["average"]["mean"] == pytest.approx((4.75 + 6.75) / 14)
    assert found["average"]["sd"] == pytest.approx((2 / 7) / 2**0.5)
    assert found["score"]["mean"] == pytest.approx(0.93)  # 0.90, 0.91, ... 0.96
    assert found["length"]["mean"] == pytest.approx(43)
    assert (
        found["kept"]["mean"] == 30
        and found["gradient_flipped"] is None
        and found["clipped"]["mean"] == pytest.approx(0.1)
    )
    falls = [[50, 1, 0.9, 0.7], [100, 2, 0.5, 0.1]]
    found = summary({0: made("rcsd-400", 0, curve=falls)})
    assert found["best"]["mean"] == pytest.approx(0.8)
    assert found["last"]["mean"] == pytest.approx(0.3)
    alone = summary({0: model("base", 0)})
    assert alone["new laws"]["sd"] is None and alone["seconds"] is None and alone["lr"] == []
    assert spread([None, 2, 4]) == {"mean": 3, "sd": pytest.approx(2**0.5)} and spread([]) is None


def test_the_best_rate_is_the_lowest_of_the_best():
    assert best_rate({0.001: 0.5, 0.002: 0.9, 0.005: 0.7}) == 0.002
    assert best_rate({0.005: 0.9, 0.001: 0.9, 0.0003: 0.1}) == 0.001


def test_samples_by_hand():
    row = made("sft", 0, **sampled("8140", "1352"))  # of 8: 8, 1, 4, 0 right
    found = summary({0: row, 1: made("sft", 1)})["sampled"]
    assert found["new laws, pass@1"]["mean"] == pytest.approx(13 / 32)
    assert found["new links, pass@8"]["mean"] == pytest.approx(3 / 4)
    assert found["new laws, distinct"] == {"mean": pytest.approx(11 / 4), "sd": None}
    assert summary({0: made("sft")})["sampled"] == {}


def test_intervals_of_samples_are_those_of_resampling_by_index():
    rng, texts = np.random.default_rng(3), {}
    for name, most in (("a", 8), ("b", 6)):
        for seed in range(3):
            right = "".join(map(str, rng.integers(0, most + 1, 30 + seed)))
            distinct = "".join(map(str, rng.integers(1, most, 30 + seed)))
            texts[name, seed] = right, distinct
    runs = indexed(*(made(n, s, **sampled(*x)) for (n, s), x in texts.items()), made("b", 3))
    found, draws = sampled_difference(runs, "a", "b"), []
    assert found["seeds"] == [0, 1, 2]

    def worth(name, seed, chosen):
        right, distinct = (np.array([int(c) for c in text]) for text in texts[name, seed])
        right, distinct = right[chosen], distinct[chosen]
        return np.array([right.mean() / 8, (right > 0).mean(), distinct.mean()])

    for _ in range(4000):
        total = np.zeros(3)
        for seed in rng.integers(3, size=3):
            chosen = rng.integers(30 + seed, size=30 + seed)
            total += (worth("a", seed, chosen) - worth("b", seed, chosen)) / 3
        draws.append(total)
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    for i, measure in enumerate(("pass@1", "pass@8", "distinct")):
        ours, tolerance = found[f"new links, {measure}"], 0.08 * (high[i] - low[i])
        whole = [worth("a", s, slice(None)) - worth("b", s, slice(None)) for s in range(3)]
        assert ours["value"] == pytest.approx(np.mean(whole, 0)[i])
        assert ours["low"] == pytest.approx(low[i], abs=tolerance), measure
        assert ours["high"] == pytest.approx(high[i], abs=tolerance), measure
    assert sampled_difference(runs, "a", "nowhere") is None


def test_mean_curve_by_hand():
    rows = [
        made("opsd", 0, curve=[[20, 1000, 0.1, 0.5], [40, 2000, 0.2, 0.6]]),
        made("opsd", 1, curve=[[20, 3000, 0.3, 0.7], [40, 4000, 0.6, 0.8], [60, 9000, 0, 0.9]]),
    ]
    runs = indexed(*rows)
    assert mean_curve(runs, "opsd", "new") == [pytest.approx((2, 60)), pytest.approx((3, 70))]
    steps = mean_curve(runs, "opsd", "known", "steps")
    assert steps == [pytest.approx((20, 20)), pytest.approx((40, 40))]
    base = [model("base", 0, valid_new=0.2), model("base", 1, valid_new=0.4)]
    assert mean_curve(indexed(*rows, *base), "opsd", "new")[0] == pytest.approx((0, 30))
    # A start for one seed alone would bend the mean.
    assert len(mean_curve(indexed(*rows, base[0]), "opsd", "new")) == 2
