"""The study's numbers: intervals against a plain loop, means and crossings by hand."""

import numpy as np
import pytest

from study.sections import Report
from study.statistics import (
    MEASURES,
    accuracies,
    crossing,
    difference,
    mean_curve,
    resample,
    share_of_gain,
    spread,
    summary,
)
from study_rows import SIZES, indexed, made, model


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
    found = np.zeros((draws, 4, len(names)))
    for d in range(draws):
        for _ in seeds:
            seed = seeds[rng.integers(len(seeds))]
            for i, name in enumerate(("new", "hard", "known")):
                answers = right[seed, name]
                found[d, i] += answers[
                    :, rng.integers(answers.shape[1], size=answers.shape[1])
                ].mean(1) / len(seeds)
        found[d, 3] = found[d, :3].mean(0)
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
    draws = slow_bootstrap(runs, ("rcsd-learned", "rcsd-reference", "base"), 4000)
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
    assert np.std(draws[:, 3, 0]) == pytest.approx(
        np.std(resample(runs, ("rcsd-learned",), [0, 1, 2])[:, 3, 0]), rel=0.08
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
        and difference(runs, "a", "b")["new"]["value"] == -1
    )
    assert difference(runs, "a", "nowhere") is None
    assert difference(indexed(made("a", 0), made("b", 1)), "a", "b") is None


def test_share_of_gain_by_hand_and_none_without_a_gain():
    def answers(share):
        return {
            "correct": {
                name: "1" * (n * share // 10) + "0" * (n - n * share // 10)
                for name, n in SIZES.items()
            }
        }

    runs = indexed(
        made("base", **answers(1)),
        made("rcsd-learned", **answers(7)),
        made("rcsd-reference", **answers(9)),
    )
    assert share_of_gain(runs)["new"]["value"] == pytest.approx(6 / 8)
    assert share_of_gain(runs)["average"]["value"] == pytest.approx(6 / 8)
    assert share_of_gain({**runs, "rcsd-reference": runs["base"]}) is None
    assert share_of_gain({"base": runs["base"]}) is None


def test_accuracies_mean_and_standard_deviation_by_hand():
    first = made("sft", 0, correct={"new": "1100", "hard": "1000", "known": "1111"}, lr=0.001)
    second = made(
        "sft", 1, correct={"new": "1110", "hard": "11111", "known": "11"}, lr=0.002, kept=20
    )
    assert accuracies(first) == pytest.approx([0.5, 0.25, 1, 1.75 / 3])
    found = summary({1: second, 0: first})
    assert found["seeds"] == [0, 1] and found["lr"] == [0.001, 0.002]
    assert found["new"] == pytest.approx({"mean": 0.625, "sd": 0.125 * 2**0.5})
    assert found["average"]["mean"] == pytest.approx((1.75 + 2.75) / 6)
    assert found["average"]["sd"] == pytest.approx((1 / 3) / 2**0.5)
    assert (
        found["kept"]["mean"] == 30
        and found["gradient_flipped"] is None
        and found["clipped"]["mean"] == pytest.approx(0.1)
    )
    alone = summary({0: model("base", 0)})
    assert alone["new"]["sd"] is None and alone["seconds"] is None and alone["lr"] == []
    assert spread([None, 2, 4]) == {"mean": 3, "sd": pytest.approx(2**0.5)} and spread([]) is None


@pytest.mark.parametrize(
    "points, expected",
    [
        ([(0, 2.0), (30, -1.0)], 20),
        ([(0, 1.0), (10, 3.0), (30, 1.0), (50, -3.0)], 35),
        ([(0, 1.0), (50, 0.0)], None),
        ([(0, 0.0), (10, -1.0)], 0),
        ([(0, -1.0), (10, 1.0)], 0),
        ([(0, 1.0), (10, -1.0), (30, 1.0), (50, -1.0)], 5),
        ([(10, 2.0)], None),
        ([], None),
    ],
)
def test_crossing(points, expected):
    assert crossing(points) == (None if expected is None else pytest.approx(expected))


def test_crossings_of_the_report():
    def right(share, seed):
        return {"correct": {name: ("1" * share).ljust(100, "0") for name in SIZES}}

    shares = {
        "rcsd-learned": 80,
        "opsd": 90,
        "opsd-10": 88,
        "opsd-30": 82,
        "opsd-50": 72,
        "rcsd-reference": 95,
        "noisy-50": 81,
    }
    rows = [
        made(name, seed, **right(share + seed, seed))
        for name, share in shares.items()
        for seed in range(2)
    ]
    report = Report(indexed(*rows), "pictures")
    assert report.crossings["opsd"]["average"] == pytest.approx(34)  # from +2 at 30 to -8 at 50
    assert (
        report.crossings["rcsd-reference"] == {"up to": 50, "average": None, "new": None}
        and "sft" not in report.crossings
    )
    text = "\n".join(report.parts)
    assert "opsd, corrupted solutions: 34%; rcsd, noisy rubrics: none up to 50%" in text


def test_mean_curve_by_hand():
    rows = [
        made("opsd", 0, curve=[[20, 1000, 0, 0.5], [40, 2000, 0, 0.6]]),
        made("opsd", 1, curve=[[20, 3000, 0, 0.7], [40, 4000, 0, 0.8], [60, 9000, 0, 0.9]]),
    ]
    assert mean_curve(indexed(*rows), "opsd") == [pytest.approx((2, 60)), pytest.approx((3, 70))]
    base = [model("base", 0, valid_new=0.2), model("base", 1, valid_new=0.4)]
    assert mean_curve(indexed(*rows, *base), "opsd")[0] == pytest.approx((0, 30))
    assert (
        len(mean_curve(indexed(*rows, base[0]), "opsd")) == 2
    )  # a start for one seed alone would bend the mean
