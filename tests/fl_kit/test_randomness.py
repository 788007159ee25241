"""Seeded draws: from `(seed, parts)` alone, and without a touch of the global generator."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from fl_kit.randomness import SEED_BITS, derived_seed, generator, seeded
from fl_kit.strategies import FedAvg
from tests.tasks import digests, random_rows, run, silos, write_task


def initial(module: Callable[[], nn.Module]) -> Callable[[], Tensor]:
    """The first weights of a module."""
    return lambda: torch.cat([p.detach().reshape(-1) for p in module().parameters()])


def trained(module: nn.Module, *inputs: Tensor) -> Callable[[], Tensor]:
    """The output of a module in training mode."""

    def draw() -> Tensor:
        found = module.train()(*inputs)
        return (found[0] if isinstance(found, tuple) else found).detach()

    return draw


X = torch.linspace(-1, 1, 60).reshape(3, 4, 5)
ONES = torch.ones(50)
with seeded(0, "modules"):
    LSTM = nn.LSTM(5, 4, num_layers=2, dropout=0.5)
    TRANSFORMER = nn.TransformerEncoderLayer(4, 2, dim_feedforward=8, dropout=0.5, batch_first=True)

DRAWS: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(9),
    "randn": lambda: torch.randn(9, dtype=torch.float64),
    "randint": lambda: torch.randint(10**6, (9,)),
    "randint low": lambda: torch.randint(-(10**6), 10**6, (9,)),
    "randperm": lambda: torch.randperm(40),
    "rand_like": lambda: torch.rand_like(ONES),
    "rand_like dtype": lambda: torch.rand_like(ONES, dtype=torch.float64),
    "randn_like": lambda: torch.randn_like(ONES),
    "randint_like": lambda: torch.randint_like(ONES, 10**6),
    "randint_like low": lambda: torch.randint_like(ONES, -(10**6), 10**6),
    "normal": lambda: torch.normal(0.0, 1.0, (9,)),
    "normal of tensors": lambda: torch.normal(torch.zeros(9), torch.ones(9)),
    "multinomial": lambda: torch.multinomial(ONES, 40),
    "bernoulli": lambda: torch.bernoulli(ONES / 2),
    "poisson": lambda: torch.poisson(ONES * 100),
    "uniform_": lambda: torch.empty(9).uniform_(),
    "normal_": lambda: torch.empty(9).normal_(),
    "exponential_": lambda: torch.empty(9).exponential_(),
    "random_": lambda: torch.empty(9).random_(10**6),
    "bernoulli_": lambda: torch.empty(60).bernoulli_(0.5),
    "nn.Linear": initial(lambda: nn.Linear(4, 4)),
    "nn.Conv2d": initial(lambda: nn.Conv2d(2, 3, 2)),
    "nn.Embedding": initial(lambda: nn.Embedding(5, 4)),
    "nn.LSTM": initial(lambda: nn.LSTM(3, 4)),
    "nn.MultiheadAttention": initial(lambda: nn.MultiheadAttention(4, 2)),
    "xavier_uniform_": lambda: nn.init.xavier_uniform_(torch.empty(3, 3)),
    "kaiming_normal_": lambda: nn.init.kaiming_normal_(torch.empty(3, 3)),
    "orthogonal_": lambda: nn.init.orthogonal_(torch.empty(3, 3)),
    "trunc_normal_": lambda: nn.init.trunc_normal_(torch.empty(9)),
    "sparse_": lambda: nn.init.sparse_(torch.empty(9, 9), 0.5),
    "nn.Dropout": trained(nn.Dropout(0.5), X),
    "nn.Dropout2d": trained(nn.Dropout2d(0.5), torch.ones(8, 4, 2, 2)),
    "nn.AlphaDropout": trained(nn.AlphaDropout(0.5), X),
    "nn.FeatureAlphaDropout": trained(nn.FeatureAlphaDropout(0.5), torch.ones(8, 4, 2)),
    "nn.RReLU": trained(nn.RReLU(), -X.abs() - 1),
    "native_dropout": lambda: torch.native_dropout(X, 0.5, True)[0],
    "gumbel_softmax": lambda: F.gumbel_softmax(X),
    "fractional_max_pool2d": lambda: F.fractional_max_pool2d(torch.arange(900.0).view(9, 1, 10, 10), 2, output_size=6),
    "attention with dropout": lambda: F.scaled_dot_product_attention(X, X, X, dropout_p=0.5),
    "LSTM with dropout": trained(LSTM, X),
    "transformer with dropout": trained(TRANSFORMER, X[..., :4]),
    "dirichlet": lambda: torch.distributions.Dirichlet(torch.ones(4)).sample(),
    "dropout in inference mode": torch.inference_mode()(lambda: F.dropout(X, 0.5)),
}  # fmt: skip
every_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())


@every_draw
def test_draws_follow_from_the_seed_and_leave_the_global_generator_alone(draw: Callable[[], Tensor]) -> None:
    before = torch.get_rng_state()
    with seeded(7, "a", 1) as first_mode:
        first = draw()
    assert torch.equal(torch.get_rng_state(), before)
    assert first_mode.drew
    torch.rand(13)  # moves the global generator: it must not be read
    with seeded(7, "a", 1):
        again = draw()
    assert torch.equal(first, again)
    with seeded(7, "a", 2):
        other = draw()
    assert not torch.equal(first, other)


@every_draw
def test_two_draws_in_a_row_differ(draw: Callable[[], Tensor]) -> None:
    with seeded(7, "a"):
        assert not torch.equal(draw(), draw())


@every_draw
def test_a_draw_has_the_form_that_torch_gives_it(draw: Callable[[], Tensor]) -> None:
    plain = draw()
    with seeded(7, "a"):
        found = draw()
    assert (found.shape, found.dtype, found.stride()) == (plain.shape, plain.dtype, plain.stride())


def test_ranges_are_kept() -> None:
    with seeded(1, "ranges"):
        low, high = torch.randint_like(torch.ones(5000), -2, 3), torch.randint_like(torch.ones(5000), 4)
        uniform, normal = torch.rand_like(torch.ones(5000)), torch.randn_like(torch.ones(5000))
    assert set(low.tolist()) == {-2, -1, 0, 1, 2}
    assert set(high.tolist()) == {0, 1, 2, 3}
    assert 0 <= float(uniform.min()) < float(uniform.max()) < 1
    assert float(normal.mean()) == pytest.approx(0, abs=0.08)  # more than five standard errors of 1/√5000
    assert float(normal.std()) == pytest.approx(1, abs=0.06)


def test_a_dropout_mask_flows_into_its_gradient() -> None:
    """d/dx Σ dropout(x) is the mask itself: 0 or 1/(1 − 0.5) = 2."""
    x = torch.ones(200, requires_grad=True)
    with seeded(1, "mask"):
        y = F.dropout(x, 0.5)
        y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())
    assert set(x.grad.tolist()) == {0.0, 2.0}


def test_a_generator_of_the_callers_own_is_used() -> None:
    expected = torch.rand(5, generator=torch.Generator().manual_seed(3))
    with seeded(7, "a") as mode:
        assert torch.equal(torch.rand(5, generator=torch.Generator().manual_seed(3)), expected)
    assert not mode.drew


def test_without_draws_it_says_so() -> None:
    with seeded(7, "a") as mode:
        F.dropout(X, 0.5, training=False).sum()
        nn.functional.linear(X, torch.ones(2, 5))
    assert not mode.drew


def test_nested_blocks_draw_from_the_inner_one_then_go_on() -> None:
    with seeded(1, "outer"):
        expected = torch.rand(3), torch.rand(3)
    with seeded(1, "outer"):
        first = torch.rand(3)
        with seeded(1, "inner"):
            inner = torch.rand(3)
        second = torch.rand(3)
    assert torch.equal(first, expected[0])
    assert torch.equal(second, expected[1])
    with seeded(1, "inner"):
        assert torch.equal(torch.rand(3), inner)


def test_an_error_ends_the_block() -> None:
    def failing() -> None:
        with seeded(1, "a"):
            torch.rand(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    before = torch.get_rng_state()
    torch.rand(1)
    assert not torch.equal(torch.get_rng_state(), before)


def test_threads_do_not_disturb_one_another() -> None:
    """Each of four threads draws alone first, then all together while a fifth drains the global generator."""

    def draws(part: int) -> Tensor:
        with seeded(7, part):
            return torch.cat(
                [F.dropout(torch.ones(50), 0.5) + torch.randn(50) + torch.rand_like(ONES) for _ in range(60)]
            )

    alone = [draws(part) for part in range(4)]
    done = threading.Event()

    def drain() -> None:
        while not done.is_set():
            torch.rand(7)

    noisy = threading.Thread(target=drain)
    noisy.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(draws, range(4)))
    finally:
        done.set()
        noisy.join()
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_block_of_one_thread_leaves_the_draws_of_another_alone() -> None:
    """The other thread's global draws are the ones it would have had by itself."""
    with torch.random.fork_rng():
        state = torch.get_rng_state()
        expected = [torch.rand(3) for _ in range(300)]
        torch.set_rng_state(state)
        done = threading.Event()

        def busy() -> None:
            with seeded(7, "busy"):
                while not done.is_set():
                    F.dropout(ONES, 0.5)
                    torch.randn_like(ONES)
                    torch.randint(9, (9,))

        other = threading.Thread(target=busy)
        other.start()
        try:
            found = [torch.rand(3) for _ in range(300)]
        finally:
            done.set()
            other.join()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# derived seeds


