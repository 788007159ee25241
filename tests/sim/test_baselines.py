"""compare: every way of training measured on the same rows, and a verdict that says no more than it knows."""

import io
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch.nn import functional as F

from fl_kit import FedAvg, Federation, Scaffold, Silo, Target
from fl_kit.errors import DataError, FederationError, IncompatibleError
from fl_kit.protocols import Strategy
from sim import samples
from sim.baselines import ALONE, CENTRALISED, FEDERATED, Comparison, compare
from sim.comparison_picture import COLOURS, draw, in_order
from sim.evaluation.intervals import interval, spread
from tests.tasks import BATCHNORM, LINEAR, job, random_rows, run, silos, write_task

WAYS = [FEDERATED, CENTRALISED, ALONE]
T_OF_3 = 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025))
"""Student's t for three values, in closed form."""


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    sizes = {"ash": (10, 6), "birch": (4, 3), "cedar": (13, 9)}
    rows = {
        name: {"train": random_rows(train, 4, seed), "test": random_rows(test, 4, seed + 10)}
        for seed, (name, (train, test)) in enumerate(sizes.items())
    }
    return silos(tmp_path / "silos", **rows)


def comparison(
    federated: tuple[float, ...],
    centralised: tuple[float, ...],
    alone: tuple[float, ...],
    *,
    better: str = "higher",
    metric: str = "accuracy",
) -> Comparison:
    """A comparison with one silo, by its values."""
    values = {FEDERATED: federated, CENTRALISED: centralised, ALONE: alone, "ash": alone}
    on = {way: {"ash": found} for way, found in values.items() if way != ALONE}
    return Comparison(
        metric=metric, better=better, values=values, curves=values, seeds=tuple(range(len(federated))), on=on
    )


# --- the interval ---------------------------------------------------------------------------------------------


def test_the_interval_of_1_2_3_by_hand() -> None:
    """Mean 2, s = 1; with two degrees of freedom t(p) = (2p − 1)·√(2 / 4p(1 − p)), 4.3027 for p = 0.975: t/√3."""
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(T_OF_3 / math.sqrt(3), rel=1e-12)
    assert half == pytest.approx(4.302652729911275 * 0.5773502691896258, rel=1e-9)  # as tables have it


def test_the_interval_of_two_by_hand() -> None:
    """With one degree of freedom t is Cauchy: t(0.975) = tan(0.475·π); s = 1/√2 for 0 and 1, so s/√2 = ½."""
    mean, half = interval([0.0, 1.0])
    assert mean == 0.5
    assert half == pytest.approx(0.5 * math.tan(0.475 * math.pi), rel=1e-12)


def test_the_interval_holds_95_percent_of_students_t() -> None:
    """Five values: the density of t with 4 degrees of freedom, 3/8·(1 + t²/4)^(−5/2), between ± half/(s/√5)."""
    values = [0.3, 0.1, 0.7, 0.2, 0.5]
    mean, half = interval(values)
    edge = half / (spread(values) / math.sqrt(5))
    inside, _ = quad(lambda t: 0.375 * (1 + t * t / 4) ** -2.5, -edge, edge)
    assert inside == pytest.approx(0.95, abs=1e-9)
    assert mean == pytest.approx(sum(values) / 5)


def test_an_interval_without_spread_is_a_point_and_of_one_value_unknown() -> None:
    assert interval([0.25, 0.25, 0.25]) == (0.25, 0.0)
    mean, half = interval([0.25])
    assert mean == 0.25
    assert math.isnan(half)


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_an_interval_over_what_is_no_number_is_unknown(odd: float) -> None:
    _, half = interval([0.5, odd, 0.25])
    assert math.isnan(half)


# --- the gain and its sentence --------------------------------------------------------------------------------


def test_the_gain_is_paired_by_seed() -> None:
    """Gains 1, 2, 3: the spread of the values themselves, which is far larger, does not count."""
    found = comparison((11.0, 102.0, 1003.0), (0.0, 0.0, 0.0), (10.0, 100.0, 1000.0))
    mean, half = found.gain(ALONE)
    assert mean == 2.0
    assert half == pytest.approx(T_OF_3 / math.sqrt(3))


