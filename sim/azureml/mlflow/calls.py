"""Every call of MLflow's interface that is served: its method and path, and the function that answers it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from sim.azureml.mlflow import experiments
from sim.azureml.mlflow.experiments import DEFAULT_ID, Experiments
from sim.azureml.mlflow.figures import Point, invalid, missing
from sim.azureml.mlflow.models import Models, texts
from sim.azureml.mlflow.runs import STATUS, Runs
from sim.azureml.mlflow.search import found, ordered
from sim.azureml.state import Body, WorkspaceState

HISTORY_PAGE = 25_000
SEARCH_PAGE = 1_000
SEARCH_PAGE_MOST = 50_000
"""Entries of a page, as MLflow's own server has them."""

T = TypeVar("T")


@dataclass(frozen=True)
class Book:
    """All that the workspace's MLflow keeps."""

    experiments: Experiments
    runs: Runs
    models: Models

    @classmethod
    def of(cls, state: WorkspaceState) -> "Book":
        held = Experiments(state)
        runs = Runs(state, held)
        return cls(held, runs, Models(runs))


Call: TypeAlias = Callable[[Book, Body], Body]


def create_experiment(book: Book, asked: Body) -> Body:
    return {"experiment_id": book.experiments.create(asked.get("name", ""), texts(asked.get("tags"))).id}


def get_experiment(book: Book, asked: Body) -> Body:
    return {"experiment": experiments.view(book.experiments.get(text(asked, "experiment_id")))}


def get_experiment_by_name(book: Book, asked: Body) -> Body:
    return {"experiment": experiments.view(book.experiments.named(text(asked, "experiment_name")))}


def search_experiments(book: Book, asked: Body) -> Body:
    held = [each for each in book.experiments.all() if each.stage in stages(asked.get("view_type"))]
    held = found(held, asked.get("filter") or "", experiments.field_of)
    held = ordered(held, asked.get("order_by") or ["last_update_time DESC"], experiments.field_of)
    shown, token = page(held, asked, SEARCH_PAGE, SEARCH_PAGE_MOST)
    return {"experiments": [experiments.view(each) for each in shown], **token}


def change_experiment(stage: str = "") -> Call:
    def call(book: Book, asked: Body) -> Body:
        id = text(asked, "experiment_id")
        if stage and id == DEFAULT_ID:
            raise invalid("the default experiment stays")
        book.experiments.change(id, name=asked.get("new_name", ""), stage=stage)
        return {}

    return call


def tag_experiment(book: Book, asked: Body) -> Body:
    held = book.experiments.get(text(asked, "experiment_id"))
    book.experiments.change(held.id, tags={**held.tags, text(asked, "key"): str(asked.get("value", ""))})
    return {}


def create_run(book: Book, asked: Body) -> Body:
    run = book.runs.create(
        str(asked.get("experiment_id") or DEFAULT_ID),
        name=asked.get("run_name", ""),
        user=asked.get("user_id", ""),
        start=whole(asked, "start_time"),
        tags=texts(asked.get("tags")),
    )
    return {"run": book.runs.view(run)}


def get_run(book: Book, asked: Body) -> Body:
    return {"run": book.runs.view(book.runs.get(run_id(asked)))}


def update_run(book: Book, asked: Body) -> Body:
    """Name, status and end of a run; a job's run keeps the job's own status and end."""
    id = run_id(asked)
    status = asked.get("status", "")
    if status and status not in ("SCHEDULED", *STATUS.values()):
        raise invalid(f"{status!r} is no status of a run")
    with book.runs.change(id) as kept:
        if status:
            kept["status"] = status
        if end := whole(asked, "end_time"):
            kept["end"] = end
        if name := asked.get("run_name"):
            kept["name"] = name
            kept.setdefault("tags", {})["mlflow.runName"] = name
    return {"run_info": book.runs.info(book.runs.get(id))}


def move_run(stage: str) -> Call:
    def call(book: Book, asked: Body) -> Body:
        with book.runs.change(run_id(asked)) as kept:
            kept["stage"] = stage
        return {}

    return call


