from collections.abc import Iterator

import pytest

from fl_kit.errors import TrackingError
from fl_kit.mlflow_rest import MlflowServer, address
from tests.fl_kit.tracking_server import TrackingServer, serving


@pytest.fixture
def server() -> Iterator[TrackingServer]:
    with serving() as found:
        found.run("r1")
        yield found


def client(server: TrackingServer, waits: list[float], **more: float) -> MlflowServer:
    tokens = iter(f"token-{i}" for i in range(100))
    return MlflowServer(url=server.url, token=lambda: next(tokens), sleep=waits.append, **more)


def test_get_and_post(server):
    found = client(server, [])
    row = {"key": "global/loss", "value": 0.5, "timestamp": 1, "step": 0}
    found.post("runs/log-batch", {"run_id": "r1", "metrics": [row], "params": [], "tags": []})
    assert found.get("runs/get", run_id="r1")["run"]["data"]["metrics"] == [row]


@pytest.mark.parametrize("status", [401, 408, 429, 500, 502, 503, 504])
def test_what_passes_is_tried_again_with_a_fresh_token_and_longer_pauses(server, status):
    waits: list[float] = []
    server.answers = [status, status, status]
    assert client(server, waits).get("runs/get", run_id="r1")["run"]["info"]["run_id"] == "r1"
    assert waits == [0.5, 1.0, 2.0]
    assert server.tokens == [f"Bearer token-{i}" for i in range(4)]


def test_the_server_says_how_long_to_wait(server):
    waits: list[float] = []
    server.answers = [(429, {"Retry-After": "7"})]
    client(server, waits).get("runs/get", run_id="r1")
    assert waits == [7.0]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_is_final_and_says_what_the_server_said(server, status):
    server.answers = [status]
    with pytest.raises(TrackingError, match=rf"runs/get was refused: HTTP {status} .*told to say {status}"):
        client(server, []).get("runs/get", run_id="r1")
    assert len(server.calls) == 1


def test_patience_has_an_end(server):
    server.answers = [503] * 50
    with pytest.raises(TrackingError, match="HTTP 503"):
        client(server, [], patience=0.0).get("runs/get", run_id="r1")
    assert len(server.calls) == 1


def test_a_server_that_is_not_there():
    gone = MlflowServer(url="http://127.0.0.1:9", token=lambda: "", patience=0.0)
    with pytest.raises(TrackingError, match="Connection refused"):
        gone.get("runs/get", run_id="r1")


def test_addresses():
    scope = "/subscriptions/s/workspaces/w"
    assert (
        address(f"azureml://eu.api.azureml.ms/mlflow/v1.0{scope}?a=b")
        == f"https://eu.api.azureml.ms/mlflow/v2.0{scope}"
    )
    assert address("http://127.0.0.1:5000/") == "http://127.0.0.1:5000"
    for bad in ("file:///data/mlruns", "mlruns", "sqlite:///x.db"):
        with pytest.raises(TrackingError, match="no MLflow server"):
            address(bad)
