"""Calls about experiments."""

from sim.azureml.mlflow import experiments
from sim.azureml.mlflow.asked import SEARCH_PAGE, SEARCH_PAGE_MOST, page, stages, text
from sim.azureml.mlflow.book import Book, Call
from sim.azureml.mlflow.experiments import DEFAULT_ID
from sim.azureml.mlflow.figures import invalid
from sim.azureml.mlflow.models import texts
from sim.azureml.mlflow.search import found, ordered
from sim.azureml.state import Body


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
