"""Calls about runs and their figures."""

from sim.azureml.mlflow.asked import SEARCH_PAGE, SEARCH_PAGE_MOST, listed, page, run_id, stages, text, whole
from sim.azureml.mlflow.book import Book, Call
from sim.azureml.mlflow.experiments import DEFAULT_ID
from sim.azureml.mlflow.figures import Point, invalid, missing
from sim.azureml.mlflow.models import texts
from sim.azureml.mlflow.runs import STATUS
from sim.azureml.mlflow.search import found, ordered
from sim.azureml.state import Body

HISTORY_PAGE = 25_000
"""Figures of a page, as MLflow's own server has them."""


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
