"""Metrics: merged sums give the pooled value; AUC keeps its bound; bad input is named."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fl_kit.errors import TaskError
from fl_kit.metrics import (
    AUC,
    F1,
    R2,
    Accuracy,
    AveragePrecision,
    Mean,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    Precision,
    Recall,
    ratio,
)

Rows = tuple[Tensor, Tensor]
logit = st.floats(-30, 30).filter(lambda z: z == 0 or abs(z) > 1e-9)  # a test's own sigmoid rounds nearer to 0
finite = st.floats(-100, 100)


def column_of(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@st.composite
def binary_rows(draw: st.DrawFn) -> Rows:
    rows = draw(st.lists(st.tuples(logit, st.integers(0, 1)), min_size=1, max_size=60))
    return column_of([z for z, _ in rows]), torch.tensor([y for _, y in rows])


@st.composite
def multiclass_rows(draw: st.DrawFn) -> Rows:
    classes = draw(st.integers(2, 5))
    row = st.tuples(st.lists(finite, min_size=classes, max_size=classes), st.integers(0, classes - 1))
    rows = draw(st.lists(row, min_size=1, max_size=40))
    return column_of([z for z, _ in rows]), torch.tensor([y for _, y in rows])  # type: ignore[misc]


@st.composite
def real_rows(draw: st.DrawFn) -> Rows:
    rows = draw(st.lists(st.tuples(finite, finite), min_size=1, max_size=60))
    return column_of([o for o, _ in rows]), column_of([y for _, y in rows])


def merged(metric: Metric, rows: Rows, cuts: Sequence[int]) -> float:
    """The value after cutting the rows into batches at `cuts` and dealing the batches to three silos."""
    outputs, targets = rows
    edges = [0, *sorted(min(cut, len(targets)) for cut in cuts), len(targets)]
    batches = [slice(a, b) for a, b in pairwise(edges)]  # some are empty
    silos = [[metric.sums(outputs[b], targets[b]) for b in batches[k::3]] for k in range(3)]
    return metric.value(sum(sum(silo) for silo in silos if silo))  # type: ignore[arg-type]


def same(left: float, right: float) -> bool:
    return (math.isnan(left) and math.isnan(right)) or math.isclose(left, right, rel_tol=1e-12, abs_tol=1e-12)


cuts = st.lists(st.integers(0, 60), max_size=8)

# ---- straightforward computations on the pooled rows, in plain Python ----


def divide(above: float, below: float) -> float:
    return above / below if below else math.nan


def scores(predicted: list[int], actual: list[int], label: int) -> tuple[float, float, float]:
    tp = sum(p == a == label for p, a in zip(predicted, actual, strict=True))
    fp = sum(p == label != a for p, a in zip(predicted, actual, strict=True))
    fn = sum(a == label != p for p, a in zip(predicted, actual, strict=True))
    return divide(tp, tp + fp), divide(tp, tp + fn), divide(2 * tp, 2 * tp + fp + fn)


def macro(predicted: list[int], actual: list[int]) -> list[float]:
    per_class = [scores(predicted, actual, label) for label in sorted({*predicted, *actual})]
    return [math.fsum(0.0 if math.isnan(s) else s for s in kind) / len(per_class) for kind in zip(*per_class)]  # noqa: B905


def exact_auc(outputs: Tensor, targets: Tensor) -> float:
    positive = outputs[targets == 1].tolist()
    negative = outputs[targets == 0].tolist()
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    return divide(wins, len(positive) * len(negative))


def exact_average_precision(outputs: Tensor, targets: Tensor) -> float:
    """Each positive's precision among the rows that score as high as it or higher, averaged."""
    scored = list(zip(outputs.tolist(), targets.tolist(), strict=True))
    precisions = []
    for score in (z for z, y in scored if y):
        alarms = [y for z, y in scored if z >= score]
        precisions.append(sum(alarms) / len(alarms))
    return divide(math.fsum(precisions), len(precisions))


# ---- merged equals pooled ----