def test_the_gain_is_positive_where_the_federation_is_better_whatever_the_direction() -> None:
    values = ((0.2, 0.3), (0.1, 0.1), (0.5, 0.7))
    lower, higher = comparison(*values, better="lower"), comparison(*values, better="higher")
    assert lower.gain(ALONE)[0] == pytest.approx(0.35)
    assert higher.gain(ALONE)[0] == pytest.approx(-0.35)
    assert lower.gain(ALONE)[1] == higher.gain(ALONE)[1]
    assert lower.gain(CENTRALISED)[0] == pytest.approx(-0.15)


def test_the_verdict_in_full() -> None:
    """Against the silos: 0.10, 0.11, 0.12, so 0.11 ± 4.3027·0.01/√3 = 0.0248. Against the pool: −0.01, 0, 0.01."""
    found = comparison((0.80, 0.81, 0.82), (0.81, 0.81, 0.81), (0.70, 0.70, 0.70))
    assert found.verdict == (
        "Federated accuracy 0.810 beats silo-only 0.700 by +0.110 (95 % interval +0.085 to +0.135 over 3 seeds); "
        "it cannot be told from centralised 0.810 by +0.000 (95 % interval -0.025 to +0.025 over 3 seeds)."
    )


@pytest.mark.parametrize(("better", "word"), [("higher", "loses to"), ("lower", "beats")])
def test_the_verdict_follows_the_metrics_direction(better: str, word: str) -> None:
    found = comparison((0.1, 0.11, 0.12), (0.5, 0.5, 0.5), (0.4, 0.4, 0.4), better=better)
    assert f" {word} silo-only 0.400 " in found.verdict
    assert f"it {word} centralised 0.500 " in found.verdict


def test_an_interval_that_touches_zero_cannot_be_told() -> None:
    """0.1 and 0.3 over two seeds: 0.2 ± 1.27."""
    assert "cannot be told from silo-only" in comparison((0.6, 0.8), (0.5, 0.5), (0.5, 0.5)).verdict


def test_one_seed_is_said_to_be_one() -> None:
    found = comparison((0.8,), (0.9,), (0.7,))
    assert found.verdict == (
        "Federated accuracy 0.800 beats silo-only 0.700 by +0.100 (one seed, so without an interval); "
        "it loses to centralised 0.900 by -0.100 (one seed, so without an interval)."
    )


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_tie_is_neither_won_nor_lost(seeds: int) -> None:
    found = comparison((0.8,) * seeds, (0.8,) * seeds, (0.8,) * seeds)
    assert found.verdict.count("cannot be told from") == 2


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_is_no_number_is_neither_won_nor_lost(seeds: int) -> None:
    found = comparison((math.nan,) * seeds, (0.8,) * seeds, (0.7,) * seeds)
    assert found.verdict.count("cannot be told from") == 2
    assert "nan" in repr(found)


def test_the_table_says_each_way_its_spread_and_the_gain() -> None:
    table = comparison((0.80, 0.82), (0.81, 0.81), (0.70, 0.74)).table()
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == ["federated", "centralised", "silo-only", "only ash"]
    assert rows["silo-only"] == pytest.approx([0.72, 0.04 / math.sqrt(2), 0.09])
    assert rows["federated"][2] is None
    assert table.note.startswith("Federated accuracy 0.810 ")
    assert comparison((0.8,), (0.8,), (0.7,)).table().rows[0][2] is None


# --- what is compared -----------------------------------------------------------------------------------------


def pooled_test_rows(federation: Federation) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([np.load(Path(silo.data) / "test.npy") for silo in federation.silos]))