def search_runs(book: Book, asked: Body) -> Body:
    within = {str(id) for id in asked.get("experiment_ids") or ()}
    stage = stages(asked.get("run_view_type"))
    runs = [run for run in book.runs.all() if run.experiment in within and run.stage in stage]
    runs = found(runs, asked.get("filter") or "", book.runs.field)
    runs = ordered(runs, [*(asked.get("order_by") or ()), "start_time DESC", "run_id"], book.runs.field)
    shown, token = page(runs, asked, SEARCH_PAGE, SEARCH_PAGE_MOST)
    return {"runs": [book.runs.view(run) for run in shown], **token}


def log_metric(book: Book, asked: Body) -> Body:
    return log_batch(book, {"run_id": run_id(asked), "metrics": [asked]})


def log_parameter(book: Book, asked: Body) -> Body:
    return log_batch(book, {"run_id": run_id(asked), "params": [asked]})


def set_tag(book: Book, asked: Body) -> Body:
    return log_batch(book, {"run_id": run_id(asked), "tags": [asked]})


def log_batch(book: Book, asked: Body) -> Body:
    """Figures, parameters and tags at once; what is malformed is refused before anything is kept."""
    id = run_id(asked)
    if book.runs.get(id).stage != "active":
        raise invalid(f"run {id!r} is deleted: restore it first")
    points = [Point.read(said) for said in asked.get("metrics") or ()]
    params, tags = texts(asked.get("params")), texts(asked.get("tags"))
    if params:
        book.runs.set_params(id, params)
    if points:
        book.runs.figures.append(id, points)
    if tags:
        book.runs.set_tags(id, tags)
    return {}


def delete_tag(book: Book, asked: Body) -> Body:
    id, key = run_id(asked), text(asked, "key")
    with book.runs.change(id) as kept:
        if kept.get("tags", {}).pop(key, None) is None:
            raise missing(f"run {id!r} has no tag {key!r} that a client set")
    return {}


def log_inputs(book: Book, asked: Body) -> Body:
    with book.runs.change(run_id(asked)) as kept:
        held = kept.setdefault("inputs", {})
        held["dataset_inputs"] = [*held.get("dataset_inputs", ()), *(asked.get("datasets") or ())]
        held["model_inputs"] = [*held.get("model_inputs", ()), *(asked.get("models") or ())]
    return {}


def log_outputs(book: Book, asked: Body) -> Body:
    with book.runs.change(run_id(asked)) as kept:
        kept["outputs"] = [*kept.get("outputs", ()), *(asked.get("models") or ())]
    return {}


def metric_history(book: Book, asked: Body) -> Body:
    """A series in the order of arrival, page by page: a page's token is good for figures that come later too."""
    run = book.runs.get(run_id(asked))
    points = book.runs.figures.history(run.id, text(asked, "metric_key"))
    shown, token = page(points, asked, HISTORY_PAGE, HISTORY_PAGE)
    return {"metrics": [point.view() for point in shown], **token}


def metric_history_of_runs(book: Book, asked: Body) -> Body:
    """One series of several runs, with the run's id at each figure."""
    key = text(asked, "metric_key")
    ids = listed(asked, "run_id")
    figures = [
        {**point.view(), "run_id": id} for id in ids for point in book.runs.figures.history(book.runs.get(id).id, key)
    ]
    return {"metrics": figures[: whole(asked, "max_results") or HISTORY_PAGE]}


def create_model(book: Book, asked: Body) -> Body:
    return {"model": book.models.view(book.models.create(asked))}


def get_model(book: Book, asked: Body) -> Body:
    return {"model": book.models.view(book.models.get(asked["model_id"]))}


def finish_model(book: Book, asked: Body) -> Body:
    book.models.finish(asked["model_id"], text(asked, "status"))
    return get_model(book, asked)


def delete_model(book: Book, asked: Body) -> Body:
    book.models.delete(asked["model_id"])
    return {}


def search_models(book: Book, asked: Body) -> Body:
    within = {str(id) for id in asked.get("experiment_ids") or ()}
    models = [kept for kept in book.models.all() if kept["experiment"] in within]
    models = found(models, asked.get("filter") or "", book.models.field)
    orders = [
        f"{each['field_name']} {'ASC' if each.get('ascending', True) else 'DESC'}"
        for each in asked.get("order_by") or ()
    ]
    models = ordered(models, [*orders, "creation_timestamp DESC", "model_id"], book.models.field)
    shown, token = page(models, asked, SEARCH_PAGE, SEARCH_PAGE_MOST)
    return {"models": [book.models.view(kept) for kept in shown], **token}


