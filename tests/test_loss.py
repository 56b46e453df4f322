"""The divergence against a float64 formula written another way, the chunked loss against
autograd."""

import math

import numpy as np
import pytest
import torch

from fused_loss import distillation_loss
from loss import CLIP_MODES, token_divergence
from models import BETAS, CLIPS, GRID, TOP_K, logits, states


def oracle(z_student, z_teacher, beta, temperature, top_k, clip, clip_mode):
    """One token, entry by entry, in Python floats."""
    keep = sorted(range(len(z_teacher)), key=lambda v: -z_teacher[v])[:top_k]

    def softmax(z):
        e = {v: math.exp((z[v] - max(z[u] for u in keep)) / temperature) for v in keep}
        return {v: e[v] / sum(e.values()) for v in keep}

    p, q = softmax(z_teacher), softmax(z_student)

    def xlogy(x, ratio):
        return 0.0 if x == 0 else x * math.log(ratio)

    terms = []
    for v in keep:
        if beta == 0:
            terms.append(xlogy(p[v], p[v] / q[v]))
        elif beta == 1:
            terms.append(xlogy(q[v], q[v] / p[v]))
        else:
            m = beta * p[v] + (1 - beta) * q[v]
            terms.append(beta * xlogy(p[v], p[v] / m) + (1 - beta) * xlogy(q[v], q[v] / m))
    if clip_mode == "pointwise":
        return sum(min(t, clip) for t in terms)
    total = sum(terms)
    return min(total, clip) if clip_mode in ("token", "scale") else total


@pytest.mark.parametrize("beta, temperature, top_k, clip", GRID)
def test_value_against_the_formula_and_gradient_against_autograd(beta, temperature, top_k, clip):
    mode, bound = clip
    settings = dict(beta=beta, temperature=temperature, top_k=top_k, clip=bound, clip_mode=mode)
    for n, rows in ((1, 1), (7, 3), (8, 4), (5, 100)):
        x, w, y, u = states(n, seed=n)
        plain = token_divergence(x @ w.T, y @ u.T, **settings)
        wanted = [
            oracle(a, b, beta, temperature, top_k, bound, mode)
            for a, b in zip((x @ w.T).tolist(), (y @ u.T).tolist())
        ]
        torch.testing.assert_close(
            plain, torch.tensor(wanted, dtype=torch.float64), atol=1e-12, rtol=1e-10
        )
        chunked, stats = distillation_loss(
            x, w, y, u, **settings, chunk_bytes=rows * 13 * 8 * 28, return_stats=True
        )
        torch.testing.assert_close(chunked, plain.mean(), atol=1e-12, rtol=1e-10)
        for a, b in zip(
            torch.autograd.grad(chunked, (x, w)), torch.autograd.grad(plain.mean(), (x, w))
        ):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)
        free = [
            oracle(a, b, beta, temperature, top_k, None, "none")
            for a, b in zip((x @ w.T).tolist(), (y @ u.T).tolist())
        ]
        torch.testing.assert_close(
            stats.divergence, torch.tensor(free, dtype=torch.float64), atol=1e-12, rtol=1e-10
        )


@pytest.mark.parametrize("beta", BETAS)
def test_gradcheck(beta):
    x, w, y, u = states(4, v=6)
    assert torch.autograd.gradcheck(
        lambda x, w: distillation_loss(x, w, y, u, beta=beta, temperature=1.3), (x, w)
    )
    assert torch.autograd.gradcheck(
        lambda z: token_divergence(z, y @ u.T, beta=beta), ((x @ w.T).detach().requires_grad_(),)
    )