@given(binary_rows(), cuts, st.sampled_from([0.5, 0.2, 0.9]))
def test_binary_metrics_merge_to_the_pooled_value(rows: Rows, cuts: list[int], threshold: float) -> None:
    predicted = [int(1 / (1 + math.exp(-z)) >= threshold) for z in rows[0].tolist()]
    actual = rows[1].tolist()
    precision, recall, f1 = scores(predicted, actual, 1)
    correct = sum(p == a for p, a in zip(predicted, actual, strict=True)) / len(actual)
    for metric, expected in (
        (Accuracy(threshold=threshold), correct),
        (Precision(threshold=threshold), precision),
        (Recall(threshold=threshold), recall),
        (F1(threshold=threshold), f1),
    ):
        assert same(merged(metric, rows, cuts), expected), metric
        assert same(merged(metric, rows, []), expected), metric


@given(multiclass_rows(), cuts)
def test_multiclass_metrics_merge_to_the_pooled_value(rows: Rows, cuts: list[int]) -> None:
    predicted, actual = [max(range(len(z)), key=z.__getitem__) for z in rows[0].tolist()], rows[1].tolist()
    correct = sum(p == a for p, a in zip(predicted, actual, strict=True)) / len(actual)
    expected = macro(predicted, actual)
    for kind, value in zip((Precision, Recall, F1), expected, strict=True):
        assert same(merged(kind(), rows, cuts), value), kind
        assert same(merged(kind(average="macro"), rows, cuts), value), kind
        assert same(merged(kind(average="micro"), rows, cuts), correct), kind  # one label a row: all three agree
    assert same(merged(Accuracy(), rows, cuts), correct)


@given(real_rows(), cuts)
def test_regression_metrics_merge_to_the_pooled_value(rows: Rows, cuts: list[int]) -> None:
    errors = [y - o for o, y in zip(rows[0].tolist(), rows[1].tolist(), strict=True)]
    squared = math.fsum(e * e for e in errors) / len(errors)
    assert same(merged(MeanSquaredError(), rows, cuts), squared)
    assert same(merged(MeanAbsoluteError(), rows, cuts), math.fsum(map(abs, errors)) / len(errors))
    signed = Mean(name="bias", function=lambda o, y: y - o)
    assert same(merged(signed, rows, cuts), math.fsum(errors) / len(errors))


@given(st.lists(st.tuples(finite, st.integers(-20, 20)), min_size=2, max_size=60), cuts, st.sampled_from([0.0, 7.5]))
def test_r2_merges_to_the_pooled_value(pairs: list[tuple[float, int]], cuts: list[int], center: float) -> None:
    rows = column_of([o for o, _ in pairs]), column_of([y for _, y in pairs])
    targets = rows[1].tolist()
    mean = math.fsum(targets) / len(targets)
    spread = math.fsum((y - mean) ** 2 for y in targets)
    error = math.fsum((y - o) ** 2 for o, y in pairs)
    expected = 1 - error / spread if len(set(targets)) > 1 else math.nan
    assert same(merged(R2(center=center), rows, cuts), expected)


@given(binary_rows(), cuts, st.sampled_from([2, 7, 64, 1024]))
def test_auc_merges_to_the_bit_and_keeps_its_bound(rows: Rows, cuts: list[int], bins: int) -> None:
    metric = AUC(bins=bins)
    estimate, sums = merged(metric, rows, cuts), metric.sums(*rows)
    assert estimate == metric.value(sums) or math.isnan(estimate)
    exact = exact_auc(*rows)
    assert math.isnan(estimate) == math.isnan(exact) == math.isnan(metric.error_bound(sums))
    assert math.isnan(exact) or abs(estimate - exact) <= metric.error_bound(sums) + 1e-15


@given(binary_rows(), cuts, st.sampled_from([2, 7, 64, 1024]))
def test_average_precision_merges_to_the_bit_and_keeps_its_bounds(rows: Rows, cuts: list[int], bins: int) -> None:
    metric = AveragePrecision(bins=bins)
    estimate, sums = merged(metric, rows, cuts), metric.sums(*rows)
    assert estimate == metric.value(sums) or math.isnan(estimate)
    exact, (low, high) = exact_average_precision(*rows), metric.bounds(sums)
    assert math.isnan(estimate) == math.isnan(exact) == math.isnan(low) == math.isnan(high)
    assert math.isnan(exact) or low - 1e-12 <= exact <= high + 1e-12
    assert math.isnan(exact) or low - 1e-12 <= estimate <= high + 1e-12


