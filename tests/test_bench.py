"""bench/bench.py: what it races computes the same thing, and its table says what was measured. No
time is asserted."""

import json
import subprocess
import sys

import pytest

from bench import bench
from bench import contenders as contenders_module


@pytest.fixture(scope="module")
def contenders():
    return bench.loss_contenders("cpu", bench.loss_sizes("cpu", quick=True))["loss"]


@pytest.mark.parametrize(
    "name",
    [
        "distillation_loss",
        "the formula in checkpointed chunks",
        "TRL, generalized_jsd_loss",
        "Liger, fused linear JSD in torch chunks",
        "Liger, fused linear JSD in Triton",
    ],
)
def test_all_losses_have_the_same_gradient(contenders, name):
    """The race is fair: each contender's gradients are those of the plain formula, in the same
    normalisation."""
    wanted = contenders["the formula, eager"]()
    try:
        got = contenders[name]()
    except bench.Left as why:
        pytest.skip(str(why))
    for a, b in zip(got, wanted):
        assert a.abs().sum() > 0 and (a - b).norm() < 1e-4 * b.norm()


def test_the_sampler_rows_sample_what_they_say():
    rows = bench.sampler_contenders(
        "cpu", True, dict(bench.SMALL, n_layer=1, n_embd=32, mlp_width=32), 16
    )
    counts = {name: run() for name, run in rows.items() if "transformers" not in name}
    ending = counts.pop("generate, rows that end one after another")
    assert counts.pop("generate, 4 times the rows, half the tokens") == 4 * 16 * 8
    assert counts.pop("generate, 4 times the rows, each ends by itself") == 4 * sum(range(1, 17))
    assert set(counts.values()) == {16 * 16} and ending == sum(range(1, 17))


def test_the_table_by_hand():
    """Medians, ratios within a round, spread and peak: three rounds, the last on a machine twice as
    slow."""
    loss = {
        "the floor (floor)": {"seconds": [0.1, 0.1, 0.2], "tokens": None, "peak": 2**21},
        "ours": {"seconds": [0.2, 0.2, 0.4], "tokens": None, "peak": 2**20},
        "theirs": {"seconds": [0.3, 0.5, 0.6], "tokens": None, "peak": 2**22},
        "another's": {"left_out": "not installed"},
    }
    sampler = {
        "generate": {"seconds": [1.0, 1.0, 2.0], "tokens": 100},
        "half of it": {"seconds": [1.0, 1.0, 2.0], "tokens": 50},
    }
    found = {"machine": "a machine", "quick": False, "parts": {"loss": loss, "sampler": sampler}}
    got = [line.split() for line in bench.table(json.loads(json.dumps(found))).splitlines()]
    assert got[0] == ["a", "machine"] and got[2] == "loss ms spread / ours / floor peak MB".split()
    assert got[3][-5:] == ["100", "±50%", "0.50", "1.00", "2"]
    assert got[4][-5:] == ["200", "±50%", "1.00", "2.00", "1"]
    assert got[5][-5:] == ["500", "±30%", "1.50", "3.00", "4"]
    assert " ".join(got[6]) == "another's not measured: not installed"
    assert got[9] == ["generate", "100", "±50%", "1.00"] and got[10][-3:] == ["50", "±50%", "2.00"]


def test_the_sentence_of_the_readme():
    """Medians of the ratios within a round, a token; rows that were not measured have no clause."""
    loss = {
        "the matrix products alone (floor)": {"seconds": [1.0, 2.0, 4.0]},
        "distillation_loss": {"seconds": [1.5, 3.0, 4.0]},
        "TRL, generalized_jsd_loss": {"left_out": "not installed"},
    }
    sampler = {
        "generate": {"seconds": [1.0], "tokens": 100},
        "transformers, Qwen3 generate": {"seconds": [4.0], "tokens": 200},
    }
    parts = {"loss": loss, "sampler, 15 million parameters, 64 rows": sampler}
    assert bench.in_words({"machine": "M", "parts": parts}) == (
        "M: the loss takes 1.50 × the bare matrix products, 2.00 × with 15 million. More: [bench/](bench/README.md)."
    )


def test_readme_command_and_wrong_part(tmp_path, monkeypatch, capsys):
    results, readme = tmp_path / "bench.json", tmp_path / "README.md"
    results.write_text(
        json.dumps(
            {"machine": "m", "quick": True, "parts": {"loop": {"a step": {"seconds": [1.0]}}}}
        )
    )
    readme.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    monkeypatch.setattr(bench, "RESULTS", results)
    assert bench.main(["--readme", str(readme)]) == 0
    text = readme.read_text()
    assert (
        text.startswith("before\n<!-- bench -->")
        and text.endswith("<!-- /bench -->\nafter\n")
        and "old" not in text
    )
    assert "1,000" in text and "small shapes" in text
    with pytest.raises(SystemExit) as stop:
        bench.main(["engine"])
    assert (
        stop.value.code == 2
        and capsys.readouterr().err
        == "bench.py: part 'engine': expected loss, shapes, sampler, loop (see --help)\n"
    )


def test_peak_memory_of_a_known_case():
    """64 MiB written and freed again are seen; a process of its own, where nothing else was ever
    freed."""
    code = (
        "import torch; from bench.bench import peak_bytes\n"
        "print(peak_bytes(lambda: torch.ones(2**24).sum().item(), 'cpu'))"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux")
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=bench.ROOT
    )
    assert 64 * 2**20 <= int(out.stdout) < 80 * 2**20, out.stderr


def test_every_own_contender_of_sampler_and_step_runs():
    tiny = contenders_module.SMALL | {"vocab_size": 64}
    parts = [contenders_module.sampler_contenders("cpu", True, tiny, 4)]
    parts.append(contenders_module.loop_contenders("cpu", quick=True))
    parts.append(contenders_module.base_contenders("cpu", quick=True))
    for name, run in [pair for part in parts for pair in part.items()]:
        if "TRL" not in name and "transformers" not in name:
            run()
