"""A decode step of `generate` as a CUDA graph or compiled: the host starts few kernels, not hundreds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from model import Batch


def cuda_graph(run: Callable[[], None]) -> Callable[[], None]:
    """Capture what `run` does, without doing it; returns a function that does it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


@contextmanager
def graphed_steps(capture: Callable = cuda_graph) -> Iterator[None]:
    """Inside, `generate` captures its second step and replays it from then on.

    The first runs eagerly, so that libraries are ready. Dropping rows makes new tensors, and so a
    new capture.
    """
    eager = Batch.step

    def step(batch: Batch, ends: Tensor, total: Tensor) -> None:
        batch.cache.read = batch.cache.keys[0].shape[2]  # all columns: one shape for all steps
        hidden, replay = vars(batch).get("captured", (None, None))
        if hidden is not batch.hidden:
            eager(batch, ends, total)
            batch.captured = batch.hidden, None
            return
        if replay is None:
            replay = capture(partial(eager, batch, ends, total))
            batch.captured = batch.hidden, replay
        replay()

    Batch.step = step
    try:
        yield
    finally:
        Batch.step = eager


@contextmanager
def compiled_steps() -> Iterator[None]:
    """Inside, the steps of `generate` run under torch.compile, in one piece."""
    eager = Batch.step
    Batch.step = torch.compile(eager, dynamic=True, fullgraph=True)
    try:
        yield
    finally:
        Batch.step = eager