@settings(max_examples=50)
@given(binary_rows(), multiclass_rows())
def test_agrees_with_scikit_learn(binary: Rows, several: Rows) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    actual, predicted = several[1].numpy(), several[0].argmax(1).numpy()
    for kind, reference in (
        (Precision, sklearn.precision_score),
        (Recall, sklearn.recall_score),
        (F1, sklearn.f1_score),
    ):
        for average in ("macro", "micro"):
            expected = reference(actual, predicted, average=average, zero_division=0)
            assert same(merged(kind(average=average), several, [3, 9]), expected)
        hits = (binary[0] >= 0).to(torch.int64).numpy()
        expected = reference(binary[1].numpy(), hits, zero_division=math.nan)
        assert same(merged(kind(), binary, [3, 9]), expected)
        if binary[1].any():
            expected = sklearn.average_precision_score(binary[1].numpy(), binary[0].numpy())
            assert same(exact_average_precision(*binary), expected)
        expected = reference(binary[1].numpy(), hits, average="macro", zero_division=0)
        assert same(merged(kind(average="macro"), binary, [3, 9]), expected)


def test_an_average_of_averages_would_be_wrong() -> None:
    """Silo a: 1 of 1 right; silo b: 0 of 3. Pooled 1/4; the average of averages would be 1/2."""
    a = Accuracy().sums(torch.tensor([3.0]), torch.tensor([1]))
    b = Accuracy().sums(torch.tensor([3.0, 3.0, 3.0]), torch.tensor([0, 0, 0]))
    assert Accuracy().value(a + b) == 0.25


# ---- AUC ----


def test_auc_is_exact_when_all_scores_lie_in_different_bins() -> None:
    """Scores in the middle of bins 0, 2, 4 … of 64; labels by a fixed pattern."""
    metric = AUC(bins=64)
    middles = (torch.arange(0, 64, 2, dtype=torch.float64) + 0.5) / 64 * 2 - 1
    logits = middles / (1 - middles.abs())
    targets = torch.tensor([0, 0, 1, 0, 1, 1, 0, 1] * 4)
    sums = metric.sums(logits, targets)
    assert metric.error_bound(sums) == 0
    assert metric.value(sums) == exact_auc(logits, targets)


@pytest.mark.parametrize(("positive_on_top", "exact"), [(True, 1.0), (False, 0.0)])
def test_the_bound_of_auc_is_reached(positive_on_top: bool, exact: float) -> None:
    """All rows in one of two bins: 2·3 pairs, estimate ½, bound ½·6/6 = ½; the exact AUC is 1 or 0."""
    logits = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    targets = torch.tensor([0, 0, 0, 1, 1])
    rows = (logits, targets) if positive_on_top else (-logits, targets)
    sums = AUC(bins=2).sums(*rows)
    assert exact_auc(*rows) == exact
    assert (AUC(bins=2).value(sums), AUC(bins=2).error_bound(sums)) == (0.5, 0.5)


def test_auc_by_hand() -> None:
    """Positives at 2 and −1, negatives at 1 and −1: wins 1 + 1 + 0 + ½ of 4 pairs; one pair shares a bin."""
    sums = AUC().sums(torch.tensor([2.0, -1.0, 1.0, -1.0]), torch.tensor([1, 1, 0, 0]))
    assert AUC().value(sums) == 2.5 / 4
    assert AUC().error_bound(sums) == 0.5 / 4


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=2, max_size=30))
def test_a_higher_logit_is_never_in_a_lower_bin(values: list[float]) -> None:
    metric = AUC(bins=32)
    bins = [int(metric.sums(torch.tensor([z]), torch.tensor([0])).argmax()) for z in sorted(values)]
    assert bins == sorted(bins)


def test_bins_resolve_logits_far_from_zero() -> None:
    """A rare class: logits of N(−8, 1.5) against N(−1, 3). Equal steps of the sigmoid bound it ten times worse."""
    draw = torch.Generator().manual_seed(3)
    targets = (torch.rand(20_000, generator=draw) < 0.02).to(torch.int64)
    noise = torch.randn(20_000, generator=draw, dtype=torch.float64)
    logits = torch.where(targets == 1, -1 + 3 * noise, -8 + 1.5 * noise)
    sums = AUC().sums(logits, targets)
    bound = AUC().error_bound(sums)
    place = (torch.sigmoid(logits) * 1024).long().clamp(max=1023)
    counts = [torch.bincount(place[targets == k], minlength=1024).double() for k in (0, 1)]
    equal_width = float((counts[0] * counts[1]).sum() / (2 * counts[0].sum() * counts[1].sum()))
    assert bound < 1e-3
    assert bound < equal_width / 10


