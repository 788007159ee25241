"""What holds for every aggregator of fl-kit, found by itself: a new one is held to it without a line here."""

import inspect
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from fl_kit import FedAvg, Job, aggregators
from fl_kit.aggregators.robust import Robust
from fl_kit.components import build, describe
from fl_kit.errors import IncompatibleError, QuorumLost
from fl_kit.messages import Update, read, write
from fl_kit.silo import Federation
from sim.in_process import InProcess
from sim.processes import Processes
from tests.contracts.local_azureml import LocalAzureML
from tests.fl_kit.aggregators.made import ROUND_3, drawn
from tests.tasks import BATCHNORM, digests, job, random_rows, run, silos

KINDS = [getattr(aggregators, name) for name in aggregators.__all__]
SHARED = {"__init__", "blocks", "robust"}
NEEDED: dict[str, dict[str, Any]] = {"FLTrust": {"trusted": "s0"}}
"""Settings without which one does not stand; its docstring says why."""
every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def made(kind: Any, **settings: Any) -> Any:
    return kind(**{**NEEDED.get(kind.__name__, {}), **settings})


def nine(seed: int = 1, dtype: torch.dtype = torch.float32) -> list[Update]:
    """Updates of a model with two parameters, a float buffer and a counter."""
    return [
        Update(
            delta={"weight": values[:8].view(2, 4).to(dtype), "bias": values[8].to(dtype)},
            weight=1.0 + place,
            extra={"buffers": {"mean": values[9:].to(dtype), "batches": torch.tensor(3 + place)}},
            silo=f"s{place}",
        )
        for place, values in enumerate(drawn(9, 12, seed))
    ]


def tensors(update: Update) -> dict[str, torch.Tensor]:
    """Everything in it by name."""
    extra = {f"{g}/{name}": value for g, group in update.extra.items() for name, value in group.items()}
    return {**update.delta, **extra}


def test_every_file_of_the_package_is_offered() -> None:
    """An aggregator that nobody exported would escape all rules below."""
    files = {path.stem for path in Path(aggregators.__file__).parent.glob("*.py")} - SHARED
    assert {kind.__module__.rpartition(".")[2] for kind in KINDS} == files


@every
def test_it_is_a_frozen_dataclass_that_stands_without_settings_or_says_why_not(kind: Any) -> None:
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert all(field.kw_only for field in fields(kind))
    if kind.__name__ in NEEDED:
        assert "there is no default, since" in " ".join((inspect.getdoc(kind) or "").split())
    else:
        kind()


@every
def test_paper_and_breakdown_point_are_named(kind: Any) -> None:
    module = inspect.getmodule(kind)
    assert module is not None
    assert re.search(r"arXiv \d{4}\.\d{4,5}", module.__doc__ or "") or kind is aggregators.Mean
    assert "Breakdown" in (inspect.getdoc(kind) or "")
    assert len(inspect.getsource(module).splitlines()) <= 150


@every
def test_every_setting_is_explained(kind: Any) -> None:
    for field in fields(kind):
        assert re.search(rf"^{field.name}  +\S", inspect.getdoc(kind) or "", re.MULTILINE), field.name


@every
def test_described_and_built_again_it_is_equal(kind: Any) -> None:
    described = describe(made(kind), "nowhere")
    assert described["class"] == f"{kind.__module__}.{kind.__name__}"
    assert build(described, inspect) == made(kind)
    asked = job(BATCHNORM, FedAvg(), 3, aggregator=made(kind))
    assert Job.from_json(asked.to_json(), asked.task.source) == asked


@every
def test_it_says_what_it_is(kind: Any) -> None:
    """A rule that compares updates is no mean, and cannot work on hidden ones."""
    assert kind.inspects_individuals == issubclass(kind, Robust)
    assert made(kind).is_mean == (kind is aggregators.Mean)


@every
def test_it_gives_names_shapes_and_finite_numbers(kind: Any) -> None:
    sent = nine()
    found = made(kind)(iter(sent), ROUND_3)
    assert {name: value.shape for name, value in tensors(found).items()} == {
        name: value.shape for name, value in tensors(sent[0]).items()
    }
    assert all(torch.isfinite(value).all() for value in tensors(found).values())
    assert found.weight > 0


