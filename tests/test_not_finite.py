"""A number that is not one stops the run, before it can reach the weights or the checkpoint."""

import math

import pytest
import torch

from model import GPT, GPTConfig
from step import Rollout, set_advantages, sft_loss, update
from tiny import run_loop
from trainer.checkpoints import load
from trainer.loop import State
from trainer.settings import Settings


def tiny_model():
    torch.manual_seed(0)
    return GPT(
        GPTConfig(50, 64, n_layer=1, n_head=2, n_kv_head=1, head_dim=8, n_embd=16, mlp_width=24)
    )


ROWS = [Rollout([1, 2, 3], [4, 5]), Rollout([1, 7], [8, 9, 10])]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_loss_raises_before_the_weights_change(bad):
    def loss_fn(student, teacher, batch, num_tokens, settings):
        loss, measures = sft_loss(student, teacher, batch, num_tokens, settings)
        return loss * bad, measures

    student = tiny_model()
    before = [p.clone() for p in student.parameters()]
    optimizer = torch.optim.SGD(student.parameters(), 0.1)
    with pytest.raises(FloatingPointError):
        update(loss_fn, student, None, ROWS, [optimizer], Settings())
    assert all(torch.equal(a, b) for a, b in zip(before, student.parameters()))


def test_a_bad_gradient_raises_too():
    student = tiny_model()
    student.norm.weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(FloatingPointError, match="gradient norm"):
        update(sft_loss, student, None, ROWS, [], Settings())


def test_the_logged_norm_is_that_of_the_gradient():
    student = tiny_model()
    row = update(sft_loss, student, None, ROWS, [], Settings())
    sft_loss(student.zero_grad() or student, None, ROWS, 5, Settings())[0].backward()
    by_hand = math.sqrt(sum((p.grad.double() ** 2).sum().item() for p in student.parameters()))
    assert row["grad_norm"] == pytest.approx(by_hand, rel=1e-5)


def test_a_run_that_diverges_names_the_step_and_keeps_the_checkpoint(tmp_path):
    student = tiny_model()

    def take_step(step):
        if step == 3:
            raise FloatingPointError("loss nan, gradient norm nan")
        return {"loss": 1.0, "tokens": 1}

    state = State(student, [torch.optim.SGD(student.parameters())])
    with pytest.raises(ValueError, match="stage2, step 3: loss nan.*--lr.*stage2.pt keeps"):
        run_loop("stage2", state, take_step, 5, tmp_path, Settings(save_seconds=0), False, warmup=1)
    assert load(tmp_path / "stage2.pt")["step"] == 3
    assert len((tmp_path / "stage2.jsonl").read_text().splitlines()) == 3


def test_weights_that_are_not_finite_do_not_replace_a_checkpoint(tmp_path):
    student = tiny_model()

    def take_step(step):
        if step == 2:
            with torch.no_grad():
                student.norm.weight[0] = math.nan
        return {"loss": 1.0, "tokens": 1}

    state = State(student, [torch.optim.SGD(student.parameters())])
    with pytest.raises(ValueError, match="base, step 2: weights are not finite.*--base-lr"):
        run_loop("base", state, take_step, 3, tmp_path, Settings(save_seconds=0), False, warmup=1)
    content = load(tmp_path / "base.pt")
    assert content["step"] == 2 and content["model"]["norm.weight"].isfinite().all()


@pytest.mark.parametrize("norms, said", [([0, 0, 0, 0, 0, 0], True), ([0, 0, 1, 0, 0, 0], False)])
def test_a_run_that_learns_nothing_says_so_once(tmp_path, capsys, norms, said):
    student = tiny_model()

    def take_step(step):
        return {"loss": 0.0, "tokens": 1, "grad_norm": norms[step]}

    state = State(student, [torch.optim.SGD(student.parameters())])
    run_loop("stage2", state, take_step, 6, tmp_path, Settings(), False, warmup=1)
    assert capsys.readouterr().err.count("nothing is learned") == said


def test_rewards_that_differ_by_rounding_alone_carry_no_signal():
    rows = [Rollout([1], [2]) for _ in range(4)]
    assert set_advantages(rows, [0.5, 0.4999999999999999, 0.1 + 0.2, 0.3], 2) == 1
    assert [r.advantage for r in rows] == [0.0] * 4
    assert set_advantages(rows, [0.5, 0.499, 0.3, 0.3], 2) == 0.5
