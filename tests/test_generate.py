"""Sampling: a loop without cache, brute-force top-k and nucleus, chi-square tests of what is
drawn."""

import math

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import model as source
from model import PREFILL, Batch, Completion, KVCache, generate, sample
from models import random_ids, random_model

# The sampler.


def greedy_without_cache(model, prompt, max_new_tokens, eos):
    ids = list(prompt)
    while len(ids) - len(prompt) < max_new_tokens and len(ids) < model.config.max_seq_len:
        with torch.no_grad():
            ids.append(int((model(torch.tensor([ids]))[0, -1] @ model.head_weight.T).argmax()))
        if ids[-1] == eos:
            return Completion(ids[len(prompt) :], False)
    return Completion(ids[len(prompt) :], True)


def test_greedy_batch_equals_one_by_one_and_a_loop_without_cache(monkeypatch):
    dropped = []
    keep = KVCache.keep
    monkeypatch.setattr(
        KVCache, "keep", lambda self, rows: (dropped.append(len(rows)), keep(self, rows))[1]
    )
    monkeypatch.setattr(source, "LOOK_EVERY", 3)
    lengths = [1, 9, 24, 3, 16, 2, 23, 5, 12, 7]
    finish_times, cuts = set(), set()
    for seed in range(8):
        model = random_model(seed, tie_head=False)
        prompts = [random_ids(n, seed=10 * seed + n).tolist() for n in lengths]
        want = [greedy_without_cache(model, prompt, 14, eos=4) for prompt in prompts]
        got = generate(model, prompts, max_new_tokens=14, eos=4, temperature=0)
        assert got == want
        assert [
            generate(model, [p], max_new_tokens=14, eos=4, temperature=0)[0] for p in prompts
        ] == want
        finish_times |= {len(c.ids) for c in want if not c.truncated}
        cuts |= {(c.truncated, len(c.ids)) for c in want}
    # The cases this test is for did occur.
    assert len(finish_times) >= 5 and {(True, 0), (True, 1), (True, 14), (True, 12)} <= cuts
    assert len([n for n in dropped if n]) >= 8


def constant_model(eos_logit=0.0):
    """Predicts the same distribution everywhere: an embedding of ones, silent sublayers, logits in
    the head."""
    model = random_model(tie_head=False, n_embd=4)
    with torch.no_grad():
        model.embed.weight.fill_(1)
        model.norm.weight.fill_(1)
        for block in model.blocks:
            block.attn_out.weight.zero_()
            block.mlp_out.weight.zero_()
        logits = torch.linspace(1, -1, 13)[
            torch.randperm(13, generator=torch.Generator().manual_seed(3))
        ]
        logits[4] = eos_logit
        model.head.weight.copy_(logits[:, None].expand(-1, 4) / 4)
    return model, logits


def brute_force(logits, temperature=1.0, top_k=None, top_p=None):
    """The distribution by its definition, in Python floats: sort, keep, renormalise, one list at a
    time."""
    weight = [math.exp(x / temperature) for x in logits.tolist()]
    order = sorted(range(len(weight)), key=lambda i: -weight[i])[:top_k]
    total, kept, mass = sum(weight[i] for i in order), [], 0.0
    for i in order:
        kept.append(i)
        mass += weight[i]
        if top_p is not None and mass >= top_p * total:
            break
    return [weight[i] / mass if i in kept else 0.0 for i in range(len(weight))]


def uniform(*shape, rng):
    return torch.rand(*shape, dtype=torch.float64, generator=rng, device=rng.device)


def check_counts(tokens, probs):
    """Chi-square at p = 1e-4 (Wilson-Hilferty), and nothing outside the support, and all of the
    support."""
    n = len(tokens)
    counts = [tokens.count(i) for i in range(len(probs))]
    assert [c > 0 for c in counts] == [p > 0 for p in probs]
    chi2 = sum((c - n * p) ** 2 / (n * p) for c, p in zip(counts, probs) if p > 0)
    freedom = sum(p > 0 for p in probs) - 1
    if freedom:
        limit = freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3
        assert chi2 < limit, (chi2, limit)


