"""The benchmark measures what it says: the same mathematics on both sides, and every figure in the table."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import __main__ as command
from bench import azureml, durability, engines, loop, report, soak, strategy_report, systems
from bench.federated import prepare
from bench.memory import peak_of_run
from bench.result import Result, same_result
from bench.timing import time_workload
from bench.workloads import WORKLOADS, named
from fl_kit import FedAvg, Job
from fl_kit.aggregators import Mean
from sim.in_process import InProcess

SUBMITTED = {
    "silos": 10,
    "rounds": 50,
    "steps": 562,
    "first": {"seconds": 2.96, "requests": 23, "uploads": 7, "kinds": {"GET components": 1, "PUT blobs": 6}},
    "again": {"seconds": 1.52, "requests": 2, "uploads": 0, "kinds": {"GET components": 1, "PUT jobs": 1}},
}
LINE = (
    "- A job submitted by the real SDK to a local AzureML workspace, 10 silos × 50 rounds, 562 steps: "
    "3.0 s and 23 requests, 7 of them for the bundle's files; again 1.5 s and 2 requests"
)
PARAMETERS = {"W1": 114_314, "W2": 6_274, "W3": 25_197_578}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def result(loss: float, *parameters: float) -> Result:
    return Result(marks=((0.0, 0.0), (3.0, 1.0)), loss=loss, parameters=tuple(torch.tensor(p) for p in parameters))


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_models_have_the_parameters_that_the_docs_say(name: str) -> None:
    assert sum(p.numel() for p in named(name).model().parameters()) == PARAMETERS[name]


def test_a_workload_says_its_silos_and_rounds() -> None:
    changed = named("W2x7:3")
    assert (changed.silos, changed.rounds, changed.samples) == (7, 3, (60,) * 7)
    assert named("W3:2").evaluate_every == 2  # still only at the end
    with pytest.raises(KeyError):
        named("W9")


@pytest.mark.parametrize("name", [*WORKLOADS, "W2x1000"])
def test_the_shares_are_the_central_test_set(name: str) -> None:
    workload = named(name)
    shares = [workload.test_share(silo) for silo in range(workload.silos)]
    inputs, targets = workload.test_set()
    assert torch.equal(torch.cat([s[0] for s in shares]), inputs)
    assert torch.equal(torch.cat([s[1] for s in shares]), targets)
    assert {len(s[1]) - workload.test_rows // workload.silos for s in shares} <= {0, 1}


@pytest.mark.parametrize("system", [systems.MEMORY, systems.FOLDER])
@pytest.mark.parametrize("rows_first", [False, True], ids=["rows in round 1", "rows first"])
def test_fl_kit_ends_where_the_loop_ends(tmp_path: Path, system: str, rows_first: bool) -> None:
    workload = named("V")
    ours = systems.prepared(system, workload, tmp_path, rows_first=rows_first)()
    theirs = systems.prepared(systems.LOOP, workload, tmp_path, rows_first=rows_first)()
    assert same_result(ours, theirs)
    assert len(ours.marks) == len(theirs.marks) == workload.rounds
    assert (tmp_path / "runs").exists() == (system == systems.FOLDER)


def test_a_mean_without_weights_would_be_noticed(tmp_path: Path) -> None:
    ready = prepare(named("V"), tmp_path)
    job = ready.job
    plain = Job(task=job.task, strategy=FedAvg(lr=0.05, epochs=2, batch_size=16, shuffle=False), rounds=4,
                aggregator=Mean(weighted=False), device="cpu")  # fmt: skip
    run = plain.run(ready.federation, on=InProcess(folder=None)).wait()
    theirs = loop.run(named("V"))
    wrong = Result(marks=(), loss=theirs.loss, parameters=tuple(run.state().params.values()))
    assert not same_result(wrong, theirs)


def test_a_round_lasts_from_mark_to_mark() -> None:
    marks = ((10.0, 1.0), (12.0, 2.0), (15.0, 2.5), (19.0, 4.0))
    found = Result(marks=marks, loss=1.0, parameters=())
    assert (found.wall, found.cpu) == (3.0, 1.0)


def test_same_result_looks_at_loss_and_parameters() -> None:
    assert same_result(result(1.0, 2.0), result(1.0 + 1e-7, 2.0 + 1e-6))
    assert not same_result(result(1.0, 2.0), result(1.0001, 2.0))
    assert not same_result(result(1.0, 2.0), result(1.0, 2.001))


def test_the_peak_covers_what_a_run_holds(tmp_path: Path) -> None:
    """The loop holds four models: the working one, its gradients, the average and the running sum."""
    found = peak_of_run(systems.LOOP, "W3x2:1", tmp_path)
    assert found["model"] == 4 * PARAMETERS["W3"]
    assert 3.5 < found["above"] / found["model"] < 6


@pytest.fixture(scope="module")
def timing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = time_workload(named("V:3"), 2, tmp_path_factory.mktemp("timing"))
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


@pytest.fixture
def figures(timing: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> report.Figures:
    """What the command gathers, with the timing of V in this process and made-up memory and starts."""

    def told(module: str, *arguments: str) -> dict[str, Any]:
        known = {"timing": timing, "azureml": SUBMITTED}
        return known.get(module, {"total": 9, "above": 30_000_000, "model": 20_000_000})

    monkeypatch.setattr(command, "figures", told)
    monkeypatch.setattr(command, "to_end_of_round_1", lambda *_: {"process": 2.5, "run": 0.25})
    monkeypatch.setattr(command, "import_time", lambda _: {"seconds": 0.01, "loads_torch": False})
    return command.measure(["V"], 2, quick=False, command="python -m bench --workloads V")


def test_timing_has_every_system_and_repeat(timing: dict[str, Any]) -> None:
    assert timing["same"] is True
    for kind in ("wall", "cpu"):
        assert set(timing[kind]) == set(systems.SYSTEMS)
        assert all(len(times) == 2 and min(times) > 0 for times in timing[kind].values())


def test_the_table_has_a_cell_for_each_column(figures: report.Figures) -> None:
    rows = [line for line in report.text(figures).splitlines() if line.startswith("|")]
    assert [row.count("|") for row in rows] == [len(report.COLUMNS) + 1] * 3
    assert rows[2].startswith("| V | ")
    assert "30 MB (1.5 models)" in rows[2]
    assert "2.5, 2.5" in rows[2]
    assert "| yes (" in rows[2]


def test_the_lines_around_the_table_say_how_and_what_else(figures: report.Figures) -> None:
    text = report.text(figures)
    assert text.startswith("`python -m bench --workloads V`, 20")
    assert torch.__version__ in text
    assert "- `import fl_kit`: 0.01 s, without torch" in text
    assert text.splitlines()[-1] == LINE
    assert "W2x10, loop: 2.5 s, of which 0.25 s after the call" in text
    assert str(Path.home()) not in text
    assert str(report.Path(__file__).parents[2]) not in text


def test_ratios_are_of_neighbours() -> None:
    assert report.ratios([2.0, 9.0, 1.0], [1.0, 3.0, 1.0]) == "**2.00** (1.00–3.00)"


def test_another_result_than_the_loops_fails_the_command(
    figures: report.Figures, timing: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command.main(["--workloads", "V"]) == 0
    monkeypatch.setitem(timing, "same", False)
    assert command.main(["--workloads", "V"]) == 1


def test_the_table_replaces_what_stands_between_the_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.put_into(readme, "new")
    report.put_into(readme, "newer")
    assert readme.read_text() == f"before\n\n{report.BEGIN}\nnewer\n{report.END}\nafter\n"


def test_the_line_about_azureml_replaces_itself_alone(
    figures: report.Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{report.BEGIN}\ntable\n{report.END}\nafter\n")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    for _ in range(2):
        assert command.main(["--azureml", "--readme"]) == 0
        assert readme.read_text() == f"before\n\n{report.BEGIN}\ntable\n{LINE}\n{report.END}\nafter\n"
    assert capsys.readouterr().out == f"{LINE}\n{report.requests_of(SUBMITTED)}\n" * 2


@pytest.mark.parametrize(
    "page", ["nothing", report.BEGIN, f"{report.END} {report.BEGIN}", f"{report.BEGIN * 2}{report.END}"]
)
def test_a_page_without_the_marks_is_left_alone(tmp_path: Path, page: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(page)
    with pytest.raises(ValueError, match=r"README\.md needs"):
        report.put_into(readme, "new")
    assert readme.read_text() == page


def test_the_kinds_of_requests_are_listed() -> None:
    assert report.requests_of(SUBMITTED) == (
        "  first: 1 GET components, 6 PUT blobs\n  again: 1 GET components, 1 PUT jobs"
    )


def test_requests_are_told_apart_by_method_and_by_what_they_are_about() -> None:
    scope = "https://h:1/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    calls = [
        f"GET {scope}?api-version=1",
        f"PUT {scope}/components/c/versions/1?x=/jobs/",
        "PUT https://h:1/blob/a/b?s",
    ]
    assert azureml.kinds([*calls, calls[1]]) == {"GET workspace": 1, "PUT components": 2, "PUT blobs": 1}


def test_the_parts_run_as_commands() -> None:
    """Each part is started in a fresh interpreter, as `make bench` does."""
    from bench.child import figures
    from bench.start import to_end_of_round_1

    assert figures("memory", "V:1", systems.FOLDER)["model"] == 4 * PARAMETERS["W2"]
    assert figures("timing", "V:2", "1")["same"] is True
    submitted = figures("azureml", "2", "2")
    assert submitted["steps"] == 1 + 2 * 3 + 3  # init; two fits and an aggregate; two reports and their sums
    assert submitted["first"]["uploads"] == 7  # five files; the SDK asks for one before, and marks it after
    assert submitted["again"]["requests"] < submitted["first"]["requests"] - submitted["first"]["uploads"]
    assert all(sum(submitted[time]["kinds"].values()) == submitted[time]["requests"] for time in report.TIMES)
    start = to_end_of_round_1("V:1", systems.MEMORY, 1)
    assert 0 < start["run"] < start["process"]


@pytest.mark.parametrize(
    "marks", [(report.BEGIN, report.END), *(m.MARKS for m in (durability, engines, soak, strategy_report))]
)
def test_the_readme_has_a_place_for_each_table(root: Path, marks: tuple[str, str]) -> None:
    report.parts(root / "README.md", marks)
