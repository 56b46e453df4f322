"""How often a whole step waits for its device, counted without a GPU: the meta device stands for one.

A meta tensor has no values. So a read of one is an error, unless `Reads` counts it and makes up what
was read; and a tensor that is made on the host by mistake is an error where it meets the model's.
"""

from contextlib import nullcontext
from functools import cache

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import model
import rcsd
from base import base_optimizers
from data.tokenizer import Tokenizer, train_bpe
from model import GPT, GPTConfig
from oracle import draws
from pretrained.memory import FirstStep
from rubrics import prompt, teacher_prompt
from step import reward_rollouts, sft_loss, update
from tiny import random_rollouts
from trainer.loop import State, checkpoint
from trainer.settings import Settings

SHAPE = dict(n_layer=1, n_head=4, n_kv_head=2, head_dim=8, n_embd=16, mlp_width=24)


class Reads(TorchDispatchMode):
    """Counts what the host reads from the meta device: a number, or a tensor of them. All are 1."""

    NUMBER = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if args and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            if func in self.NUMBER:
                self.count += 1
                return torch.ones((), dtype=args[0].dtype).item()
            if kwargs.get("device") == torch.device("cpu"):
                self.count += 1
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        return func(*args, **kwargs)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    monkeypatch.setitem(model.PREFILL, "meta", model.PREFILL["cuda"])
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # has no meta


def meta_model(vocab=50, max_seq_len=64):
    return GPT(GPTConfig(vocab, max_seq_len, **SHAPE)).to("meta")


def test_the_counter_counts():
    x = torch.zeros(3, device="meta")
    with Reads() as reads:
        assert (x.tolist(), x.sum().item(), bool(x.any())) == ([1, 1, 1], 1, True)
        assert x.cpu().is_cpu and torch.tensor(7.0).item() == 7  # the host's own is no read
        with torch.inference_mode():
            assert (x.tolist(), x.sum().item()) == ([1, 1, 1], 1)
    assert reads.count == 6
    with pytest.raises(RuntimeError):
        x + torch.zeros(3)


@cache
def questions():
    """(examples, a tokenizer that has read them)"""
    examples = [e for _, e in draws(4)]
    return examples, Tokenizer(train_bpe([e.question + e.solution for e in examples], 300))


def one_step(method, settings):
    """A step of stage II, as `rcsd.post_train` takes it, on the meta device."""
    examples, tokenizer = questions()
    context = method.teacher_context or "rubric"
    stage = rcsd.Stage(
        "stage2",
        1,
        0.001,
        method,
        student_prompt=lambda e: prompt(e.question),
        teacher_prompt=lambda e: teacher_prompt(e, context, e.rubric),
        success="correct",
        succeeds=lambda r, text: False,
        reference=lambda e: e.solution,
    )
    student = meta_model(tokenizer.vocab_size, 1024)
    teacher = rcsd.make_teacher(student, settings) if method.uses_teacher else None
    optimizers = [torch.optim.AdamW(student.parameters(), lr=0.001, betas=(0.9, 0.98))]
    rollouts = rcsd.collect_rollouts(student, tokenizer, stage, examples, 0, settings)
    texts = [tokenizer.decode_completion(r.completion_ids) for r in rollouts]
    if method.reward:
        reward_rollouts(rollouts, texts, method.reward, settings.group_size)
    for _ in range(settings.updates_per_batch):
        update(method.loss_fn, student, teacher, rollouts, optimizers, settings)
    if method.uses_teacher:
        rcsd.update_teacher(teacher, student, settings)
    assert all(p.is_meta for o in optimizers for s in o.state.values() for p in [s["exp_avg"]])


CASES = [*((name, "fixed") for name in rcsd.METHODS), ("rcsd", "ema"), ("rcsd", "live")]


@pytest.mark.parametrize("name, teacher", CASES)
def test_a_step_of_each_method_reads_eight_times_and_once_an_update(name, teacher):
    """64 sampled tokens: once in eight, which rows have ended; the last time, the tokens.

    An update has several micro-batches and reads their losses, their measures and the norm at once.
    """
    method, options = rcsd.METHODS[name], dict(max_new_tokens=64, max_seq_len=1024, batch=4)
    options |= dict(group_size=2, micro_tokens=600, teacher=teacher, updates_per_batch=2)
    with Reads() as reads:
        one_step(method, Settings(**options))
    assert reads.count == (8 if method.on_policy else 0) + 2


@pytest.mark.parametrize(
    "changes", [dict(beta=0.5), dict(beta=1.0, top_k_loss=4), dict(clip_mode="pointwise", clip=0.1)]
)
def test_every_form_of_the_loss_reads_nothing(changes):
    student, teacher, rows = meta_model(), meta_model(), random_rollouts()
    with Reads() as reads:
        update(rcsd.distillation, student, teacher, rows, [], Settings(**changes))
    assert reads.count == 1


def test_a_step_of_stage_0_reads_once():
    """With both its optimizers."""
    student, settings = meta_model(), Settings(micro_tokens=60)
    optimizers = base_optimizers(student, settings)
    for _ in range(2):
        with Reads() as reads:
            update(sft_loss, student, None, random_rollouts(), optimizers, settings)
        assert reads.count == 1
    assert all(s["average"].is_meta for s in optimizers[0].state.values())


def test_a_checkpoint_asks_once_whether_all_weights_are_finite(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.loop.save", lambda path, content: None)
    state = State(meta_model(), [])
    with Reads() as reads:
        checkpoint(tmp_path / "base.pt", state, 0, {}, {})
    assert reads.count == 1


def test_what_the_first_step_changed_is_read_once():
    student = GPT(GPTConfig(50, 64, **SHAPE))
    total, first = sum(p.numel() for p in student.parameters()), FirstStep(student)
    with pytest.raises(ValueError, match="stage1: the first step changed no weight"):
        first.changes("stage1", 0.1)
    weight = student.norm.weight.data  # [16]
    weight[3] = torch.nextafter(weight[3], torch.tensor(2.0))  # the smallest change that there is
    assert f"changed tensors of 16 of {total:,} trained" in first.changes("stage1", 0.1)
    with Reads() as reads:
        FirstStep(meta_model()).changes("stage1", 0.1)
    assert reads.count == 1
