"""AzureML on a local workspace, as a backend that takes a folder: held to the rules of all backends."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_kit.azureml import AzureML
from fl_kit.job import Job
from fl_kit.secret_scan import secrets_in
from fl_kit.silo import Federation
from sim.azureml import LocalWorkspace
from sim.azureml.runs import LOG


@dataclass(kw_only=True)
class LocalAzureML:
    """Serves a workspace for the first federation that it is given, until `close`."""

    folder: Path
    workspace: Any = field(default=None, init=False)

    def start(self, job: Job, federation: Federation, *, paused: bool = False) -> Any:
        federation.check()
        silos = self.serve(federation).federation.select(federation.names)
        return self._place().start(job, silos, paused=paused)

    def serve(self, federation: Federation) -> Any:
        """The workspace, which is started for the federation if it is not there yet."""
        if self.workspace is None:
            self.workspace = LocalWorkspace.for_federation(federation, root=self.folder / "workspace").start()
        return self.workspace

    def resume(self, run_id: str) -> Any:
        return self._place().resume(run_id)

    def close(self) -> None:
        if self.workspace is not None:
            self.workspace.stop()
            assert self.secrets_left() == {}

    def secrets_left(self) -> dict[str, Any]:
        """What looks like secrets in the run folders and the logs of steps: file → findings."""
        runs = [path for path in (self.folder / "runs").rglob("*") if path.suffix != ".safetensors"]
        files = [*runs, *(self.folder / "workspace").rglob(LOG)]
        texts = {str(file): file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file()}
        return {name: found for name, text in texts.items() if (found := secrets_in(text))}

    def _place(self) -> AzureML:
        return AzureML(self.workspace.client(), folder=self.folder / "runs")
