"""data/prepare.py as a command: the sample to read, errors, defaults, no torch."""

import os
import re
import subprocess
import sys
from dataclasses import fields

import pytest

import data.prepare as prepare_module
from data.explanations import KINDS as WHY
from data.laws import BY_NAME, FIELDS
from data.prepare import USES, main, sample, show
from data.questions import KINDS
from tiny import ROOT


def test_sample_is_what_its_command_prints():
    committed = (ROOT / "data" / "sample.md").read_text(encoding="utf-8")
    command = re.search(r"`python (-m data\.prepare --show 40 --seed \d+)`", committed[:200])
    run = subprocess.run(
        [sys.executable, *command[1].split()],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONHASHSEED": "3"},
    )
    assert run.returncode == 0 and run.stdout == committed


def test_sample_shows_every_kind_use_and_field():
    rows = sample(60, 0)
    assert {(use, e.meta["kind"]) for use, e in rows} == {
        (use[0], kind) for use in USES for kind in (*KINDS, *WHY)
    }
    assert {e.meta["field"] for _, e in rows} == {*FIELDS, "invented"} and {
        e.meta["new"] for _, e in rows
    } == {True, False}
    text = show(rows, "python")
    for use, e in rows:
        for part in (
            e.question,
            e.answer,
            *e.solution.split("\n"),
            use,
            *(c.description for c in e.rubric.criteria),
        ):
            assert part in text
        assert all(f"| `{c.check}` |" in text for c in e.rubric.criteria)
        if e.meta["law"] in BY_NAME:
            assert BY_NAME[e.meta["law"]].source in text


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--show 0", "argument --show: expected a whole number from 1 to 100,000, got '0'"),
        ("--show x", "argument --show: expected a whole number"),
        ("", "--show --out is required"),
        ("--show 2 --out x", "not allowed with"),
        ("--out {file}", "File exists"),
        ("--out {file}/x", "Not a directory"),
        ("--out {dir} --base-rows -1", "argument --base-rows: expected a whole number"),
        ("--out {dir} --vocab-size 90", "--vocab-size: expected at least 264"),
        (
            "--out {dir} --exposure-share 1.5",
            "argument --exposure-share: expected a number from 0 to 1, got '1.5'",
        ),
    ],
)
def test_command_line_errors_are_one_line_and_code_2(flags, message, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    try:
        code = main(flags.format(file=tmp_path / "file", dir=tmp_path / "dir").split())
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2 and message in said.err and said.err.count("\n") == 1 and not said.out
    assert not (tmp_path / "dir").exists()


def test_command_line_defaults_are_the_cpu_preset(monkeypatch, tmp_path):
    settings = pytest.importorskip("trainer.settings").Settings()
    called = {}
    monkeypatch.setattr(prepare_module, "prepare", lambda out, **args: called.update(args))
    main(["--out", str(tmp_path)])
    made = {f.name for f in fields(settings) if f.metadata["stage"] == "data"} - {"start"}
    assert called == {name: getattr(settings, name) for name in made}


def test_data_needs_no_torch():
    code = "import sys, data.prepare, rubrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