@pytest.mark.parametrize("strategy", [FedAvg(lr=0.05, batch_size=4), Scaffold(lr=0.05, batch_size=4)], ids=str)
def test_the_federations_value_is_that_of_its_final_model_on_all_silos_test_rows(
    federation: Federation, strategy: Strategy
) -> None:
    """Held against the model itself: mean over the 18 pooled rows of (x·w + b − y)²."""
    found = compare(job(LINEAR, strategy, rounds=3), federation, seeds=[7])
    rows = pooled_test_rows(federation)
    finished = run(LINEAR, strategy, federation, rounds=3, seed=7)
    expected = [
        float(((rows[:, :3] @ p["weight"].T + p["bias"] - rows[:, 3:]) ** 2).sum() / 18)
        for p in (finished.state(round).params for round in range(4))
    ]
    assert len(rows) == 18
    assert found.metric == "mean_squared_error"
    assert found.better == "lower"
    assert found.curves[FEDERATED] == pytest.approx(expected, rel=1e-12)
    assert found.values[FEDERATED] == found.curves[FEDERATED][-1:]


def test_full_batches_make_every_way_a_closed_form(federation: Federation) -> None:
    """K = 3 silos, one round, full batches: 3 steps of plain gradient descent from the same start, by hand."""
    found = compare(job(LINEAR, FedAvg(lr=0.1, batch_size=100), rounds=1), federation, seeds=[0])
    start = run(LINEAR, FedAvg(), federation, rounds=1, seed=0).state(0).params
    train = {silo.name: torch.from_numpy(np.load(Path(silo.data) / "train.npy")) for silo in federation.silos}
    test = pooled_test_rows(federation)

    def predict(rows: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return rows[:, :3] @ w[:3] + w[3] - rows[:, 3]

    def descend(rows: torch.Tensor, steps: int) -> torch.Tensor:
        w = torch.cat([start["weight"].reshape(-1), start["bias"]])
        x = torch.cat([rows[:, :3], torch.ones(len(rows), 1, dtype=rows.dtype)], dim=1)
        for _ in range(steps):
            w = w - 0.1 * 2 / len(rows) * (x.T @ predict(rows, w))
        return w

    def worth(w: torch.Tensor) -> float:
        return float((predict(test, w) ** 2).mean())

    weights = {name: len(rows) / 27 for name, rows in train.items()}
    federated = sum(weights[name] * descend(rows, 1) for name, rows in train.items())
    assert isinstance(federated, torch.Tensor)
    alone = {name: worth(descend(rows, 3)) for name, rows in train.items()}
    ends = {way: value for way, (value,) in found.values.items()}
    assert ends == pytest.approx(
        {
            FEDERATED: worth(federated),
            CENTRALISED: worth(descend(torch.cat(list(train.values())), 3)),
            ALONE: sum(alone.values()) / 3,
            **alone,
        },
        rel=1e-11,
    )


def test_a_silo_alone_is_measured_on_the_rows_of_all(tmp_path: Path) -> None:
    """Ash learns y = 2 where birch has y = 0. The mean over both of the two silos' test rows is half of 2² or so."""
    task = write_task(
        tmp_path,
        """
import numpy as np
import torch
from pathlib import Path
from torch import nn

class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x):
        return self.c.expand(len(x))

def model():
    return Constant()

def data(folder, split):
    y = torch.from_numpy(np.load(Path(folder) / f"{split}.npy", allow_pickle=False))[:, 0]
    return torch.zeros_like(y), y

loss = nn.MSELoss()
""",
    )
    federation = silos(tmp_path / "silos", ash=[[2.0]] * 3, birch=[[0.0]])
    # each step with lr ½ of the squared loss goes all the way to the mean of the rows
    found = compare(job(task, FedAvg(lr=0.5, batch_size=9), rounds=1), federation, seeds=[0])
    ends = {way: value for way, (value,) in found.values.items()}
    assert found.metric == "loss"
    # test rows 2, 2, 2, 0: a constant c costs (3·(2 − c)² + c²) / 4
    assert ends == pytest.approx({FEDERATED: 0.75, CENTRALISED: 0.75, "ash": 1.0, "birch": 3.0, ALONE: 2.0})
    assert found.silos == ("ash", "birch")


def test_a_federation_of_one_ties_with_both_its_twins(tmp_path: Path) -> None:
    federation = silos(tmp_path / "silos", ash=random_rows(11, 4, 5))
    found = compare(job(BATCHNORM, FedAvg(lr=0.05, batch_size=4, shuffle=False), rounds=3), federation, seeds=[0, 1])
    assert found.curves[FEDERATED] == found.curves[CENTRALISED] == found.curves[ALONE] == found.curves["ash"]
    assert found.gain(CENTRALISED) == (0.0, 0.0)
    assert found.verdict.count("cannot be told from") == 2


def test_curves_go_from_the_shared_start_to_the_value_of_the_first_seed(federation: Federation) -> None:
    found = compare(job(LINEAR, FedAvg(lr=0.05, batch_size=4), rounds=4), federation, seeds=[3, 1])
    assert found.seeds == (3, 1)
    assert list(found.values) == list(found.curves) == [*WAYS, "ash", "birch", "cedar"]
    for way, curve in found.curves.items():
        assert len(curve) == 5
        assert curve[-1] == found.values[way][0]
        assert curve[0] == pytest.approx(found.curves[FEDERATED][0], rel=1e-13)
    for round in range(5):
        alone = [found.curves[silo][round] for silo in found.silos]
        assert found.curves[ALONE][round] == pytest.approx(sum(alone) / 3)


def test_a_stop_rule_changes_nothing(federation: Federation) -> None:
    """Every way has all its rounds: a way that was cut short would lose by that alone."""
    asked = job(LINEAR, FedAvg(lr=0.05), 2)
    stopping = job(LINEAR, FedAvg(lr=0.05), 2, stop=Target(metric="loss", value=1e9))
    assert compare(asked, federation, seeds=(1,)).curves == compare(stopping, federation, seeds=(1,)).curves


def test_evaluating_less_often_changes_nothing(federation: Federation) -> None:
    strategy = FedAvg(lr=0.05, batch_size=4)
    often = compare(job(LINEAR, strategy, rounds=2), federation, seeds=[0])
    assert compare(job(LINEAR, strategy, rounds=2, evaluate_every=0), federation, seeds=[0]) == often


def test_the_auc_is_that_of_the_pooled_scores(tmp_path: Path) -> None:
    """The final federated model's histogram AUC against scores ranked one by one."""
    from sklearn.metrics import roc_auc_score

    federation = silos(tmp_path / "silos", ash=random_rows(60, 4, 1), birch=random_rows(30, 4, 2))
    text = BATCHNORM.read_text(encoding="utf-8") + "\nfrom fl_kit.metrics import AUC\n\nmetrics = [AUC()]\n"
    task = write_task(tmp_path, text)
    strategy = FedAvg(lr=0.1, batch_size=8)
    found = compare(job(task, strategy, rounds=2), federation, seeds=[0])
    params = run(task, strategy, federation, rounds=2, seed=0).state().params
    rows = pooled_test_rows(federation)
    normal = F.batch_norm(
        rows[:, :3], params["0.running_mean"], params["0.running_var"], params["0.weight"], params["0.bias"]
    )
    scores = normal @ params["1.weight"].T + params["1.bias"]
    exact = roc_auc_score((rows[:, 3] > 0).numpy(), scores.numpy()[:, 0])
    assert found.metric == "auc"
    assert found.values[FEDERATED][0] == pytest.approx(exact, abs=2e-3)


# --- seeds ----------------------------------------------------------------------------------------------------


def test_the_same_seeds_give_the_same_bits_and_others_give_others(federation: Federation) -> None:
    wanted = job(LINEAR, FedAvg(lr=0.05, batch_size=4), rounds=2, seed=99)
    found = compare(wanted, federation, seeds=[0, 1])
    assert compare(wanted, federation, seeds=[0, 1]) == found
    assert compare(wanted, federation, seeds=range(2)) == found
    for way in found.values:
        first, second = found.values[way]
        assert first != second, way
    assert found.values == compare(job(LINEAR, wanted.strategy, rounds=2, seed=5), federation, seeds=[0, 1]).values


def test_a_federation_may_follow_from_the_seed(tmp_path: Path) -> None:
    asked = []

    def split(seed: int) -> Federation:
        asked.append(seed)
        return silos(tmp_path / str(seed), ash=random_rows(8, 4, seed), birch=random_rows(5, 4, seed + 50))

    wanted = job(LINEAR, FedAvg(lr=0.05, batch_size=4), rounds=1)
    found = compare(wanted, split, seeds=[4, 2])
    assert asked == [4, 2]
    again = tmp_path / "2"
    one = Federation(silos=tuple(Silo(name=name, data=str(again / name)) for name in ("ash", "birch")))
    assert compare(wanted, one, seeds=[2]).values == {way: (values[1],) for way, values in found.values.items()}


# --- refusals -------------------------------------------------------------------------------------------------


def test_an_unknown_metric_is_named_with_those_there_are(federation: Federation) -> None:
    with pytest.raises(DataError, match=r"no metric 'auc'; it has loss, mean_squared_error$"):
        compare(job(LINEAR, FedAvg(), rounds=1), federation, metric="auc")
    with pytest.raises(DataError, match=r"no metric 'auc'; it has loss$"):
        compare(job(BATCHNORM, FedAvg(), rounds=1), federation, metric="auc")


@pytest.mark.parametrize("seeds", [[], (), range(0), [0, 1, 0]], ids=str)
def test_no_seeds_or_one_twice(federation: Federation, seeds: list[int]) -> None:
    with pytest.raises(DataError, match="at least one seed, each of them once"):
        compare(job(LINEAR, FedAvg(), rounds=1), federation, seeds=seeds)


def test_a_task_with_its_own_fit_is_refused_before_anything_is_trained(federation: Federation, tmp_path: Path) -> None:
    text = LINEAR.read_text(encoding="utf-8") + "\n\ndef fit(model, data, context):\n    raise RuntimeError('ran')\n"
    with pytest.raises(IncompatibleError, match="cannot count the gradient steps"):
        compare(job(write_task(tmp_path, text), FedAvg(), rounds=1), federation)


@pytest.mark.parametrize("name", WAYS)
def test_a_silo_with_the_name_of_a_way_is_refused(tmp_path: Path, name: str) -> None:
    federation = silos(tmp_path / "silos", **{name: random_rows(4, 4, 1), "oak": random_rows(4, 4, 2)})
    with pytest.raises(DataError, match=f"calls a way of training '{name}'"):
        compare(job(LINEAR, FedAvg(), rounds=1), federation)


def test_a_silo_without_a_folder_is_named(federation: Federation, tmp_path: Path) -> None:
    shutil.rmtree(federation["birch"].data)
    with pytest.raises(FederationError, match="birch: there is no folder"):
        compare(job(LINEAR, FedAvg(), rounds=1), federation)


def test_nothing_is_written(federation: Federation, in_tmp: Path) -> None:
    def files() -> set[Path]:
        return set(in_tmp.rglob("*"))

    before = files()
    compare(job(LINEAR, FedAvg(batch_size=4), rounds=1), federation, seeds=[0, 1]).plot()
    assert files() == before


# --- the picture ----------------------------------------------------------------------------------------------


def pixels(figure: object) -> np.ndarray:
    """The figure as it is saved, RGBA from 0 to 1."""
    from matplotlib.image import imread

    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=60)  # type: ignore[attr-defined]
    assert png.getvalue().startswith(b"\x89PNG")
    return np.asarray(imread(io.BytesIO(png.getvalue())))


