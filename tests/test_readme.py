"""What README says is run: its commands, its flags, its files, and the method of one's own."""

import re
import shlex

import pytest

import forks
import rcsd
import step
from data.load import load_examples
from data.tokenizer import encode, read_tokenizer
from rubrics import Rubric
from tiny import FLAGS, ROOT, TINY, link_run, read_log
from trainer.command_line import settings_parser

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]
COMMANDS += re.findall(r"`(python (?:rcsd|evaluate)\.py [^`]*)`", README.replace("\n", " "))


def test_it_is_short_and_names_only_what_is_there():
    assert len(README.splitlines()) <= 220
    links = [
        link.split("#")[0]
        for link in re.findall(r"\]\(([^)\s]+)\)", README)
        if not link.startswith("http")
    ]
    assert len(links) > 15 and [link for link in links if not (ROOT / link).exists()] == []
    flags = {flag for action in settings_parser("")._actions for flag in action.option_strings}
    flags |= {"--quick", "--summary", "--question", "--rubric"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README)) <= flags


def test_its_table_of_methods_is_the_programs():
    rows = re.findall(r"^\| `--method` \| .*$", README, re.M)
    assert len(rows) == 1 and set(re.findall(r"`([a-z-]+)`", rows[0].split(":")[1])) <= set(
        rcsd.METHODS
    )


def test_its_python_commands_run(finished, tmp_path):
    """Each as it stands, but for the folders and a tiny model."""
    ran, here = [], link_run(finished, tmp_path / "run")
    (here / "rubrics.jsonl").symlink_to(finished / "rubrics.jsonl")
    for line in COMMANDS:
        if not line.startswith("python ") or "--summary" in line or "--method symmetric" in line:
            continue
        argv = [
            word.replace("out/cpu", str(here)).replace("out/mine", str(tmp_path / "mine"))
            for word in shlex.split(line)[1:]
        ]
        if argv[1:2] == ["explain"]:
            argv += ["--out", str(here)]
        done = forks.run([str(ROOT / argv[0]), *argv[1:], *FLAGS])
        assert done.returncode == 0, (line, done.stderr)
        ran.append(" ".join(shlex.split(line)[1:3]))
    assert {"rcsd.py stage2", "evaluate.py --out", "evaluate.py explain"} <= set(ran), ran


def test_its_method_of_ones_own_is_the_mean_of_both_divergences(finished, tmp_path):
    """Added to a copy of rcsd.py as README says; the first loss is the mean of the losses of --beta 0 and --beta 1."""
    part = re.search(r"<!-- own method -->(.*?)<!-- /own method -->", README, re.S)[1]
    function, row = re.findall(r"```python\n(.*?)```", part, re.S)
    assert len((function + row).splitlines()) < 20
    source = (
        (ROOT / "rcsd.py")
        .read_text(encoding="utf-8")
        .replace("from dataclasses import dataclass", "from dataclasses import dataclass, replace")
    )
    source = source.replace("\nMETHODS = {\n", f"\n{function}\n\nMETHODS = {{\n{row}")
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in ROOT.iterdir():
        if path.name not in ("rcsd.py", "out", ".git", ".venv"):
            (copy / path.name).symlink_to(path)
    (copy / "rcsd.py").write_text(source, encoding="utf-8")
    losses = {}
    for name, flags in {
        "forward": ["--beta", "0"],
        "reverse": ["--beta", "1"],
        "own": ["--method", "symmetric"],
        "heaviest": ["--method", "heaviest", "--rubrics", "reference"],
        "whole": ["--rubrics", "reference"],
    }.items():
        out = tmp_path / name
        where = ["--from", str(finished), "--out", str(out)]
        done = forks.run([str(copy / "rcsd.py"), "stage2", *where, *FLAGS, *flags])
        assert done.returncode == 0, done.stderr
        log = read_log(out / "stage2.jsonl")
        assert len(log) == TINY["stage2_steps"]
        losses[name] = log[0]["loss"]
    assert losses["own"] == pytest.approx((losses["forward"] + losses["reverse"]) / 2, rel=1e-5)
    assert losses["forward"] != pytest.approx(losses["reverse"], rel=1e-4)
    assert losses["heaviest"] != losses["whole"]  # this teacher reads another rubric


def test_a_teacher_reads_the_rubric_as_its_method_edits_it(finished, tmp_path, monkeypatch):
    """By hand: the prompts of the teacher hold the first criterion of each reference rubric alone."""
    prompts = []

    def loss_fn(student, teacher, micro_batch, num_tokens, settings):
        prompts.extend(r.teacher_prompt_ids for r in micro_batch)
        return step.distillation(student, teacher, micro_batch, num_tokens, settings)

    method = rcsd.Method(
        loss_fn, uses_teacher=True, edit_rubric=lambda rubric: Rubric(rubric.criteria[:1])
    )
    monkeypatch.setitem(rcsd.METHODS, "first", method)
    flags = [*FLAGS, "--method", "first", "--rubrics", "reference"]
    out = tmp_path / "first"
    assert rcsd.main(["stage2", "--from", str(finished), "--out", str(out), *flags]) == 0
    tokenizer = read_tokenizer(finished)
    possible = []
    for e in load_examples(finished / "data" / "stage2.jsonl")[0]:
        first = f"{e.rubric.criteria[0].weight:g} {e.rubric.criteria[0].description}"
        sections = [("question", e.question), ("rubric", first), ("solve", "")]
        possible.append(encode(tokenizer, sections))
    assert len(prompts) == TINY["stage2_steps"] * TINY["batch"]
    assert all(ids in possible for ids in prompts)
