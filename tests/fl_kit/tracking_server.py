"""A small MLflow tracking server for tests: it keeps what it is told, and can be told to fail."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse


class TrackingServer(ThreadingHTTPServer):
    """Runs, their metrics and tags; `answers` are statuses that it gives first, before it serves."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.answers: list[int | tuple[int, dict[str, str]]] = []
        self.calls: list[tuple[str, Any]] = []
        self.tokens: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def run(self, run_id: str, **tags: str) -> dict[str, Any]:
        """A new run."""
        info = {"run_id": run_id, "experiment_id": "7", "status": "RUNNING", "start_time": 1}
        self.runs[run_id] = {"info": info, "tags": dict(tags), "rows": []}
        return self.runs[run_id]

    def metrics(self, run_id: str) -> list[tuple[str, int, Any]]:
        """Key, step and value of each row, in the order in which they came."""
        return [(row["key"], row["step"], row["value"]) for row in self.runs[run_id]["rows"]]


def public(run: dict[str, Any]) -> dict[str, Any]:
    latest: dict[str, Any] = {}
    for row in run["rows"]:
        if row["key"] not in latest or row["step"] >= latest[row["key"]]["step"]:
            latest[row["key"]] = row
    tags = [{"key": key, "value": value} for key, value in run["tags"].items()]
    return {"info": run["info"], "data": {"metrics": list(latest.values()), "tags": tags}}


class Handler(BaseHTTPRequestHandler):
    server: TrackingServer

    def do_GET(self) -> None:
        address = urlparse(self.path)
        self._answer(address.path, {key: values[0] for key, values in parse_qs(address.query).items()})

    def do_POST(self) -> None:
        self._answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, path: str, body: dict[str, Any]) -> None:
        method = path.partition("/api/2.0/mlflow/")[2]
        self.server.calls.append((method, body))
        self.server.tokens.append(self.headers.get("Authorization", ""))
        if self.server.answers:
            answer = self.server.answers.pop(0)
            status, headers = answer if isinstance(answer, tuple) else (answer, {})
            return self._send(status, {"error_code": "X", "message": f"told to say {status}"}, headers)
        found = getattr(self, f"on_{method.replace('/', '_').replace('-', '_')}")(body)
        return self._send(200 if found is not None else 404, found or {})

    def on_runs_get(self, body: dict[str, Any]) -> Any:
        run = self.server.runs.get(body["run_id"])
        return run and {"run": public(run)}

    def on_runs_search(self, body: dict[str, Any]) -> Any:
        parent = body["filter"].split("'")[1]
        found = [run for run in self.server.runs.values() if run["tags"].get("mlflow.parentRunId") == parent]
        return {"runs": [public(run) for run in found]}

    def on_runs_create(self, body: dict[str, Any]) -> Any:
        tags = {tag["key"]: tag["value"] for tag in body["tags"]}
        return {"run": public(self.server.run(f"child-{len(self.server.runs)}", **tags))}

    def on_runs_log_batch(self, body: dict[str, Any]) -> Any:
        run = self.server.runs[body["run_id"]]
        run["rows"] += body["metrics"]
        run["tags"] |= {tag["key"]: tag["value"] for tag in body["tags"]}
        return {"ok": True}

    def on_metrics_get_history(self, body: dict[str, Any]) -> Any:
        rows = [row for row in self.server.runs[body["run_id"]]["rows"] if row["key"] == body["metric_key"]]
        return {"metrics": rows}

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[TrackingServer]:
    server = TrackingServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
