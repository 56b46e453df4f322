"""Exercise 7, the chunked loss: its check and the mistakes it knows."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fused_loss
from exercises.harness import compare, given, logs, normal, show, wrong


class Count(TorchDispatchMode):
    """Counts the numbers that are alive in tensors made while it is on: `peak`, and the largest
    tensor."""

    def __init__(self):
        super().__init__()
        self.seen, self.now, self.peak, self.largest = {}, 0, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor):
                self.largest = max(self.largest, t.numel())
                storage = t.untyped_storage()
                if storage._cdata not in self.seen:
                    self.seen[storage._cdata] = storage.nbytes() // t.element_size()
                    self.now += self.seen[storage._cdata]
                    weakref.finalize(storage, self.drop, storage._cdata)
        self.peak = max(self.peak, self.now)
        return out

    def drop(self, pointer):
        self.now -= self.seen.pop(pointer, 0)


def chunked_loss(
    student_hidden,
    student_head,
    teacher_hidden,
    teacher_head,
    *,
    beta=0.0,
    temperature=1.0,
    denominator=None,
    rows=128,
):
    """The shipped loss and its gradients, with a byte budget that gives chunks of `rows` at
    most."""
    x, w = (t.detach().clone().requires_grad_() for t in (student_hidden, student_head))
    budget = rows * len(w) * w.element_size() * 5  # it counts at least 5 buffers
    with torch.enable_grad():
        value = fused_loss.distillation_loss(
            x,
            w,
            teacher_hidden,
            teacher_head,
            beta=beta,
            temperature=temperature,
            denominator=denominator,
            chunk_bytes=budget,
        )
        return value.detach(), *torch.autograd.grad(value, (x, w))


TITLE = "the chunked loss"
SHIPPED = (chunked_loss,)


def check(learners):
    names = "loss", "dx", "dw"

    def compared(case, x, w, y, u, rows, **settings):
        with torch.no_grad(), given(case):
            got = learners(x, w, y, u, rows=rows, **settings)
        if not isinstance(got, (tuple, list)) or len(got) != 3:
            raise wrong(case, "three things: loss, dx, dw", show(got))
        expected = chunked_loss(x, w, y, u, rows=rows, **settings)
        n, count, tau = (
            len(x),
            settings.get("denominator") or len(x),
            settings.get("temperature", 1.0),
        )
        starts = range(0, n, rows)

        def one(i, own):
            return chunked_loss(
                x[i : i + rows],
                w,
                y[i : i + rows],
                u,
                rows=rows,
                **{**settings, "denominator": own or len(x[i : i + rows])},
            )

        means, parts = [one(i, None) for i in starts], [one(i, count) for i in starts]
        for k, name in enumerate(names):
            right = expected[k]
            mistakes = [
                (right * count, "Not divided by the denominator (default: N)."),
                (
                    parts[-1][k],
                    f"Only the last chunk counts: {'dw' if k == 2 else 'the loss'} adds up over the "
                    f"chunks.",
                ),
                (parts[0][k], "Only the first chunk counts: go on to the end."),
                (right * count / n, "Divided by N: use the denominator that was given."),
            ]
            if k == 1:
                mistakes += [
                    (
                        torch.cat([m[1] for m in means]),
                        "Each chunk is divided by its own size: divide by the denominator.",
                    ),
                    (
                        torch.cat([m[1] / len(starts) for m in means]),
                        "The mean over chunks: a smaller last chunk weighs too much.",
                    ),
                ]
            else:
                total = sum(m[k] for m in means)
                mistakes += [
                    (
                        total / len(starts),
                        "The mean of the chunks' means: the tokens of a smaller last chunk weigh too much. "
                        "Divide the sum by the denominator.",
                    ),
                    (total, "Each chunk is divided by its own size: divide by the denominator."),
                    (right - parts[-1][k], "The last chunk, which is smaller, is missing."),
                ]
            if k > 0:
                mistakes += [
                    (
                        right * tau,
                        "The gradient lacks 1 / temperature: the logits were divided by it.",
                    )
                ]
            compare(f"{case}: {name}", got[k], right, mistakes)

    one, head = torch.ones(2, 1).double(), lambda *p: logs(p).T.contiguous()
    case = "the case by hand, N = 2, rows = 1"
    with torch.no_grad(), given(case):
        value, dx, dw = learners(one, head(0.8, 0.2), one, head(0.9, 0.1), rows=1)
    compare(
        f"{case}: loss",
        value,
        torch.tensor(0.0367),
        [
            (torch.tensor(0.0734), "The sum over tokens: divide by N, not by a chunk's own size."),
            (torch.tensor(0.0183), "Only one of the two tokens was counted."),
        ],
        tolerance=6e-5,
    )
    compare(
        f"{case}: dx",
        dx,
        torch.full((2, 1), -0.0693),
        [(torch.full((2, 1), -0.1386), "Divide by the denominator.")],
        tolerance=6e-5,
    )
    compare(
        f"{case}: dw",
        dw,
        torch.tensor([[-0.1], [0.1]]),
        [(torch.tensor([[-0.05], [0.05]]), "dw of one chunk: it adds up over the chunks.")],
        tolerance=6e-5,
    )
    for seed, (n, rows, settings) in enumerate(
        [
            (6, 3, {}),
            (7, 3, {}),
            (5, 100, {}),
            (7, 2, dict(beta=0.5)),
            (7, 3, dict(temperature=2.0)),
            (4, 1, dict(denominator=10)),
            (9, 4, dict(beta=1.0, temperature=0.5, denominator=20)),
        ]
    ):
        x, w, y, u = (
            normal(10 * seed + i, *s, scale=1.0)
            for i, s in enumerate([(n, 5), (11, 5), (n, 4), (11, 4)])
        )
        compared(
            f"random: N = {n}, V = 11, rows = {rows}{''.join(f', {k} {v}' for k, v in settings.items())}",
            x,
            w,
            y,
            u,
            rows,
            **settings,
        )
    n, v, rows = 600, 300, 10
    x, w, y, u = (normal(i, *s) for i, s in enumerate([(n, 5), (v, 5), (n, 4), (v, 4)]))
    with Count() as count, torch.no_grad():
        learners(x, w, y, u, rows=rows)
    if max(count.peak, count.largest) >= n * v:
        raise wrong(
            f"N = {n}, V = {v}, rows = {rows}",
            f"well below N x V = {n * v} numbers alive at once",
            f"{count.peak} alive, the largest tensor {count.largest}",
            "Make the logits of one chunk at a time, and keep none: no list of them, no graph over all.",
        )
