"""7. The loss without the logits                                      about 12 lines, 40 minutes

Logits [N, V] are the largest tensors of such a training run: 8192 tokens and a vocabulary of 128,256 in float32 are
4.2 GB, and the loss wants several of that size at once. But it is a sum over tokens, so it can be done for some rows
of the hidden states at a time. If the gradient is worked out on the spot, the logits of a chunk can be dropped at once.

    student_hidden [N, H], student_head [V, H]      logits z = hidden @ head.T
    teacher_hidden [N, K], teacher_head [V, K]      K need not be H
    denominator    what the sum over tokens is divided by (None: N); with micro-batches, the tokens of the whole step
    rows           tokens a chunk; the last chunk may be smaller
    out            (loss, dx [N, H], dw [V, H]): the loss, a tensor [], and its gradients for student_hidden and
                   student_head

For a chunk with hidden states X [C, H] and gradient dz [C, V] for its logits: dx of these rows = dz @ head, and the
chunk adds dz.T @ X to dw. Nothing with N x V numbers may be alive, neither as one tensor nor as a graph that autograd
keeps: the check counts, and runs under no_grad.

`chunk_gradient` below is given and does one chunk by autograd; your exercise 6 does it without.

By hand: H = K = 1, V = 2; the teacher's head has the rows log 0.9 and log 0.1, the student's log 0.8 and log 0.2; two
tokens with hidden state 1. Each has the divergence 0.0367 of exercise 5: the loss is 0.0367, not their sum. With
dz = (-0.1, 0.1) / 2 a token, dx = -0.05 log 0.8 + 0.05 log 0.2 = -0.0693 for each, and dw = (-0.1, 0.1) from both.

The answer lives in fused_loss.py: distillation_loss and what it calls. Check with: python -m exercises.check 7
"""

import torch

from loss import token_divergence


def chunk_gradient(z, z_teacher, beta, temperature):
    """Given: the divergences [C] of logits [C, V] (not yet divided by the temperature), their gradient for z [C, V]."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        losses = token_divergence(z, z_teacher, beta=beta, temperature=temperature)  # [C]
        return losses.detach(), torch.autograd.grad(losses.sum(), z)[0]


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
    raise NotImplementedError("exercise 7: replace this line")