SETTINGS = [
    dict(),
    dict(temperature=0.4),
    dict(temperature=2.5),
    dict(top_k=1),
    dict(top_k=5),
    dict(top_k=99),
    dict(top_p=0.6),
    dict(top_p=1e-6),
    dict(top_p=1.0),
    dict(temperature=0.5, top_k=6, top_p=0.8),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_distribution_of_a_batch(setting):
    model, logits = constant_model()
    prompts = [[i % 13] * (1 + i % 7) for i in range(400)]
    rng = torch.Generator().manual_seed(1)
    out = generate(
        model, prompts, max_new_tokens=10, eos=-1, noise=uniform(400, 10, rng=rng), **setting
    )
    check_counts([token for c in out for token in c.ids], brute_force(logits, **setting))


@pytest.mark.parametrize("setting", [dict(), dict(temperature=0.6, top_k=8, top_p=0.9)], ids=str)
def test_distribution_one_by_one(setting):
    model, logits = constant_model()
    rng = torch.Generator().manual_seed(2)
    out = [
        generate(
            model, [[1, 2]], max_new_tokens=20, eos=-1, noise=uniform(1, 20, rng=rng), **setting
        )[0]
        for _ in range(60)
    ]
    check_counts([token for c in out for token in c.ids], brute_force(logits, **setting))


def test_lengths_follow_the_probability_of_eos():
    """With P(eos) = p at every step, P(length = n) = p (1-p)^(n-1)."""
    model, logits = constant_model(eos_logit=1.0)
    p = brute_force(logits)[4]
    out = generate(
        model,
        [[1 + i % 3] * (1 + i % 5) for i in range(2000)],
        max_new_tokens=6,
        eos=4,
        noise=uniform(2000, 6, rng=torch.Generator().manual_seed(5)),
    )
    probs = [(1 - p) ** 6] + [p * (1 - p) ** n for n in range(6)]  # cut, or of length 1 to 6
    check_counts([0 if c.truncated else len(c.ids) for c in out], probs)
    assert all(
        (4 in c.ids) == (not c.truncated) == (c.ids[-1] == 4) and c.ids.count(4) <= 1 for c in out
    )


def test_rows_of_a_batch_are_independent_draws():
    model, logits = constant_model()
    out = generate(
        model,
        [[1]] * 3000,
        max_new_tokens=1,
        eos=-1,
        noise=uniform(3000, 1, rng=torch.Generator().manual_seed(7)),
    )
    probs = brute_force(logits)
    pairs = [13 * a.ids[0] + b.ids[0] for a, b in zip(out[::2], out[1::2])]
    same = sum(pair // 13 == pair % 13 for pair in pairs) / len(pairs)
    expected = sum(p * p for p in probs)
    assert abs(same - expected) < 4 * math.sqrt(expected * (1 - expected) / len(pairs))


def test_each_row_is_drawn_from_its_own_logits():
    logits = torch.tensor([[0.0, 1, 2, -1], [3, -2, 0, 0], [0, 0, 0, 0]])
    rng = torch.Generator().manual_seed(0)
    for setting in (
        dict(top_k=None, top_p=None),
        dict(top_k=3, top_p=None),
        dict(top_k=None, top_p=0.9),
    ):
        drawn = torch.stack(
            [sample(logits, 1.0, uniform=uniform(3, rng=rng), **setting) for _ in range(1500)],
            dim=1,
        )
        for row in range(
            2 if setting["top_k"] else 3
        ):  # with equal logits which three stay is a tie
            check_counts(drawn[row].tolist(), brute_force(logits[row], **setting))


def test_impossible_tokens_are_never_drawn():
    logits = torch.tensor([-math.inf, 0.0, -math.inf, 0.5, -math.inf])
    rng = torch.Generator().manual_seed(0)
    for setting in (
        dict(top_k=None, top_p=None),
        dict(top_k=5, top_p=None),
        dict(top_k=None, top_p=1.0),
    ):
        drawn = sample(
            logits.expand(5000, -1), 1.0, uniform=uniform(5000, rng=rng), **setting
        ).tolist()
        check_counts(drawn, brute_force(logits, **setting))


@pytest.mark.parametrize("number, place", [(0.0, 0), (1 - 2.0**-53, -1)])
def test_both_ends_of_the_uniform_number(number, place):
    """The smallest draw takes the first token that can be drawn, the largest the last one: never
    one beyond."""
    logits = torch.randn(200, 50, generator=torch.Generator().manual_seed(0))
    logits[:, [0, 49]] = -math.inf
    numbers = torch.full((200,), number, dtype=torch.float64)
    assert sample(logits, 1.0, None, None, numbers).tolist() == [[1, 48][place]] * 200
    order = logits.sort(descending=True).indices
    assert torch.equal(sample(logits, 1.0, None, 1.0, numbers), order[:, [0, 47][place]])
    assert torch.equal(sample(logits, 1.0, 7, None, numbers), order[:, [0, 6][place]])


def test_noise_is_the_only_source_of_randomness():
    model, _ = constant_model()

    def run(seed):
        return generate(
            model,
            [[1], [2, 3]],
            max_new_tokens=8,
            eos=-1,
            noise=None if seed is None else uniform(2, 8, rng=torch.Generator().manual_seed(seed)),
        )

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert run(3) == run(3) != run(4)
    assert len({str(run(None)) for _ in range(3)}) == 3
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match=r"noise: expected \[1, 8\], got \[2, 8\]"):
        generate(model, [[1]], max_new_tokens=8, eos=-1, noise=torch.zeros(2, 8))


def test_a_row_is_drawn_alike_in_any_batch():
    """Ragged prompts, rows that end early: each completion is that of its prompt and its noise
    alone."""
    model, prompts = (
        random_model(tie_head=False).double(),
        [random_ids(n).tolist() for n in (1, 9, 12, 3, 7, 7, 2)],
    )
    noise = uniform(7, 12, rng=torch.Generator().manual_seed(1))
    setting = dict(max_new_tokens=12, eos=4, temperature=1.5, top_p=0.9)
    together = generate(model, prompts, noise=noise, **setting)
    alone = [
        generate(model, [p], noise=noise[i : i + 1], **setting)[0] for i, p in enumerate(prompts)
    ]
    assert together == alone and len({len(c.ids) for c in together}) > 2


@pytest.mark.parametrize(
    "budget, parts", [(10**6, [6 * 12]), (24, [2 * 12, 4 * 5]), (1, [12, 9, 5, 2, 2, 1])]
)
def test_prompts_are_read_once_and_in_parts(monkeypatch, budget, parts):
    """However the prompts are cut into parts, and whichever are equal: the same completions. Of 8
    prompts 6 are read."""
    model = random_model(tie_head=False).double()
    prompts = [random_ids(n, seed=n).tolist() for n in (9, 2, 12, 9, 1, 5, 9)]
    prompts[5:5] = [[3, 7]]  # as long as another, but not the same
    noise = uniform(len(prompts), 6, rng=torch.Generator().manual_seed(2))
    want = [
        generate(model, [p], max_new_tokens=6, eos=4, noise=noise[i : i + 1])[0]
        for i, p in enumerate(prompts)
    ]
    seen, forward = [], model.forward
    monkeypatch.setattr(
        model, "forward", lambda ids, *more: (seen.append(ids.numel()), forward(ids, *more))[1]
    )
    monkeypatch.setitem(PREFILL, "cpu", budget)
    assert generate(model, prompts, max_new_tokens=6, eos=4, noise=noise) == want
    assert seen[: len(parts)] == parts and seen[len(parts)] == len(prompts)


@pytest.mark.parametrize("places", [1, 3, 128])
def test_a_refilled_row_is_drawn_as_if_alone(monkeypatch, places):
    """While prompts wait, one takes the place of each row that has ended."""
    model = random_model(tie_head=False).double()
    lengths = [1, 9, 24, 3, 16, 2, 23, 5, 12, 7, 9]
    prompts = [random_ids(n, seed=n).tolist() for n in lengths]  # two are equal
    noise = uniform(11, 20, rng=torch.Generator().manual_seed(3))
    setting = dict(max_new_tokens=20, eos={4, 9}, temperature=1.5)
    alone = [
        generate(model, [p], noise=noise[i : i + 1], **setting)[0] for i, p in enumerate(prompts)
    ]
    assert {c.truncated for c in alone} == {True, False} and len({len(c.ids) for c in alone}) > 4
    in_work, step = [], Batch.step
    monkeypatch.setattr(
        Batch, "step", lambda self, *stop: (in_work.append(len(self.hidden)), step(self, *stop))
    )
    assert generate(model, prompts, noise=noise, places=places, **setting) == alone
    assert max(in_work) == min(places, 10)  # the prompt of 24 tokens is full


class Reads(TorchFunctionMode):
    """Counts where the host reads a tensor, and so would wait for a device."""

    NAMES = {"tolist", "item", "numpy", "cpu", "nonzero", "__bool__", "__int__", "__index__"}
    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += getattr(func, "__name__", "") in self.NAMES
        return func(*args, **(kwargs or {}))


class Dispatched(TorchDispatchMode):
    """Counts the reads inside an operation, such as an index of booleans."""

    OPERATIONS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in self.OPERATIONS
        if func is torch.ops.aten.index.Tensor:
            self.count += any(i is not None and i.dtype == torch.bool for i in args[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("setting", [dict(temperature=0), dict(top_k=5, top_p=0.9)], ids=str)
def test_the_host_reads_once_in_eight_tokens(setting):
    model, prompts = random_model(max_seq_len=80), [[1, 2], [3]]
    with Reads() as reads, Dispatched() as inside:
        assert torch.ones(2).tolist() and torch.ones(1) and len(torch.ones(3)[torch.ones(3) > 0])
    assert (reads.count, inside.count) == (2, 2)  # the counters count
    with Reads() as reads, Dispatched() as inside:
        out = generate(model, prompts, max_new_tokens=64, eos=-1, **setting)
    assert [len(c.ids) for c in out] == [64, 64]
    assert (reads.count, inside.count) == (8, 0)


def test_a_step_can_be_captured(monkeypatch):
    """In one graph, with the same completions as eagerly, while rows end and are refilled."""
    model = random_model(tie_head=False, n_layer=1).double()
    prompts = [random_ids(n, seed=n).tolist() for n in (1, 9, 3)]
    noise = uniform(3, 12, rng=torch.Generator().manual_seed(3))
    setting = dict(max_new_tokens=12, eos=4, noise=noise, places=2)
    want = generate(model, prompts, **setting)
    compiled = torch.compile(Batch.step, fullgraph=True, backend="eager", dynamic=True)
    monkeypatch.setattr(Batch, "step", compiled)
    assert generate(model, prompts, **setting) == want


def test_a_step_makes_nothing_on_the_host():
    """On the meta device a tensor of the host, or a read, is an error."""
    model = random_model().to("meta")
    noise = torch.rand(3, 5, dtype=torch.float64, device="meta")

    def draw(logits, uniform):
        return sample(logits, 1.0, 5, 0.9, uniform)

    batch = Batch(model, 3, 12, draw, noise)
    batch.cache.is_empty = False
    batch.step(torch.zeros(2, device="meta"), torch.zeros(3, device="meta"))
    assert batch.hidden.shape == (3, 12) and batch.hidden.is_meta


def test_limits_and_cut_flags():
    model, _ = constant_model(eos_logit=50.0)  # always EOS
    assert generate(model, [[1], [2, 3]], max_new_tokens=5, eos=4) == [Completion([4], False)] * 2
    # An EOS on the very last allowed position is an end, not a cut; one in the prompt is neither.
    out = generate(model, [[4] * 23, [4] * 24], max_new_tokens=5, eos=4)
    assert out == [Completion([4], False), Completion([], True)]
    assert generate(model, [[1]], max_new_tokens=1, eos=4) == [Completion([4], False)]
    assert generate(model, [[1]], max_new_tokens=0, eos=4) == [Completion([], True)]
    assert generate(model, [], max_new_tokens=5, eos=4) == []
    out = generate(model, [[1] * n for n in (24, 20, 22, 1)], max_new_tokens=6, eos=-1)
    assert [(len(c.ids), c.truncated) for c in out] == [(0, True), (4, True), (2, True), (6, True)]


@pytest.mark.parametrize(
    "prompts, changes, message",
    [
        ([[1], []], {}, "prompt 1 has 0 tokens, not 1 to 24"),
        ([[1], [2], [3] * 25], {}, "prompt 2 has 25 tokens, not 1 to 24"),
        ([[1]], {"temperature": -1.0}, "temperature=-1.0"),
        ([[1]], {"top_k": 0}, "top_k=0"),
        ([[1]], {"top_p": 0.0}, "top_p=0.0"),
        ([[1]], {"top_p": 1.5}, "top_p=1.5"),
    ],
)
def test_generate_errors(prompts, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(random_model(), prompts, max_new_tokens=3, eos=4, **changes)


def test_generate_leaves_the_model_as_it_was():
    model = random_model()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    for mode in (True, False):
        model.train(mode)
        generate(model, [[1, 2]], max_new_tokens=3, eos=-1)
        assert model.training is mode
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())
    model(random_ids(1, 4)).sum().backward()  # nothing left behind in inference mode


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_bfloat16_model_and_autocast_can_generate():
    model = random_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert len(generate(model, [[1, 2], [3]], max_new_tokens=4, eos=-1)[1].ids) == 4
    assert len(generate(model.bfloat16(), [[1, 2], [3]], max_new_tokens=4, eos=-1)[1].ids) == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu():
    model, prompts = (
        random_model(tie_head=False).double(),
        [random_ids(n).tolist() for n in (1, 9, 24, 3)],
    )
    want = generate(model, prompts, max_new_tokens=14, eos=4, temperature=0)
    assert generate(model.cuda(), prompts, max_new_tokens=14, eos=4, temperature=0) == want
    rng = torch.Generator("cuda").manual_seed(0)
    logits = torch.linspace(1, -1, 13)
    for setting in (dict(top_k=None, top_p=None), dict(top_k=6, top_p=0.8)):
        drawn = sample(
            logits.cuda().expand(8000, -1), 1.0, uniform=uniform(8000, rng=rng), **setting
        ).tolist()
        check_counts(drawn, brute_force(logits, **setting))