def test_pointwise_clipping_turns_the_gradient_around():
    """Teacher (.9, .1), student (.8, .2), clip .05: the loss falls from .0367 to -.0193, the
    gradient changes sign."""
    teacher, student = (
        torch.tensor([row], dtype=torch.float64).log() for row in ([0.9, 0.1], [0.8, 0.2])
    )
    found = {}
    for mode in CLIP_MODES:
        z = student.clone().requires_grad_()
        loss = token_divergence(
            z, teacher, clip=None if mode == "none" else 0.05, clip_mode=mode
        ).sum()
        found[mode] = loss.item(), torch.autograd.grad(loss, z)[0][0, 0].item()
    assert found["none"] == (pytest.approx(0.0367, abs=5e-5), pytest.approx(-0.10))
    assert found["pointwise"] == (pytest.approx(-0.0193, abs=5e-5), pytest.approx(0.08))
    assert (
        found["token"] == found["scale"] == pytest.approx(found["none"])
    )  # 0.0367 is below the bound
    z = student.clone().requires_grad_()
    small = {}
    for mode in ("token", "scale"):
        loss = token_divergence(z, teacher, clip=0.01, clip_mode=mode).sum()
        small[mode] = torch.autograd.grad(loss, z)[0][0, 0].item()
    assert small["token"] == 0 and small["scale"] == pytest.approx(
        -0.10 * 0.01 / 0.036691, rel=1e-3
    )


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("top_k", TOP_K)
def test_equal_models_have_no_divergence(beta, top_k):
    z = logits(6, 9, 0)
    assert token_divergence(z, z, beta=beta, top_k=top_k).abs().max() < 1e-15
    x, w, _, _ = states(6)
    loss = distillation_loss(x, w, x.detach(), w.detach(), beta=beta, top_k=top_k)
    assert abs(loss.item()) < 1e-15
    assert max(g.abs().max() for g in torch.autograd.grad(loss, (x, w))) < 1e-14


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("mode, clip", CLIPS)
def test_infinite_logits_never_give_nan(beta, mode, clip):
    inf = math.inf
    student = torch.tensor(
        [[1.0, -inf, 0.0], [1.0, 2.0, 0.0], [-inf, 0.0, 1.0], [0.0, 1.0, -inf]], dtype=torch.float64
    )
    teacher = torch.tensor(
        [[0.5, -inf, 1.0], [0.5, -inf, 1.0], [2.0, 0.0, 1.0], [-inf, 1.0, 0.0]], dtype=torch.float64
    )
    z = student.clone().requires_grad_()
    d = token_divergence(z, teacher, beta=beta, clip=clip, clip_mode=mode)
    gradient = torch.autograd.grad(d.where(d.isfinite(), 0.0).sum(), z)[0]
    assert not d.isnan().any() and gradient.isfinite().all()
    truly_infinite = {0.0: [False, False, True, True], 1.0: [False, True, False, True]}.get(
        beta, [False] * 4
    )
    if mode == "none":
        assert d.isinf().tolist() == truly_infinite
        finite = [i for i in range(4) if not truly_infinite[i]]
        small = [
            oracle(
                [max(x, -700.0) for x in student[i].tolist()],
                [max(x, -700.0) for x in teacher[i].tolist()],
                beta,
                1.0,
                None,
                None,
                "none",
            )
            for i in finite
        ]
        torch.testing.assert_close(
            d[finite], torch.tensor(small, dtype=torch.float64), atol=1e-9, rtol=1e-9
        )
    # The chunked loss meets infinities through the hidden states' head: rows of -inf logits.
    x = torch.eye(3, dtype=torch.float64)[[0, 1]].requires_grad_()
    loss = distillation_loss(
        x,
        torch.eye(3, dtype=torch.float64) * 5,
        torch.eye(3, dtype=torch.float64)[[1, 0]],
        torch.eye(3, dtype=torch.float64) * 900,
        beta=beta,
        clip=clip,
        clip_mode=mode,
    )
    assert loss.isfinite() and torch.autograd.grad(loss, x)[0].isfinite().all()


def test_forward_kl_is_finite_where_the_teacher_has_no_mass():
    teacher = torch.tensor([[0.0, -math.inf, 0.0]])
    assert token_divergence(torch.zeros(1, 3), teacher).item() == pytest.approx(math.log(3 / 2))