# ---- average precision ----


def test_average_precision_by_hand() -> None:
    """From the top: 1, 0, 1, 0, 1. Precision at the positives 1/1, 2/3, 3/5; each in a bin of its own."""
    metric = AveragePrecision()
    sums = metric.sums(torch.tensor([4.0, 2.0, 1.0, 0.0, -3.0]), torch.tensor([1, 0, 1, 0, 1]))
    expected = (1 + 2 / 3 + 3 / 5) / 3
    assert metric.value(sums) == pytest.approx(expected, abs=1e-15)
    assert metric.bounds(sums) == pytest.approx((expected, expected), abs=1e-14)


def test_average_precision_of_one_bin_by_hand() -> None:
    """Two positives, three negatives, all tied: 2/5. Least: negatives first, (1/4 + 2/5) / 2; greatest: 1."""
    sums = AveragePrecision(bins=2).sums(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([1, 1, 0, 0, 0]))
    assert AveragePrecision(bins=2).value(sums) == 0.4
    assert AveragePrecision(bins=2).bounds(sums) == pytest.approx(((1 / 4 + 2 / 5) / 2, 1.0), abs=1e-14)


def test_average_precision_tells_apart_what_auc_does_not() -> None:
    """One positive among 1000, nine negatives above it: AUC 0.991, average precision one tenth."""
    logits, targets = torch.linspace(-5, 5, 1000), torch.zeros(1000)
    targets[990] = 1
    assert AUC(bins=65536).value(AUC(bins=65536).sums(logits, targets)) == pytest.approx(990 / 999, abs=1e-12)
    metric = AveragePrecision(bins=65536)
    assert metric.value(metric.sums(logits, targets)) == pytest.approx(0.1, abs=1e-12)


# ---- shapes, dtypes, names ----


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64, torch.float32, torch.float16])
@pytest.mark.parametrize(
    "metric", [Accuracy(), Precision(), Recall(), F1(), AUC(), AveragePrecision()], ids=lambda m: m.name
)
def test_targets_of_any_dtype_and_either_shape(metric: Metric, dtype: torch.dtype) -> None:
    outputs, targets = torch.tensor([2.0, -1.0, 0.5, -3.0]), torch.tensor([1, 0, 0, 1])
    expected = metric.sums(outputs, targets)
    assert expected.dtype == torch.float64
    assert expected.ndim == 1
    for shaped in (targets.to(dtype), targets.to(dtype)[:, None]):
        assert torch.equal(metric.sums(outputs[:, None], shaped), expected)
        assert torch.equal(metric.sums(outputs.bfloat16().requires_grad_(), shaped), expected)


def test_two_columns_as_one() -> None:
    """Softmax over (0, z) gives class 1 the probability sigmoid(z)."""
    z, targets = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1, 0, 0])
    two = torch.stack([torch.zeros(3), z], 1)
    for metric in (AUC(), F1(average="binary", threshold=0.7), Precision(average="binary")):
        assert torch.equal(metric.sums(two, targets), metric.sums(z, targets))


@pytest.mark.parametrize("metric", [MeanSquaredError(), MeanAbsoluteError(), R2()], ids=lambda m: m.name)
def test_a_column_never_broadcasts(metric: Metric) -> None:
    outputs, targets = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 3.0, 2.0])
    expected = metric.sums(outputs, targets)
    assert torch.equal(metric.sums(outputs[:, None], targets), expected)
    assert torch.equal(metric.sums(outputs, targets[:, None]), expected)


def test_errors_over_several_columns_are_means_over_all_values() -> None:
    outputs, targets = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    assert MeanSquaredError().value(MeanSquaredError().sums(outputs, targets)) == (4 + 9) / 4
    assert MeanAbsoluteError().value(MeanAbsoluteError().sums(outputs, targets)) == (2 + 3) / 4