@given(st.integers(), st.lists(st.one_of(st.integers(), st.text(max_size=8)), max_size=4))
def test_a_derived_seed_fits_its_bits(seed: int, parts: list[object]) -> None:
    found = derived_seed(seed, *parts)
    assert 0 <= found < 2**SEED_BITS
    assert found == derived_seed(seed, *parts)


def test_derived_seeds_are_pinned() -> None:
    """By hand: sha256("7\\x1fa"), its first 8 bytes, shifted right by one bit; old runs must stay repeatable."""
    import hashlib

    expected = int(hashlib.sha256(b"7\x1fa").hexdigest()[:16], 16) // 2
    assert derived_seed(7, "a") == expected


def test_parts_do_not_run_together() -> None:
    seeds = [
        derived_seed(1, "ab", "c"),
        derived_seed(1, "a", "bc"),
        derived_seed(1, "abc"),
        derived_seed(1, "ab", "c", ""),
    ]
    assert len(set(seeds)) == len(seeds)


def test_steps_of_a_run_draw_differently() -> None:
    """Torch keeps 32 bits of a CPU seed: of 3,000 steps no two may begin with the same number."""
    seeds = sorted(derived_seed(0, f"round_{r:03d}/silo-{k}/fit") for r in range(100) for k in range(30))
    assert all(a != b for a, b in pairwise(seeds))
    first = {int(torch.randint(2**62, (), generator=generator(0, f"round_{r:03d}/a/fit"))) for r in range(1000)}
    assert len(first) == 1000


