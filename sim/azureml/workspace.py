"""`LocalWorkspace`: an AzureML workspace on this machine, from `with` to the end of the block."""

import atexit
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fl_kit.readable import readable_path
from fl_kit.silo import Federation, Party
from fl_kit.table import Shown, Table
from sim.azureml.credential import LocalCredential
from sim.azureml.errors import WorkspaceError
from sim.azureml.faults import Faults
from sim.azureml.identity import cloud, cloud_name
from sim.azureml.listener import Listener, bind
from sim.azureml.lock import Lock
from sim.azureml.pointing import Pointing, config, variables
from sim.azureml.settle import settle
from sim.azureml.state import WorkspaceState
from sim.azureml.tls import tls_files

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

    from sim.faults.disturbance import Given

ROOT = ".fl_kit/azureml"
FEDERATION = "federation.yaml"
"""In the workspace's folder: the federation with the names that its parties have there."""

NAMES = ("name", "subscription", "resource_group", "location")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class LocalWorkspace(Shown):
    """An AzureML workspace on this machine, to which the unmodified `azure.ai.ml.MLClient` submits.

        with LocalWorkspace.for_federation(federation) as ws:
            client = ws.client()
            run = job.run(ws.federation, on=AzureML(client))

    root   the folder in which everything is kept: what was there before is there again; it may be deleted
    names  of the workspace when its folder is made: name, subscription, resource_group, location (see Settings)

    Inside the `with` (or from `start` to `stop`), this process's environment points to it, so that the same code as
    for Azure, `MLClient.from_config(DefaultAzureCredential())`, finds it; outside, everything is as before.

    It proves that a job is wired well: the calls, the graph, what each step reads and writes. It cannot prove what
    only Azure has: role assignments, container images, networks, quotas, Kubernetes and Arc scheduling.

    In a notebook `start` and `stop` may stand in cells of their own. In Jupyter the SDK reports its use to Microsoft
    unless its client is made with `enable_telemetry=False`, as `client` does.

    Raises WorkspaceError if a process serves the same folder already, or if the folder's workspace has other names.

    >>> with LocalWorkspace.for_federation(federation) as ws:  # doctest: +SKIP
    ...     run = job.run(ws.federation, on=AzureML(ws.client())).wait()
    """

    def __init__(self, root: str | Path = ROOT, **names: str) -> None:
        check_names(names)
        self.root = Path(root).resolve()
        self.federation: Federation | None = None
        self._names = names
        self._asked: Federation | None = None
        self._lock = Lock(self.root)
        self._state: WorkspaceState | None = None
        self._listener: Listener | None = None
        self._pointing: Pointing | None = None

    @classmethod
    def for_federation(cls, federation: Federation, root: str | Path = ROOT, **names: str) -> "LocalWorkspace":
        """A workspace in which every party of the federation has a compute and a datastore.

        Names come from the silos' fields; what is empty becomes `<name>` and `<name>_store`. A silo's local folder is
        copied into its datastore. `ws.federation` is then the federation with these names and addresses.

        Raises FederationError, at the start, if parties share a compute or datastore or a folder is missing.
        """
        workspace = cls(root, **names)
        workspace._asked = federation
        return workspace

    def start(self, *, point: bool = True) -> "LocalWorkspace":
        """Serve until `stop`; gives itself. `point=False` leaves this process's environment alone."""
        if self._listener is not None:
            return self
        self._lock.acquire()
        try:
            state = self._state = WorkspaceState.open(self.root, **self._names)
            refuse_other_names(state, self._names)
            bound = bind(state.settings.port)
            state.listening_on(bound.getsockname()[1])
            files = tls_files(self.root / "tls")
            self._listener = Listener(state, files, bound)
            if self._asked is not None:
                self.federation = settle(state, self._asked)
                self.federation.save(self.root / FEDERATION)
            self._pointing = Pointing(variables(state, files.bundle), config(state.settings))
            if point:
                self._pointing.enter()
        except BaseException:
            self.stop()
            raise
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Cancel what runs, answer no more calls, and restore the environment; what is kept stays."""
        atexit.unregister(self.stop)
        if self._pointing is not None:
            self._pointing.leave()
        if self._state is not None:
            self._state.close()
        if self._listener is not None:
            self._listener.close()
        self._pointing = self._listener = None
        self._lock.release()

    def __enter__(self) -> "LocalWorkspace":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def client(self, **settings: Any) -> "MLClient":
        """An `azure.ai.ml.MLClient` of this workspace; `settings` are passed on to it."""
        from azure.ai.ml import MLClient

        state = self.state
        names = state.settings
        here = cloud(names)
        # Told what the cloud is, the SDK need not ask for its metadata before every call.
        metadata = {
            "azure_portal": here["portal"],
            "resource_manager": here["resourceManager"],
            "active_directory": here["authentication"]["loginEndpoint"],
            "aml_resource_id": "https://ml.azure.localhost",
            "storage_endpoint": here["suffixes"]["storage"],
            "registry_discovery_endpoint": here["resourceManager"],
        }
        settings = {
            "cloud": cloud_name(names),
            "cloud_metadata": metadata,
            "enable_telemetry": False,
            "show_progress": False,
            **settings,
        }
        return MLClient(LocalCredential(state), names.subscription, names.resource_group, names.name, **settings)

    def environment(self) -> dict[str, str]:
        """The environment variables that point any client at this workspace, for another process."""
        self.state  # noqa: B018  raises if it is not running
        assert self._pointing is not None
        return dict(self._pointing.variables)

    @property
    def state(self) -> WorkspaceState:
        """What the workspace knows; raises WorkspaceError if it is not running."""
        if self._state is None or self._listener is None:
            message = f"the workspace in {self.root} is not running: use it inside `with`, or call start()"
            raise WorkspaceError(message, status=503, code="NotRunning")
        return self._state

    @property
    def url(self) -> str:
        """Where it listens: `https://127.0.0.1:<port>`."""
        return self.state.settings.url

    @property
    def faults(self) -> Faults:
        """What is to go wrong on purpose."""
        return self.state.faults

    def disturb(self, faults: "Given", *, seed: int = 0) -> None:
        """Let these faults of `sim.faults` befall the silos from now on, in place of earlier ones.

        faults  silo, or a pattern of names, → a fault, or several
        seed    of the job, from which it follows where faults with a probability strike

        Raises FederationError for a silo that there is not, IncompatibleError for an attack, or what is no fault.

        >>> ws.disturb({"silo-1": Drop(rounds=(2,))})           # doctest: +SKIP
        """
        from sim.azureml.silo_faults import SiloFaults
        from sim.faults.disturbance import Disturbance

        federation = self.federation or Federation.load(self.root / FEDERATION)
        disturbance = Disturbance.given(faults, federation).faults_only("a workspace")
        self.faults.of_silos = SiloFaults(disturbance.faults(), seed)

    @property
    def isolation(self) -> str:
        """How steps are kept from one another's folders: `namespaces`, `bubblewrap`, or `none`."""
        kept = self.state.documents.get("workspace", "isolation") or {}
        return str(kept.get("isolation", "none"))

    def storage(self, datastore: str) -> Path:
        """The folder in which a datastore's blobs are plain files."""
        return self.state.storage(datastore)

    def table(self) -> Table:
        """One row per party: its compute, its datastore, and the folder that this is."""
        running = self._state is not None and self._listener is not None
        parties: dict[str, Party] = {"orchestrator": self.federation.orchestrator} if self.federation else {}
        parties |= {silo.name: silo for silo in self.federation.silos} if self.federation else {}
        return Table(
            columns=["party", "compute", "datastore"],
            rows=[[name, party.compute, party.datastore] for name, party in parties.items()],
            title=f"Local AzureML workspace at {self.url}" if running else "Local AzureML workspace, not running",
            note=f"everything is kept in {readable_path(str(self.root))}"
            + (f"; isolation of the steps: {self.isolation}" if running else ""),
        )


def check_names(names: Mapping[str, str]) -> None:
    """Raise WorkspaceError for names that a workspace does not have, or that no address can hold."""
    for key, value in names.items():
        if key not in NAMES:
            raise WorkspaceError(f"a workspace has no {key!r}; it has {', '.join(NAMES)}", status=400)
        if not NAME.fullmatch(value):
            raise WorkspaceError(f"{key} {value!r} will not do: letters, digits, '.', '-' and '_'", status=400)


def refuse_other_names(state: WorkspaceState, names: Mapping[str, str]) -> None:
    for key, value in names.items():
        kept = getattr(state.settings, key)
        if kept != value:
            message = f"the workspace in {state.root} has {key} {kept!r}, not {value!r}: use another root, or delete it"
            raise WorkspaceError(message, status=409)
