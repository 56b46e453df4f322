"""Fixtures that several files of tests share."""

import copy
import json
import os
import signal
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import pages
from data import explanations, generate
from data.load import load_examples
from data.prepare import prepare
from data.questions import exposures
from oracle import draws
from report import explain
from study.sections import Report
from study_rows import everything, indexed
from tiny import SMALL_DATA, STAGES, run_script
from trainer.checkpoints import load
from trainer.settings import Settings

TAKEN = os.environ.get("TAKEN")  # a folder that the two runs of run.sh share


def pytest_collection_modifyitems(items):
    if TAKEN:  # most long files are at the end: begun first, they do not leave one run alone
        items.sort(key=lambda item: item.path, reverse=True)


@cache
def takes(path):
    """Is this file of tests for this run? Yes if the other run has not taken it before."""
    try:
        Path(TAKEN, path.name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def pytest_runtest_protocol(item):
    return True if TAKEN and not takes(item.path) else None  # True: passed over


# run.sh starts one of its two runs beside itself. A shell makes such a process deaf to Ctrl-C, and
# so would be the commands that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A tiny run of all stages, evaluated. Tests only read it, or link to it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    for stage in STAGES:
        run_script([stage], out)
    run_script([], out, script="evaluate.py")
    return out


@pytest.fixture(scope="session")
def mine(tmp_path_factory):
    """(model folder, data file): a random Qwen3 with a chat tokenizer, and questions with rubrics."""
    from own_model import make_mine

    return make_mine(tmp_path_factory.mktemp("mine"))


@pytest.fixture(scope="session")
def own_run(mine, tmp_path_factory):
    """Both stages on one's own model and questions, evaluated. Tests only read it, or copy it."""
    from own_model import run

    out = tmp_path_factory.mktemp("own")
    for command in ("data", "base", "stage1", "stage2", "evaluate"):
        assert run(mine, out, command, "--rubrics", "reference") == 0
    return out


@pytest.fixture(scope="session")
def many():
    """Problems of every kind with the example made from each."""
    return list(draws(6000))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A small run's files, its sets loaded, and every example behind base.jsonl, in order."""
    out, rows = tmp_path_factory.mktemp("data"), []

    def recording(example):
        def record(problem, rng, id, **options):
            e = example(problem, rng, id, **options)
            rows.append(e)
            return e

        return record

    with pytest.MonkeyPatch.context() as patch:
        for module in (explanations, generate):
            patch.setattr(module, "example", recording(module.example))
        prepare(out, seed=0, **SMALL_DATA)
    sets = {}
    for path in out.glob("*.jsonl"):
        if path.stem != "base":
            sets[path.stem], report = load_examples(path)
            assert report.kept == len(sets[path.stem]) and not report.dropped
    sets["exposure"] = exposures(SMALL_DATA["exposure_count"], SMALL_DATA["explanation_share"], 0)
    sets["base"] = [e for e in rows if e.id == ""]
    return out, sets


@pytest.fixture(scope="session")
def run(finished):
    """That run as the report opens it, with models far from uniform and far from each other."""
    settings = replace(Settings(), **load(finished / "stage2.pt")["settings"], device="cpu")
    run = explain.open_run(finished, settings)
    for seed, model in enumerate((run.base, run.student)):
        torch.manual_seed(seed)
        for p in model.parameters():
            p.data += 0.3 * torch.randn(p.shape)
    return run


@pytest.fixture(scope="session")
def report(finished):
    """Its report, with one more answer that is right and criteria with links, as a trained model
    would have."""
    by_hand = pages.by_hand()
    made = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    made["link_tokens"] = by_hand["link_tokens"]
    for e in made["examples"]:
        answer = e["answers"][0] | {"links": by_hand["examples"][1]["answers"][1]["links"]}
        e["answers"] = [copy.deepcopy(answer) | {"right": right} for right in (True, False)]
    return made


@pytest.fixture(scope="session")
def study_report():
    """The report of a study of which every run is there."""
    return Report(indexed(*everything()), ".")