def test_the_picture_shows_a_curve_and_an_end_for_every_way(federation: Federation) -> None:
    from matplotlib.figure import Figure

    found = compare(job(LINEAR, FedAvg(lr=0.05, batch_size=4), rounds=2), federation, seeds=[0, 1])
    figure = found.plot()
    assert isinstance(figure, Figure)
    left, right = figure.axes
    drawn = {tuple(line.get_ydata()) for line in left.lines}
    assert drawn == set(found.curves.values())
    labels = [text.get_text() for text in right.get_yticklabels()]
    assert labels == [*WAYS, "only ash", "only birch", "only cedar"]
    for row, way in enumerate(in_order(found.values)):
        dots, mean = right.lines[2 * row : 2 * row + 2]
        assert tuple(dots.get_xdata()) == found.values[way]
        assert list(dots.get_ydata()) == [row, row]
        assert list(mean.get_xdata()) == pytest.approx([sum(found.values[way]) / 2])
        assert right.texts[row].get_text() == f"{sum(found.values[way]) / 2:.3f}"
    assert left.get_title(loc="left") == "mean_squared_error, seed 0"
    assert right.get_title(loc="left") == "at the end, 2 seeds (lower is better)"


def test_the_picture_is_not_empty_and_has_no_ground_of_its_own() -> None:
    image = pixels(comparison((0.8, 0.82), (0.81, 0.83), (0.7, 0.74)).plot())
    alpha = image[..., 3]
    assert (alpha == 0).mean() > 0.5
    assert (alpha > 0.9).mean() > 0.005
    for colour in COLOURS.values():
        wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        assert (np.abs(image[..., :3] - wanted).max(axis=-1)[alpha > 0.9] < 0.02).any(), colour