def tag_model(book: Book, asked: Body) -> Body:
    with book.models.change(asked["model_id"]) as kept:
        kept["tags"].update(texts(asked.get("tags")))
    return get_model(book, asked)


def untag_model(book: Book, asked: Body) -> Body:
    with book.models.change(asked["model_id"]) as kept:
        if kept["tags"].pop(asked["tag_key"], None) is None:
            raise missing(f"logged model {asked['model_id']!r} has no tag {asked['tag_key']!r}")
    return {}


def add_model_params(book: Book, asked: Body) -> Body:
    with book.models.change(asked["model_id"]) as kept:
        kept["params"].update(texts(asked.get("params")))
    return {}


CALLS: dict[tuple[str, str], Call] = {
    ("POST", "experiments/create"): create_experiment,
    ("GET", "experiments/get"): get_experiment,
    ("GET", "experiments/get-by-name"): get_experiment_by_name,
    ("POST", "experiments/search"): search_experiments,
    ("GET", "experiments/search"): search_experiments,
    ("POST", "experiments/update"): change_experiment(),
    ("POST", "experiments/delete"): change_experiment("deleted"),
    ("POST", "experiments/restore"): change_experiment("active"),
    ("POST", "experiments/set-experiment-tag"): tag_experiment,
    ("POST", "runs/create"): create_run,
    ("GET", "runs/get"): get_run,
    ("POST", "runs/update"): update_run,
    ("POST", "runs/delete"): move_run("deleted"),
    ("POST", "runs/restore"): move_run("active"),
    ("POST", "runs/search"): search_runs,
    ("POST", "runs/log-metric"): log_metric,
    ("POST", "runs/log-parameter"): log_parameter,
    ("POST", "runs/log-batch"): log_batch,
    ("POST", "runs/set-tag"): set_tag,
    ("POST", "runs/delete-tag"): delete_tag,
    ("POST", "runs/log-inputs"): log_inputs,
    ("POST", "runs/outputs"): log_outputs,
    ("GET", "metrics/get-history"): metric_history,
    ("GET", "metrics/get-history-bulk"): metric_history_of_runs,
    ("POST", "logged-models"): create_model,
    ("POST", "logged-models/search"): search_models,
    ("GET", "logged-models/{model_id}"): get_model,
    ("PATCH", "logged-models/{model_id}"): finish_model,
    ("DELETE", "logged-models/{model_id}"): delete_model,
    ("PATCH", "logged-models/{model_id}/tags"): tag_model,
    ("DELETE", "logged-models/{model_id}/tags/{tag_key:path}"): untag_model,
    ("POST", "logged-models/{model_id}/params"): add_model_params,
}
"""What is served, by method and path behind `…/api/2.0/mlflow/`."""


def text(asked: Body, name: str) -> str:
    """A field that must be there; raises WorkspaceError (400)."""
    value = asked.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(f"the call lacks {name!r}")
    return value


def run_id(asked: Body) -> str:
    """The run that a call names; older clients say `run_uuid`."""
    return asked.get("run_uuid") or text(asked, "run_id")


def whole(asked: Body, name: str) -> int | None:
    """A whole number, which MLflow's JSON may give as a text; raises WorkspaceError (400)."""
    value = asked.get(name)
    if value in (None, ""):
        return None
    try:
        return int(str(value))
    except ValueError as error:
        raise invalid(f"{name} is {value!r}, not a whole number") from error


def listed(asked: Body, name: str) -> list[str]:
    """A field that may be given several times."""
    value: Any = asked.get(name) or []
    values = [value] if isinstance(value, str) else list(value)
    if not values:
        raise invalid(f"the call lacks {name!r}")
    return values


def stages(view: str | None) -> tuple[str, ...]:
    return {"ALL": ("active", "deleted"), "DELETED_ONLY": ("deleted",)}.get(view or "", ("active",))


def page(things: Sequence[T], asked: Body, default: int, most: int) -> tuple[Sequence[T], Body]:
    """The page that a call asks for, and the token of the next one if there is one."""
    size = whole(asked, "max_results")
    size = default if size is None else size
    start = whole(asked, "page_token") or 0
    if not 1 <= size <= most:
        raise invalid(f"max_results is {size}, not 1 to {most}")
    if start < 0:
        raise invalid(f"page_token is {start}, which no call has given")
    end = start + size
    return things[start:end], {"next_page_token": str(end)} if end < len(things) else {}
