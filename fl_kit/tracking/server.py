"""The MLflow server at the other end: whether it answers, and what it knows."""

import ssl
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from fl_kit.errors import TrackingError
from fl_kit.tracking.ledger import without_password

ANSWERS_WITHIN = 5.0
"""Seconds that a server may take to say that it is there."""


def check_alive(uri: str) -> None:
    """Raise TrackingError at once for an HTTP server that does not answer.

    MLflow itself would try for about four minutes, and its limits are settings of the whole process. Any
    answer below 500 will do: only MLflow's own server has the page /health.
    """
    if not uri.startswith(("http://", "https://")):
        return
    try:
        urlopen(f"{without_password(uri).rstrip('/')}/health", timeout=ANSWERS_WITHIN).close()
    except HTTPError as error:
        error.close()
        if error.code >= 500:
            raise TrackingError(f"it answers with {error.code} {error.reason}") from error
    except URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # it is there; whether to trust it is MLflow's to decide
            raise TrackingError(f"it does not answer: {error.reason}") from error
    except OSError as error:
        raise TrackingError(f"it does not answer: {error}") from error


def experiment_id(client: Any, name: str) -> str:
    """The experiment of that name, created if there is none."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another mirror may have been quicker
            if found is None:
                raise
    return str(found.experiment_id)


def has_no_logged_models(error: Any) -> bool:
    """Whether an MlflowException says that the server does not know MLflow 3's logged models."""
    return error.error_code in ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED") or (
        error.get_http_status_code() in (404, 405, 501)
    )