def test_the_picture_needs_no_window_and_leaves_pyplot_alone() -> None:
    import matplotlib
    from matplotlib import pyplot

    before = matplotlib.get_backend()
    open_before = pyplot.get_fignums()
    comparison((0.8,), (0.81,), (0.7,)).plot()
    assert pyplot.get_fignums() == open_before
    assert matplotlib.get_backend() == before


def test_the_picture_survives_what_is_no_number() -> None:
    values = {FEDERATED: (math.nan, 0.5), CENTRALISED: (0.5, 0.5), ALONE: (0.5, 0.5), "ash": (0.5, 0.5)}
    assert pixels(draw("auc", "higher", values, values, (0, 1))).any()


# --- real patients --------------------------------------------------------------------------------------------


@pytest.mark.sample
@pytest.mark.slow
def test_four_hospitals_together_beat_each_alone_and_match_the_pool(tmp_path: Path) -> None:
    sample = samples.load("heart_disease")
    source = f'''
from pathlib import Path
import pandas as pd
import torch
from torch import nn
from fl_kit import Standardize
from fl_kit.metrics import AUC

WIDTH = {len(sample.features)}

def model():
    return nn.Sequential(Standardize(WIDTH, flag_missing=True), nn.Linear(2 * WIDTH, 1))

def data(folder, split):
    frame = pd.read_csv(Path(folder) / f"{{split}}.csv")
    targets = torch.tensor(frame.pop("{sample.target}").to_numpy(), dtype=torch.float32)
    return torch.tensor(frame.to_numpy(), dtype=torch.float32), targets[:, None]

loss = nn.BCEWithLogitsLoss()
metrics = [AUC()]
'''
    hospitals = ("cleveland", "hungary", "long-beach", "switzerland")
    wanted = job(write_task(tmp_path, source, "heart"), FedAvg(lr=0.03, batch_size=16, weight_decay=0.01), rounds=30)
    found = compare(wanted, lambda seed: sample.federation(seed=seed, folder=tmp_path / str(seed)))
    assert found.seeds == (0, 1, 2, 3, 4)
    assert found.silos == hospitals
    mean, half = found.gain(ALONE)
    assert mean - half > 0
    assert all(f > a for f, a in zip(found.values[FEDERATED], found.values[ALONE], strict=True))
    assert all(abs(f - c) < 0.02 for f, c in zip(found.values[FEDERATED], found.values[CENTRALISED], strict=True))
    assert all(found.gain(hospital)[0] > 0 for hospital in hospitals)
    assert 0.84 < np.mean(found.values[FEDERATED]) < 0.92
    assert found.verdict.startswith("Federated auc 0.8")
    assert " beats silo-only " in found.verdict


def test_the_baselines_are_lines_that_watch_takes() -> None:
    found = comparison((0.9, 0.9), (0.8, 1.0), (0.5, 0.7), metric="auc")
    assert found.reference == {"auc": {"centralised": pytest.approx(0.9), "silo-only": pytest.approx(0.6)}}
