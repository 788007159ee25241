"""Files of runs and of logged models, by plain HTTP: upload, list, download, delete.

An artifact's address ends in `runs/<run>/<path>` or `models/<model>/<path>`. A run's artifacts are blobs, where
`MLClient.jobs.download` looks for them; a model's are files below `mlflow/models/<model>`.
"""

import shutil
import uuid
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from sim.azureml.blob_store import harmless, inside
from sim.azureml.mlflow.asked import text
from sim.azureml.mlflow.book import Book
from sim.azureml.mlflow.figures import invalid, missing
from sim.azureml.state import Body, WorkspaceState, file_name

STORE = "workspaceartifactstore"
"""The datastore of every workspace in which runs' artifacts are, below `ExperimentRun/dcid.<run>/`."""


class Artifacts:
    """Artifacts of every run and logged model."""

    def __init__(self, state: WorkspaceState, book: Book) -> None:
        self._runs = state.root / "storage" / STORE / "ExperimentRun"
        self._models = state.root / "mlflow" / "models"
        self._uploads = state.root / "mlflow" / "uploads"
        shutil.rmtree(self._uploads, ignore_errors=True)  # what a server that was killed had received
        self._uploads.mkdir(parents=True)
        self._book = book

    def path(self, address: str) -> Path:
        """The file or folder at `runs/<run>/…`, which need not exist; raises WorkspaceError for any other address."""
        kind, _, rest = address.strip("/").partition("/")
        owner, _, below = rest.partition("/")
        if kind == "runs":
            self._book.runs.get(owner)
            root = self._runs / f"dcid.{file_name((owner,))}"
        elif kind == "models":
            self._book.models.get(owner)
            root = self._models / file_name((owner,))
        else:
            raise missing(f"{address!r} is no artifact of a run or of a logged model")
        parts = below.split("/") if below else []
        path = root.joinpath(*parts)
        if not all(harmless(part) for part in parts) or not inside(path, root):
            raise invalid(f"{below!r} is no path of an artifact")
        return path

    async def upload(self, request: Request) -> Response:
        """The body becomes the file, at once and as a whole."""
        path = self.path(request.path_params["path"])
        received = self._uploads / uuid.uuid4().hex
        try:
            with received.open("wb") as file:
                async for chunk in request.stream():
                    file.write(chunk)
            path.parent.mkdir(parents=True, exist_ok=True)
            received.replace(path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise invalid(f"{request.path_params['path']!r}: a part of it is a file, or it is a folder") from error
        finally:
            received.unlink(missing_ok=True)
        return JSONResponse({})

    async def download(self, request: Request) -> Response:
        path = self.path(request.path_params["path"])
        if not path.is_file():
            raise missing(f"there is no artifact {request.path_params['path']!r}")
        return FileResponse(path, media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        """Remove a file or a folder; nothing happens if there is none, as on MLflow's own server."""
        path = self.path(request.path_params["path"])
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return JSONResponse({})

    async def listing(self, request: Request) -> Response:
        """What is in `?path=runs/<run>/…`, named from there."""
        folder = self.path(request.query_params.get("path", ""))
        return JSONResponse({"files": entries(folder, folder)})

    async def of_run(self, request: Request) -> Response:
        """What is in a folder of a run's artifacts, named from the run."""
        run = text(dict(request.query_params), "run_id")
        listed = self._below(f"runs/{run}", request.query_params.get("path", ""))
        return JSONResponse({"root_uri": self._book.runs.artifact_uri(run), "files": listed})

    async def of_model(self, request: Request) -> Response:
        """What is in a folder of a logged model's artifacts, named from the model."""
        model = request.path_params["model_id"]
        listed = self._below(f"models/{model}", request.query_params.get("artifact_directory_path", ""))
        return JSONResponse({"root_uri": self._book.models.artifact_uri(model), "files": listed})

    def _below(self, owner: str, path: str) -> list[Body]:
        return entries(self.path(f"{owner}/{path}"), self.path(owner))


def entries(folder: Path, root: Path) -> list[Body]:
    """What is directly in a folder, named from the root; nothing for a file, or where nothing is."""
    if not folder.is_dir():
        return []
    return [
        {
            "path": path.relative_to(root).as_posix(),
            "is_dir": path.is_dir(),
            **({} if path.is_dir() else {"file_size": path.stat().st_size}),
        }
        for path in sorted(folder.iterdir())
        if inside(path, root)
    ]
