"""A finished base in a small file: what comes back, and what is refused."""

import json
import shutil
from dataclasses import fields, replace

import pytest
import torch

import rcsd
from tiny import FLAGS, ROOT, TINY, link_inputs, weights
from trainer import packed
from trainer.checkpoints import load, save
from trainer.packed import corpus_digest, main
from trainer.settings import PRESETS, Settings

SHIPPED = ROOT / "shipped" / "base.pt"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run whose data and base are finished."""
    out = tmp_path_factory.mktemp("packed") / "run"
    for stage in ("data", "base"):
        assert rcsd.main([stage, "--out", str(out), *FLAGS]) == 0
    return out


@pytest.fixture(scope="module")
def file(base):
    path = base.parent / "shipped" / "base.pt"
    assert main([str(base), str(path)]) == 0
    return path


def start(out, path, *more, stages=("data", "base")):
    """A run from the file, up to the first stage that is refused; its exit code."""
    for stage in stages:
        code = rcsd.main([stage, "--out", str(out), *FLAGS, "--start", str(path), *more])
        if code:
            return code
    return 0


def test_a_run_from_the_file_has_its_weights_tokenizer_and_questions(base, file, tmp_path):
    out = tmp_path / "out"
    assert start(out, file) == 0
    ours, theirs = weights(out / "base.pt"), weights(base / "base.pt")
    assert ours.keys() == theirs.keys() and {w.dtype for w in ours.values()} == {torch.float32}
    for name, w in theirs.items():
        assert torch.equal(ours[name], w.to(torch.bfloat16).float()), name
    made = {p.name for p in (base / "data").iterdir()} - {"base.jsonl", "data.json"}
    assert made == {p.name for p in (out / "data").iterdir()} - {"data.json"}
    for name in made:
        assert (out / "data" / name).read_bytes() == (base / "data" / name).read_bytes()
    assert file.stat().st_size < 0.8 * (base / "base.pt").stat().st_size


def test_stage_one_goes_on_from_it_and_other_counts_of_questions_do_no_harm(file, tmp_path):
    more = ("--test-questions", "8", "--stage1-questions", "12", "--stage1-steps", "1")
    out = tmp_path / "out"
    assert start(out, file, *more, stages=("data", "base", "stage1")) == 0
    assert len((out / "data" / "test_new.jsonl").read_text().splitlines()) == 8
    assert start(out, file, *more, "--resume", stages=("data", "base", "stage1")) == 0


def test_another_seed_has_the_same_base_and_other_questions(base, file, tmp_path):
    out, stages = tmp_path / "out", ("data", "base", "stage1")
    more = ("--seed", "3", "--stage1-steps", "1")
    assert start(out, file, *more, stages=stages) == 0
    assert start(out, file, *more, "--resume", stages=stages) == 0
    ours, theirs = weights(out / "base.pt"), weights(base / "base.pt")
    for name, w in theirs.items():
        assert torch.equal(ours[name], w.to(torch.bfloat16).float()), name
    tokenizer = [(folder / "data" / "tokenizer.txt").read_bytes() for folder in (out, base)]
    assert tokenizer[0] == tokenizer[1]
    rows = [json.loads(line)["sections"] for line in lines(base, "base")]
    corpus = {text for sections in rows for _, text in sections}
    for name in ("stage1", "stage2", "valid", "test_known", "test_new", "test_hard"):
        mine, base_run = (
            {json.loads(line)["question"] for line in lines(folder, name)} for folder in (out, base)
        )
        assert len(mine - base_run) > len(mine) / 2, name
        assert not name.startswith("test") or mine.isdisjoint(corpus)


def lines(out, name):
    return (out / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "more, message",
    [
        (("--base-rows", "301"), "base_rows=300, not 301"),
        (("--explanation-share", "0.2"), "explanation_share="),
        (("--exposure-count", "9"), "exposure_count=8, not 9"),
        (("--vocab-size", "401"), "vocab_size=400, not 401"),
        (("--n-layer", "2"), "n_layer=1, not 2"),
        (("--n-embd", "48"), "n_embd=32, not 48"),
        (("--base-steps", "7"), "base_steps=6, not 7"),
    ],
)
def test_other_settings_are_refused(file, tmp_path, capsys, more, message):
    refused(start(tmp_path / "out", file, *more), capsys, message)


def refused(code, capsys, *messages):
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1, said
    for message in messages:
        assert message in said


@pytest.mark.parametrize("bad", ["no file", "text", "checkpoint", "damaged"])
def test_a_file_that_is_no_packed_base_is_refused(base, file, tmp_path, capsys, bad):
    path = tmp_path / "base.pt"
    if bad == "text":
        path.write_text("hello")
    elif bad == "checkpoint":
        shutil.copy(base / "base.pt", path)
    elif bad == "damaged":
        content = torch.load(file, weights_only=True)
        content["tokenizer"] += "x"
        torch.save(content, path)
    message = "trainer.packed" if bad == "checkpoint" else str(path)
    refused(start(tmp_path / "out", path), capsys, message)
    assert not (tmp_path / "out" / "base.pt").exists()


def test_an_unfinished_base_is_not_packed(base, tmp_path, capsys):
    out = tmp_path / "run"
    link_inputs(base, out)
    content = load(base / "base.pt")
    save(out / "base.pt", content | {"step": content["step"] - 1})
    refused(main([str(out), str(tmp_path / "file.pt")]), capsys, "not finished", "--resume")
    assert not (tmp_path / "file.pt").exists()
    refused(main([str(tmp_path), str(tmp_path / "file.pt")]), capsys, "no such checkpoint")


def test_another_generator_of_the_corpus_is_refused(file, tmp_path, capsys, monkeypatch):
    real = packed.corpus_of

    def changed(**settings):
        for i, row in enumerate(real(**settings)):
            yield [*row[:-1], (row[-1][0], row[-1][1] + "!")] if i == 17 else row

    monkeypatch.setattr(packed, "corpus_of", changed)
    refused(start(tmp_path / "out", file), capsys, "another corpus")


def test_the_digest_is_of_the_data_alone():
    tiny = {name: x for name, x in TINY.items() if name in {f.name for f in fields(Settings)}}
    settings = replace(Settings(), **tiny)
    one = corpus_digest(settings)
    assert one == corpus_digest(replace(settings, base_rows=4000, base_steps=9, lr=0.1))
    assert one != corpus_digest(replace(settings, seed=1))
    assert one != corpus_digest(replace(settings, explanation_share=0.1))


@pytest.mark.skipif(not SHIPPED.exists(), reason="no base is shipped")
def test_the_shipped_base_fits_preset_quick_and_todays_corpus():
    content, settings = load(SHIPPED), Settings(**PRESETS["quick"])
    for name, value in settings.up_to("base").items():
        if name not in ("start", *packed.FREE):
            assert content["settings"][name] == value, name
    made = replace(settings, seed=content["settings"]["seed"])
    assert content["inputs"]["corpus"] == corpus_digest(made)
    assert content["step"] == content["steps"] and SHIPPED.stat().st_size < 4e6
