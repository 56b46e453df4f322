"""The training loop: presets, the rate at each step, the best checkpoint."""

import pytest
import torch

from tiny import read_log, run_loop, tiny_model
from trainer.checkpoints import load
from trainer.loop import State
from trainer.settings import PRESETS, Settings


def test_presets_are_valid():
    for values in PRESETS.values():
        Settings(**values)


def test_the_learning_rate_rises_stays_and_falls(tmp_path):
    """By hand: 8 steps, of which 2 to rise; each group of each optimizer by the same factor."""
    student, used = tiny_model(), []
    first, *rest = student.parameters()
    optimizers = [torch.optim.SGD([first], 4.0), torch.optim.SGD([dict(params=rest, lr=0.1)], 1.0)]

    def take_step(step):
        used.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
        return {"loss": 0.0, "tokens": 1}

    run_loop(
        "stage2", State(student, optimizers), take_step, 8, tmp_path, Settings(), False, warmup=2
    )
    factors = [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert used == [[pytest.approx(4 * f), pytest.approx(0.1 * f)] for f in factors]
    assert [row["lr"] for row in read_log(tmp_path / "stage2.jsonl")] == [4 * f for f in factors]


def test_the_best_of_the_validated_checkpoints_is_kept(tmp_path):
    """Scores 0.2, 0.9, 0.9, 0.1: the second is kept, also if the run is stopped and resumed."""
    scores = [0.2, 0.9, 0.9, 0.1]

    def train_some(out, stop=None, resume=False):
        out.mkdir(exist_ok=True)
        student = tiny_model()

        def take_step(step):
            if step == stop:
                raise KeyboardInterrupt
            with torch.no_grad():
                student.head_weight.fill_(step)
            return {"loss": 0.0, "tokens": 1}

        def validate(model):
            return {"valid": scores[int(model.head_weight[0, 0])]}

        settings = Settings(eval_every=1, save_seconds=0)
        state = State(student, [torch.optim.SGD(student.parameters())])
        return run_loop(
            "stage2", state, take_step, 4, out, settings, resume, warmup=1, validate=validate
        )

    assert train_some(tmp_path / "whole").head_weight[0, 0] == 1
    with pytest.raises(KeyboardInterrupt):
        train_some(tmp_path / "halves", stop=3)
    assert train_some(tmp_path / "halves", resume=True).head_weight[0, 0] == 1
    for name in ("whole", "halves"):
        content = load(tmp_path / name / "stage2.pt")
        assert content["kept"] == 2 and content["step"] == 4
        assert content["model"]["embed.weight"][0, 0] == 1
        assert [row["valid"] for row in read_log(tmp_path / name / "stage2.jsonl")] == scores
