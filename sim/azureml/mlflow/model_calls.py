"""Calls about logged models."""

from sim.azureml.mlflow.asked import SEARCH_PAGE, SEARCH_PAGE_MOST, page, text
from sim.azureml.mlflow.book import Book
from sim.azureml.mlflow.figures import missing
from sim.azureml.mlflow.models import texts
from sim.azureml.mlflow.search import found, ordered
from sim.azureml.state import Body


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