def test_half_precision_is_summed_in_float64() -> None:
    """10,000 errors of 1: float16 sums stop at 2048."""
    metric = MeanAbsoluteError()
    sums = metric.sums(torch.ones(10_000, dtype=torch.float16), torch.zeros(10_000, dtype=torch.float16))
    assert sums.tolist() == [10_000, 10_000]


def test_names() -> None:
    assert [m.name for m in (Accuracy(), Precision(), Recall(), F1(), AUC(), AveragePrecision(), R2())] == [
        "accuracy", "precision", "recall", "f1", "auc", "average_precision", "r2",
    ]  # fmt: skip
    assert F1(average="macro").name == "f1_macro"
    assert Recall(threshold=0.3, average="micro").name == "recall_micro_at_0.3"
    assert Accuracy(threshold=0.25).name == "accuracy_at_0.25"
    assert (AveragePrecision().better, MeanSquaredError().better, Mean(name="x", function=torch.sub).better) == (
        "higher", "lower", "lower",
    )  # fmt: skip


# ---- undefined values ----

EVERY = [
    Accuracy(), Precision(), Recall(), F1(), AUC(), AveragePrecision(), MeanSquaredError(), MeanAbsoluteError(),
    R2(), Mean(name="bias", function=torch.sub),
]  # fmt: skip


@pytest.mark.parametrize("metric", EVERY, ids=lambda m: m.name)
def test_no_rows_give_nan(metric: Metric) -> None:
    empty = metric.sums(torch.zeros(0), torch.zeros(0))
    assert math.isnan(metric.value(empty))
    assert math.isnan(metric.value(torch.zeros(0, dtype=torch.float64)))


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_no_rows_of_several_classes_give_nan(average: Any) -> None:
    metric = F1(average=average)
    assert math.isnan(metric.value(metric.sums(torch.zeros(0, 3), torch.zeros(0))))


def test_one_class_only() -> None:
    outputs, zeros = torch.tensor([-1.0, -2.0]), torch.tensor([0, 0])
    assert math.isnan(AUC().value(AUC().sums(outputs, zeros)))
    assert math.isnan(AUC().error_bound(AUC().sums(outputs, 1 - zeros)))
    assert math.isnan(AveragePrecision().value(AveragePrecision().sums(outputs, zeros)))
    assert AveragePrecision().value(AveragePrecision().sums(outputs, 1 - zeros)) == 1
    assert math.isnan(Precision().value(Precision().sums(outputs, 1 - zeros)))  # nothing predicted positive
    assert math.isnan(Recall().value(Recall().sums(outputs, zeros)))  # nothing is positive
    assert math.isnan(F1().value(F1().sums(outputs, zeros)))
    assert F1().value(F1().sums(outputs, 1 - zeros)) == 0


def test_a_class_never_predicted_counts_as_zero_in_the_macro_mean() -> None:
    """Classes 0 and 1 occur, 2 does not; all rows predicted 0: precision (2/3 + 0) / 2."""
    outputs, targets = torch.tensor([[1.0, 0.0, 0.0]] * 3), torch.tensor([0, 0, 1])
    assert Precision().value(Precision().sums(outputs, targets)) == pytest.approx(1 / 3, abs=1e-15)


@pytest.mark.parametrize("level", [0.0, 0.3, 123456.7])  # the last two leave a spurious spread above 0
def test_r2_of_constant_targets_is_nan(level: float) -> None:
    targets = torch.full((1000,), level, dtype=torch.float64)
    assert math.isnan(R2().value(R2().sums(targets + 1, targets)))


def test_r2_far_from_its_center() -> None:
    """Targets 1e9 ± 1, each output off by ½: R² = 1 − ¼/1. Without a center nothing is left, and it says nan."""
    targets = 1e9 + torch.tensor([-1.0, 1.0] * 500, dtype=torch.float64)
    assert math.isnan(R2().value(R2().sums(targets + 0.5, targets)))
    metric = R2(center=1e9 + 0.25)
    assert metric.value(metric.sums(targets + 0.5, targets)) == pytest.approx(0.75, abs=1e-12)


def test_ratio() -> None:
    assert ratio(torch.tensor([3.0, 4.0], dtype=torch.float64)) == 0.75
    assert math.isnan(ratio(torch.zeros(2)))
    assert math.isnan(ratio(torch.zeros(0)))


# ---- bad input ----

Z = torch.zeros


