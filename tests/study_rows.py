"""Rows of a study by hand, as the runner writes them."""

import json
import random
from pathlib import Path

from study.runs import RUNS, TABLES

SIZES = {"known": 40, "new": 60, "hard": 50}


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
        "score": {"known": 0.99, "new": 0.97, "hard": 0.9},
        "length": {"known": 41.0, "new": 42.5, "hard": 44.0},
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


def indexed(*rows) -> dict:
    runs = {}
    for row in rows:
        runs.setdefault(row["run"], {})[row["seed"]] = row
    return runs


def everything() -> list[dict]:
    keys = {"stage1": {"key_new": 0.9, "key_known": 1.0}}
    rows = [
        made(run.name, seed, 0.6, **(keys if run.name.startswith("stage1") else {}))
        for run in RUNS.values()
        for seed in range(5 if run.name in TABLES["main"] else 3)
    ]
    for seed in range(5):
        rows += [
            model("base", seed, 0.3, valid_new=0.3),
            model("teacher-reference", seed),
            model("teacher-learned", seed, **keys),
        ]
    return rows + [
        made(f"lr-grpo-{lr:g}", lr=lr, flags={"method": "grpo"}) for lr in (0.0005, 0.002)
    ]


def save(path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
