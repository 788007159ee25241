"""An MLflow tracking server by plain HTTP: a step need not load the mlflow package, which takes seconds."""

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fl_kit.bounded import parse_json
from fl_kit.errors import TrackingError

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be another one a little later."""

ANSWER_LIMIT = 64 << 20
"""Bytes of one answer: a page of a thousand runs has a few million."""
TIMEOUT = 30.0
"""Seconds that one request may take."""


@dataclass(frozen=True, kw_only=True)
class MlflowServer:
    """One tracking server.

    url       the tracking URI; AzureML's `azureml://` form too
    token     gives the bearer token, or an empty text; called for each request, so that it can be a fresh one
    patience  seconds for which a request is tried again while the server is down, busy (429) or broken (5xx)

    Raises TrackingError for what the server refuses, or when the patience is over.
    """

    url: str
    token: Callable[[], str]
    patience: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def get(self, method: str, **query: str) -> dict[str, Any]:
        """`get("runs/get", run_id=…)`: the answer as plain data."""
        return self._call("GET", f"{method}?{urllib.parse.urlencode(query)}", None)

    def post(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """`post("runs/log-batch", {…})`: the answer as plain data."""
        return self._call("POST", method, json.dumps(body).encode())

    def _call(self, verb: str, place: str, data: bytes | None) -> dict[str, Any]:
        began, pause = time.monotonic(), 0.5
        while True:
            try:
                return self._once(verb, place, data)
            except NotNow as problem:
                if time.monotonic() - began + pause > self.patience:
                    raise TrackingError(f"{place.partition('?')[0]} at {self.url} failed: {problem}") from problem
                self.sleep(max(pause, problem.after))
                pause = min(2 * pause, 10.0)

    def _once(self, verb: str, place: str, data: bytes | None) -> dict[str, Any]:
        request = urllib.request.Request(f"{address(self.url)}/api/2.0/mlflow/{place}", data=data, method=verb)
        request.add_header("Content-Type", "application/json")
        if token := self.token():
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT, context=trust()) as answer:
                said = answer.read(ANSWER_LIMIT + 1)
                if len(said) > ANSWER_LIMIT:
                    raise TrackingError(f"{place.partition('?')[0]}: the answer is larger than {ANSWER_LIMIT:,} bytes")
                return dict(parse_json(said or b"{}", infinite=True))
        except urllib.error.HTTPError as error:
            said = error.read(2000).decode("utf-8", "replace")
            if error.code in PASSING or error.code == 401:  # a token that has just expired is a fresh one next time
                raise NotNow(
                    f"HTTP {error.code} {said}", after=retry_after(error.headers.get("Retry-After"))
                ) from error
            raise TrackingError(f"{place.partition('?')[0]} was refused: HTTP {error.code} {said}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotNow(f"{type(error).__name__}: {error}") from error


class NotNow(TrackingError):
    """The server cannot answer now, and may later; `after` is how many seconds it asks for."""

    def __init__(self, message: str, *, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


def retry_after(text: str | None) -> float:
    return min(float(text), 60.0) if text and text.isdecimal() else 0.0


def address(uri: str) -> str:
    """The web address of a tracking URI.

    Raises TrackingError for what is no server.

    >>> address("azureml://westeurope.api.azureml.ms/mlflow/v1.0/subscriptions/1?x=y")
    'https://westeurope.api.azureml.ms/mlflow/v2.0/subscriptions/1'
    """
    scheme, _, rest = uri.partition("://")
    rest = rest.partition("?")[0].rstrip("/")
    if scheme == "azureml":
        return f"https://{rest.replace('/mlflow/v1.0/', '/mlflow/v2.0/', 1)}"
    if scheme not in ("http", "https"):
        raise TrackingError(f"{uri!r} is no MLflow server: expected https://… or azureml://…")
    return f"{scheme}://{rest}"


def trust() -> ssl.SSLContext:
    """Whom to trust: REQUESTS_CA_BUNDLE where it is set, as the SDK does, else the system."""
    return ssl.create_default_context(cafile=os.environ.get("REQUESTS_CA_BUNDLE") or None)