def test_no_token_gives_a_connected_zero():
    x, w, y, u = states(0)
    loss, stats = distillation_loss(x, w, y, u, return_stats=True)
    assert loss.item() == 0 and all(len(column) == 0 for column in stats)
    loss.backward()
    assert x.grad.shape == (0, 5) and w.grad.abs().sum() == 0


def test_a_second_backward_is_right_and_gradients_scale():
    x, w, y, u = states(6)
    loss = distillation_loss(x, w, y, u)
    first = torch.autograd.grad(3 * loss, (x, w), retain_graph=True)
    second = torch.autograd.grad(loss, (x, w))
    for a, b in zip(first, second):
        torch.testing.assert_close(a, 3 * b)


def test_micro_batches_with_a_denominator_add_up():
    x, w, y, u = states(10)
    whole = torch.autograd.grad(distillation_loss(x, w, y, u), (x, w))
    parts = [
        torch.autograd.grad(distillation_loss(x[a:b], w, y[a:b], u, denominator=10), (x, w))
        for a, b in ((0, 3), (3, 10))
    ]
    for i in (0, 1):
        torch.testing.assert_close(parts[0][i] + parts[1][i], whole[i])


def test_frozen_parts_and_the_teacher_get_no_gradient():
    x, w, y, u = states(4)
    y, u = y.requires_grad_(), u.requires_grad_()
    loss = distillation_loss(x, w.detach(), y, u)
    loss.backward()
    assert x.grad is not None and y.grad is None and u.grad is None
    loss = distillation_loss(x.detach(), w, y, u)
    loss.backward()
    assert w.grad is not None and y.grad is None


def test_the_teacher_gets_no_gradient_from_the_plain_form():
    z, t = logits(3, 5, 0).requires_grad_(), logits(3, 5, 1).requires_grad_()
    token_divergence(z, t, beta=0.5).sum().backward()
    assert z.grad is not None and t.grad is None


@pytest.mark.parametrize("beta, top_k", [(0.0, None), (0.5, None), (1.0, 4)])
def test_bfloat16_inputs_are_computed_in_float32(beta, top_k):
    low = states(40, v=64, dtype=torch.bfloat16)
    x, w, y, u = (t.detach().double() for t in low)
    x.requires_grad_(), w.requires_grad_()
    exact = distillation_loss(x, w, y, u, beta=beta, top_k=top_k)
    with torch.autocast("cpu", torch.bfloat16):
        got = distillation_loss(*low, beta=beta, top_k=top_k)
    assert got.item() == pytest.approx(exact.item(), rel=1e-5)
    for a, b in zip(torch.autograd.grad(got, low[:2]), torch.autograd.grad(exact, (x, w))):
        assert (
            a.dtype == torch.bfloat16 and (a.double() - b).norm() / b.norm() < 5e-3
        )  # rounding of the result only


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spread", [3, 10, 30, "nearly equal"])
def test_gradients_in_bfloat16_are_within_one_percent_of_float64(beta, spread):
    """Rounding may grow neither with the logits nor where q - p is a small difference. Of the
    result alone: 2e-3."""
    g = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x, w, y, u = draw(48, 32), draw(301, 32), draw(48, 32), draw(301, 32)
    if spread == "nearly equal":
        spread, y, u = 3, x + 0.02 * y, w.clone()
    low = [t.bfloat16() for t in (x, w * spread / 32**0.5, y, u * spread / 32**0.5)]
    low[0].requires_grad_(), low[1].requires_grad_()
    x, w, y, u = (t.detach().double() for t in low)
    x.requires_grad_(), w.requires_grad_()
    exact = token_divergence(x @ w.T, y @ u.T, beta=beta, temperature=0.9).mean()
    wanted = torch.autograd.grad(exact, (x, w))
    for chunk_bytes in (2**17, 2**27):
        got = distillation_loss(*low, beta=beta, temperature=0.9, chunk_bytes=chunk_bytes)
        assert got.item() == pytest.approx(exact.item(), rel=1e-4, abs=1e-6)
        again = distillation_loss(*low, beta=beta, temperature=0.9, chunk_bytes=chunk_bytes)
        for a, same, b in zip(
            torch.autograd.grad(got, low[:2]), torch.autograd.grad(again, low[:2]), wanted
        ):
            assert torch.equal(a, same) and (a.double() - b).norm() / b.norm() < 5e-3