@pytest.mark.parametrize(
    ("metric", "outputs", "targets", "why"),
    [
        (Accuracy(), Z(4, 3), Z(5), "one class per row"),
        (F1(), Z(4), Z(5), "one class per row"),
        (AUC(), Z(4, 1), Z(4, 2), "one class per row"),
        (Accuracy(), Z(4, 3), Z(4, 3), "one class per row"),
        (Accuracy(), Z(3, 3), torch.tensor([0, 3, 1]), "from 0 to 2, found 3"),
        (Recall(), Z(3), torch.tensor([0, -1, 1]), "from 0 to 1, found -1"),
        (Precision(), Z(2), torch.tensor([0.5, 1.0]), r"from 0 to 1, found 0\.5"),
        (Precision(), Z(2), torch.tensor([math.nan, 1.0]), "from 0 to 1, found nan"),
        (AUC(), Z(4, 3), Z(4), "two classes"),
        (AveragePrecision(), Z(4, 3), Z(4), "two classes"),
        (F1(average="binary"), Z(4, 3), Z(4), "two classes"),
        (Accuracy(), Z(()), Z(()), "logits of shape"),
        (Accuracy(), Z(2, 3, 4), Z(2), "logits of shape"),
        (Accuracy(), Z(2, 0), Z(2), "logits of shape"),
        (Accuracy(), Z(2, dtype=torch.int64), Z(2), r"floating logits, found torch\.int64"),
        (AUC(), torch.tensor([0.0, math.nan]), Z(2), "outputs hold nan"),
        (MeanSquaredError(), Z(4), Z(5), "one shape"),
        (MeanAbsoluteError(), Z(4, 2), Z(4), "one shape"),
        (MeanSquaredError(), Z(()), Z(()), "one shape"),
        (MeanSquaredError(), torch.tensor([math.inf]), Z(1), "outputs hold nan or inf"),
        (R2(), Z(1), torch.tensor([math.nan]), "targets hold nan or inf"),
        (R2(), Z(4, 2), Z(4, 2), "one column"),
        (Mean(name="bias", function=lambda o, t: (o - t).mean()), Z(4), Z(4), r"\(N,\), found \(\)"),
        (Mean(name="bias", function=lambda o, t: 1.0), Z(4), Z(4), r"\(N,\), found float"),
        (Mean(name="bias", function=lambda o, t: o / t), Z(4), Z(4), "nan or inf"),
    ],
)
def test_what_does_not_fit_is_named(metric: Metric, outputs: Tensor, targets: Tensor, why: str) -> None:
    with pytest.raises(TaskError, match=why) as caught:
        metric.sums(outputs, targets)
    message = str(caught.value)
    assert f"metric {metric.name!r}" in message
    assert str(tuple(outputs.shape)) in message
    assert str(tuple(targets.shape)) in message


def test_what_is_no_tensor_is_named() -> None:
    with pytest.raises(TaskError, match="'accuracy': targets must be a tensor, found list"):
        Accuracy().sums(Z(2), [0, 1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Accuracy(threshold=0.0),
        lambda: F1(threshold=1.5),
        lambda: Recall(average="weighted"),  # type: ignore[arg-type]
        lambda: AUC(bins=1),
        lambda: AveragePrecision(bins=1),
        lambda: AUC(bins=2.5),  # type: ignore[arg-type]
        lambda: R2(center=math.inf),
    ],
)
def test_settings_that_make_no_sense(make: Callable[[], Metric]) -> None:
    with pytest.raises(TaskError, match="metric"):
        make()


@given(binary_rows(), multiclass_rows(), real_rows())
def test_the_sums_of_single_rows_add_up_to_those_of_all(binary: Rows, multiclass: Rows, real: Rows) -> None:
    for metric, (outputs, targets) in (
        (Accuracy(), binary),
        (Accuracy(threshold=0.2), binary),
        (Accuracy(), multiclass),
        (MeanSquaredError(), real),
        (MeanAbsoluteError(), real),
        (MeanSquaredError(), (torch.stack([real[0], real[1]], 1), torch.stack([real[1], real[1]], 1))),
    ):
        rows = metric.row_sums(outputs, targets)  # type: ignore[attr-defined]  # these have it
        assert len(rows) == len(targets)
        torch.testing.assert_close(rows.sum(0), metric.sums(outputs, targets))
