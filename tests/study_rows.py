"""Rows of a study by hand, as the runner writes them."""

import json
import random
from pathlib import Path

from study.read import GROUPS, KEY_GROUPS, SAMPLED_GROUPS
from study.runs import RUNS

SIZES = dict(zip(GROUPS, (60, 45, 50, 30, 20, 40, 35)))


def made(run, seed=0, share=0.7, **changes) -> dict:
    """A line of runs.jsonl; its answers depend on run and seed alone, and each seed has other
    questions."""
    rng = random.Random(f"{run} {seed}")
    sizes = {name: n + 3 * seed for name, n in SIZES.items()}
    row = {
        "run": run,
        "seed": seed,
        "lr": 0.001,
        "flags": RUNS[run].flags if run in RUNS else {},
        "correct": {
            name: "".join("01"[rng.random() < share] for _ in range(n)) for name, n in sizes.items()
        },
        "score": {name: 0.9 + i / 100 for i, name in enumerate(GROUPS)},
        "length": {name: 40.0 + i for i, name in enumerate(GROUPS)},
        "curve": [[20, 10_000, 0.9, 0.5], [40, 20_000, 0.9, 0.7]],
        "kept": 40,
        "steps": 60,
        "sampled_tokens": 30_000,
        "seconds": 61.2,
        "train": {"clipped": 0.1, "gradient_flipped": None},
        "valid": 0.8,
        "machine": "x86_64, cpu",
    }
    return {**row, **changes}


def model(run, seed=0, share=0.7, **changes) -> dict:
    """A line of a model without training, with only the fields that the runner gives it."""
    row = made(run, seed, share, steps=0, curve=[], **changes)
    return {
        k: v
        for k, v in row.items()
        if k not in ("lr", "kept", "sampled_tokens", "seconds", "train", "valid")
    }


def sampled(right: str, distinct: str) -> dict:
    """What a line has of the samples to the questions, the same in each group."""
    return {"sampled": {group: {"right": right, "distinct": distinct} for group in SAMPLED_GROUPS}}


def tuned(method, lr, valid, seed=9) -> dict:
    """A line of the grid of learning rates: it has no test."""
    row = made(f"lr-{method}-{lr:g}", seed, lr=lr, flags={"method": method}, valid=valid)
    return {k: v for k, v in row.items() if k not in ("correct", "score", "length")}


def indexed(*rows) -> dict:
    runs = {}
    for row in rows:
        runs.setdefault(row["run"], {})[row["seed"]] = row
    return runs


def everything() -> list[dict]:
    keys = {"stage1": {group: 0.9 - i / 10 for i, group in enumerate(KEY_GROUPS)}}
    rows = []
    for run in RUNS.values():
        for seed in run.seeds:
            row = made(run.name, seed, 0.6, **(keys if run.name == "noisy-writer" else {}))
            rows.append(row | (sampled("8021", "1332") if run.is_sampled(seed) else {}))
    for seed in range(5):
        own = sampled("4000", "2568") if seed < 3 else {}
        rows += [
            model("base", seed, 0.3, valid_new=0.3, valid_known=0.9, **own),
            model("teacher-reference", seed),
            model("teacher-learned", seed, **keys),
            model("teacher-pitfalls", seed),
        ]
    for lr in (0.0005, 0.002):
        rows.append(tuned("grpo", lr, 0.8))
    return rows + [{"run": "prepared", "seed": 9, "flags": {}, "machine": "x86_64", "steps": 0}]


def save(path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