def test_stats():
    x, w, y, u = states(9)
    _, stats = distillation_loss(
        x, w, y, u, top_k=3, clip=0.3, clip_mode="token", temperature=1.4, return_stats=True
    )
    q, p = ((a @ b.T / 1.4).softmax(-1).detach().numpy() for a, b in ((x, w), (y, u)))
    for got, probs in ((stats.student_entropy, q), (stats.teacher_entropy, p)):
        np.testing.assert_allclose(got.numpy(), -(probs * np.log(probs)).sum(-1))
    top = np.argsort(-p, axis=-1)[:, :3]
    np.testing.assert_allclose(
        stats.student_tail.numpy(), 1 - np.take_along_axis(q, top, -1).sum(-1), atol=1e-12
    )
    assert (
        stats.clipped.tolist() == (stats.divergence > 0.3).tolist() and 0 < stats.clipped.sum() < 9
    )
    _, point = distillation_loss(x, w, y, u, clip=0.1, clip_mode="pointwise", return_stats=True)
    q, p = ((a @ b.T).softmax(-1).detach().numpy() for a, b in ((x, w), (y, u)))
    assert point.clipped.tolist() == ((p * np.log(p / q)).max(-1) > 0.1).tolist()


@pytest.mark.parametrize(
    "settings",
    [
        dict(beta=-0.1),
        dict(beta=1.1),
        dict(temperature=0),
        dict(top_k=0),
        dict(clip_mode="soft", clip=1),
        dict(clip=0.1),
        dict(clip_mode="token"),
        dict(clip_mode="token", clip=0),
        dict(denominator=0),
    ],
)
def test_bad_settings_are_refused(settings):
    x, w, y, u = states(3)
    with pytest.raises(ValueError, match="must be|need each other"):
        distillation_loss(x, w, y, u, **settings)
    if "denominator" not in settings:
        with pytest.raises(ValueError):
            token_divergence(x @ w.T, y @ u.T, **settings)


def test_shapes_that_do_not_match_are_refused():
    x, w, y, u = states(3)
    for bad in ((x[:2], w, y, u), (x, w[:5], y, u), (x[:, :4], w, y, u), (x, w, y[0], u)):
        with pytest.raises(ValueError, match="got"):
            distillation_loss(*bad)
    with pytest.raises(ValueError, match="got"):
        token_divergence(torch.zeros(2, 3), torch.zeros(2, 4))


def test_turned_counts_the_tokens_pushed_away_from_the_teachers_best():
    """By autograd on the plain form: the best token's gradient is positive although the student
    gives it too little."""
    student, teacher = logits(60, 13, 5, 2.0), logits(60, 13, 6, 2.0)
    eye = torch.eye(13, dtype=torch.float64)
    for mode, clip, beta in (
        ("none", None, 0.0),
        ("pointwise", 0.05, 0.0),
        ("pointwise", 0.3, 0.5),
        ("scale", 0.05, 0.0),
    ):
        z = student.clone().requires_grad_()
        token_divergence(z, teacher, beta=beta, clip=clip, clip_mode=mode).sum().backward()
        best = teacher.argmax(-1, keepdim=True)
        starved = student.softmax(-1).gather(-1, best) < teacher.softmax(-1).gather(-1, best)
        wanted = (starved & (z.grad.gather(-1, best) > 0))[:, 0]
        _, stats = distillation_loss(
            student.clone().requires_grad_(),
            eye,
            teacher,
            eye,
            beta=beta,
            clip=clip,
            clip_mode=mode,
            return_stats=True,
        )
        assert stats.gradient_flipped.tolist() == wanted.tolist()
        assert wanted.any() == (mode == "pointwise" and beta == 0)