@every
@pytest.mark.parametrize(
    ("dtype", "summed"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_dtypes_are_summed_in_one_that_is_wide_enough(kind: Any, dtype: torch.dtype, summed: torch.dtype) -> None:
    found = made(kind)(iter(nine(dtype=dtype)), ROUND_3)
    assert {value.dtype for value in found.delta.values()} == {summed}
    assert found.extra["buffers"]["mean"].dtype == summed
    assert found.extra["buffers"]["batches"].dtype == torch.float64


@every
def test_what_it_is_given_does_not_change(kind: Any) -> None:
    sent, kept = nine(), nine()
    found = made(kind)(iter(sent), ROUND_3)
    for value in tensors(found).values():
        value.add_(1e6)
    for one, before in zip(sent, kept, strict=True):
        assert all(torch.equal(value, tensors(before)[name]) for name, value in tensors(one).items())


@every
def test_an_update_without_weight_changes_no_bit(kind: Any) -> None:
    empty = Update(
        delta={name: value + 1e6 for name, value in nine()[4].delta.items()},
        weight=0.0,
        extra=nine()[4].extra,
        silo="s42",
    )
    found, expected = (tensors(made(kind)(iter(sent), ROUND_3)) for sent in ([*nine(), empty], nine()))
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@every
def test_one_silo_is_itself_or_too_few(kind: Any) -> None:
    (one,) = nine()[:1]
    if getattr(made(kind), "needs", 1) > 1:
        with pytest.raises(QuorumLost, match=rf"round 3: {kind.__name__}.* needs n ≥ .* updates, and 1 count"):
            made(kind)(iter([one]), ROUND_3)
        return
    found = tensors(made(kind)(iter([one]), ROUND_3))
    assert all(torch.equal(found[name], value.to(found[name].dtype)) for name, value in tensors(one).items())


@every
def test_of_none_there_is_nothing_to_combine(kind: Any) -> None:
    with pytest.raises(QuorumLost):
        made(kind)(iter([]), ROUND_3)


@every
def test_a_model_that_moves_along_moves_the_result(kind: Any) -> None:
    """All updates turned round give the result turned round: no direction is built in."""
    found = made(kind)(iter(nine()), ROUND_3).delta
    turned = [
        Update(delta={n: -v for n, v in one.delta.items()}, weight=one.weight, silo=one.silo, extra={})
        for one in nine()
    ]
    back = made(kind)(iter(turned), ROUND_3).delta
    assert all(torch.allclose(back[name], -value, rtol=1e-5, atol=1e-7) for name, value in found.items())


@pytest.fixture
def seven(tmp_path: Path) -> Federation:
    rows = {f"s{place}": random_rows(6 + 2 * place, 4, place) for place in range(7)}
    return silos(tmp_path / "silos", **rows)


@every
def test_too_few_silos_are_refused_before_anything_runs(kind: Any, seven: Federation) -> None:
    rule = made(kind)
    asked = job(BATCHNORM, FedAvg(), 1, aggregator=rule)
    asked.plan(seven)
    if getattr(rule, "needs", 1) > 1:
        with pytest.raises(IncompatibleError, match=rf"{kind.__name__}\(.*needs n ≥ .* = {rule.needs} .*only 2"):
            asked.plan(seven.select(["s0", "s3"]))
    else:
        asked.plan(seven.select(["s0"]))


@every
def test_the_same_bits_however_the_silos_are_listed(kind: Any, seven: Federation) -> None:
    turned = Federation(silos=seven.silos[::-1])
    settings: dict[str, Any] = {"aggregator": made(kind), "seed": 3}
    first, again = (run(BATCHNORM, FedAvg(lr=0.05, batch_size=4), f, 2, **settings) for f in (seven, turned))
    assert digests(first) == digests(again)
    assert len(set(digests(first))) == 3


@every
def test_updates_that_went_through_files_give_the_same_bits(kind: Any, tmp_path: Path) -> None:
    """A file gives names in another order than a model: no sum may depend on it."""
    for one in nine():
        write(one, tmp_path / one.silo)
    read_back = [read(Update, tmp_path / one.silo) for one in nine()]
    assert list(read_back[0].delta) != list(nine()[0].delta)
    found, expected = (tensors(made(kind)(iter(sent), ROUND_3)) for sent in (read_back, nine()))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.slow
def test_the_same_bits_in_every_backend(tmp_path: Path) -> None:
    """The rule with the most sums stands for all: what arrives at a rule is the same, by the test before."""
    three = silos(tmp_path / "silos", **{f"s{place}": random_rows(6 + 2 * place, 4, place) for place in range(3)})
    asked = job(BATCHNORM, FedAvg(lr=0.05, batch_size=4), 1, aggregator=aggregators.GeometricMedian())
    azureml = LocalAzureML(folder=tmp_path)
    try:
        places = (InProcess(folder=None), Processes(folder=tmp_path / "processes"), azureml)
        found = [asked.run(three, on=place).wait().digest() for place in places]
    finally:
        azureml.close()
    assert len(set(found)) == 1
    assert found[0] != job(BATCHNORM, FedAvg(lr=0.05, batch_size=4), 1).run(three, on=places[0]).wait().digest()
