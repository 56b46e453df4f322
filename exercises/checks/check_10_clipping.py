"""Exercise 10, clipping: its check and the mistakes it knows."""

import torch

import loss
from exercises.harness import compare, given, logs, normal, same

TITLE = "clipping"
SHIPPED = (loss.token_divergence,)


def clip_mistakes(s, t, beta, clip, mode):
    """(loss [N], gradient [N, V], text) of typical mistakes, by autograd."""

    def run(make):
        z = s.detach().clone().requires_grad_()
        f = loss.divergence_terms(t.log_softmax(-1), z.log_softmax(-1), beta)[0]
        out = make(f, f.sum(-1))
        return out.detach(), torch.autograd.grad(out.sum(), z)[
            0
        ] if out.requires_grad else torch.zeros_like(z)

    named = {
        "pointwise": ("each vocabulary term", lambda f, d: f.clamp(max=clip).sum(-1)),
        "token": ("the token", lambda f, d: d.clamp(max=clip)),
        "none": ("nothing", lambda f, d: d),
    }
    found = [
        (*run(make), f"This is clip_mode {name!r}: it clamps {what}.")
        for name, (what, make) in named.items()
        if name != mode
    ]
    if mode == "scale":
        found = [
            (
                *run(lambda f, d: d * (clip / d).clamp(max=1)),
                'The gradient is 0, as with "token": the factor is not detached. clip / D times D is a constant; use '
                "D.detach() inside the factor.",
            ),
            (
                *run(lambda f, d: d * (clip / d.detach())),
                "Tokens below the bound are scaled up: the factor is at most 1.",
            ),
            (
                *run(lambda f, d: d * (clip / d.mean().detach()).clamp(max=1)),
                "One factor for the whole batch: each token has its own.",
            ),
            (
                *run(lambda f, d: d * (clip / d.max().detach()).clamp(max=1)),
                "One factor for the whole batch: each token has its own.",
            ),
        ] + found
    if mode == "pointwise":
        found = [
            (
                *run(lambda f, d: f.clamp(-clip, clip).sum(-1)),
                "The negative terms are clamped too; the public code clamps from above only. (That is the trap.)",
            ),
            (
                *run(lambda f, d: f.clamp(min=0).clamp(max=clip).sum(-1)),
                "The negative terms are dropped; the public code keeps them. (That is the trap.)",
            ),
        ] + found
    return found


def check(token_divergence):
    def losses(function, s, t, beta, clip, mode):
        z = s.detach().clone().requires_grad_()
        out = function(z, t, beta=beta, clip=clip, clip_mode=mode)
        if not isinstance(out, torch.Tensor):
            return out, None
        return out.detach(), torch.autograd.grad(out.sum(), z)[
            0
        ] if out.requires_grad else torch.zeros_like(z)

    def compared(case, s, t, beta, clip, mode, expected=None, tolerance=1e-8):
        with given(case):
            value, gradient = losses(token_divergence, s, t, beta, clip, mode)
        right = expected or losses(loss.token_divergence, s, t, beta, clip, mode)
        known = clip_mistakes(s, t, beta, clip, mode) if clip else []
        why = next(
            (
                text
                for a, g, text in known
                if same(value, a, tolerance) and same(gradient, g, tolerance)
            ),
            "",
        )
        compare(case + ": the loss", value, right[0], [(value, why)], tolerance)
        compare(
            case + ": the gradient (the loss is right)",
            gradient,
            right[1],
            [(gradient, why)] if why else ([(-right[1], "The direction is turned around.")]),
            tolerance,
        )

    s, t = logs((0.8, 0.2)), logs((0.9, 0.1))
    for mode, clip, value, slope in (
        ("none", None, 0.0367, -0.10),
        ("pointwise", 0.05, -0.0193, 0.08),
        ("token", 0.01, 0.01, 0.0),
        ("scale", 0.01, 0.01, -0.0273),
        ("scale", 0.05, 0.0367, -0.10),
    ):
        case = f"student (0.8, 0.2), teacher (0.9, 0.1), beta 0, clip_mode {mode!r}, clip {clip}"
        compared(
            case,
            s,
            t,
            0.0,
            clip,
            mode,
            (torch.tensor([value]), torch.tensor([[slope, -slope]])),
            6e-5,
        )
    for seed, (beta, clip) in enumerate([(0.0, 0.3), (1.0, 0.2), (0.5, 0.1), (0.0, 1.5)]):
        s, t = normal(seed, 8, 6, scale=1.0), normal(seed + 50, 8, 6, scale=1.0)
        for mode in loss.CLIP_MODES:
            bound = None if mode == "none" else clip
            compared(
                f"random logits [8, 6], beta {beta}, clip_mode {mode!r}, clip {bound}",
                s,
                t,
                beta,
                bound,
                mode,
            )
        free, held = (
            losses(token_divergence, s, t, beta, None, "none")[1],
            losses(token_divergence, s, t, beta, clip, "scale")[1],
        )
        compare(
            f'random logits, beta {beta}: the cosine of each token\'s gradient with "scale" and with "none"',
            torch.cosine_similarity(free, held, dim=-1),
            torch.ones(8).double(),
        )