# in a run

NOISY_LATER = """
import torch
from torch import nn

ROUND = {"n": 0}

def model():
    ROUND["n"] = 0
    return nn.Linear(3, 1)

def data(folder, split):
    return torch.ones(4, 3), torch.zeros(4, 1)

loss = nn.MSELoss()

def fit(model, data, context):
    with torch.no_grad():
        model.bias += 1.0
        if context.round > 1:
            model.bias += torch.randn(1)
"""


def test_a_run_draws_nothing_from_the_global_generator(tmp_path: Path) -> None:
    from tests.tasks import DROPOUT

    federation = silos(tmp_path, a=random_rows(9, 4, 0), b=random_rows(5, 4, 1))
    before = torch.get_rng_state()
    first = run(DROPOUT, FedAvg(batch_size=4), federation, 2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert digests(run(DROPOUT, FedAvg(batch_size=4), federation, 2)) == digests(first)


NOISY_ROWS = """
import torch
from torch import nn
from fl_kit import Standardize

class Rows(torch.utils.data.Dataset):
    def __init__(self, noisy):
        self.noisy = noisy

    def __len__(self):
        return 6

    def __getitem__(self, row):
        x = torch.full((2,), float(row))
        return (x + torch.randn(2) if self.noisy else x), torch.tensor([1.0])

def model():
    return nn.Sequential(Standardize(2), nn.Linear(2, 1))

def data(folder, split):
    return Rows(noisy=split == "train" and folder.endswith(NOISY))

loss = nn.MSELoss()
"""


def check_noisy_rows(folder: Path, noisy: str) -> None:
    task = write_task(folder, NOISY_ROWS.replace("NOISY", repr(noisy)))
    federation = silos(folder, a=random_rows(1, 1, 0), b=random_rows(1, 1, 0))
    before = torch.get_rng_state()
    first = run(task, FedAvg(batch_size=2), federation, 2)
    assert digests(run(task, FedAvg(batch_size=2), federation, 2)) == digests(first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("noisy", ["", "a", "b"], ids=["every silo", "first silo", "second silo"])
def test_a_datasets_own_noise_is_seeded(tmp_path: Path, noisy: str) -> None:
    check_noisy_rows(tmp_path, noisy)


def test_draws_that_begin_in_a_later_round_are_seeded_too(tmp_path: Path) -> None:
    task = write_task(tmp_path, NOISY_LATER)
    federation = silos(tmp_path, a=random_rows(1, 1, 0))
    before = torch.get_rng_state()
    first = run(task, FedAvg(), federation, 3)
    assert digests(run(task, FedAvg(), federation, 3)) == digests(first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_made_on_the_meta_device_draws_nothing() -> None:
    with seeded(7, "init") as draws, torch.device("meta"):
        nn.Linear(2, 2)
        torch.randn(3)
    assert not draws.drew


def test_no_compiler_is_loaded_for_it() -> None:
    """torch._dynamo costs more than a second."""
    code = "import sys, torch; from fl_kit.randomness import seeded\nwith seeded(7): torch.nn.Linear(2, 2)\n"
    code += "assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_compiled_model_draws_the_same() -> None:
    """And without the warnings of a compiler that meets the redirection: here they are errors."""
    import torch._dynamo

    with seeded(7, "model"):
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    compiled = torch.compile(model, backend="eager")
    inputs = torch.linspace(-1, 1, 12).reshape(3, 4)
    for round in range(2):
        with seeded(7, round):
            expected = model(inputs)
        with seeded(7, round) as draws:
            found = compiled(inputs)
        assert draws.drew
        assert torch.equal(found, expected)
