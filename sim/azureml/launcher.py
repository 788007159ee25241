"""Starts a step's processes: warm where it can, apart where it must."""

from dataclasses import replace

from sim.azureml.errors import WorkspaceError
from sim.azureml.forge import WARM, Forge, can_fork
from sim.azureml.isolation import Kind, bubblewrap, choose, interpreter
from sim.azureml.processes import Launch, PlainProcess, Process
from sim.azureml.step_environment import host_variables


class Launcher:
    """Starts processes with the isolation that this machine offers, or the one that is wanted.

    warm  modules that the warm process server imports beforehand; none for a server that starts at once
    """

    def __init__(self, isolation: Kind | None = None, warm: tuple[str, ...] = WARM) -> None:
        self.isolation = choose(isolation)
        usable = can_fork() and self.isolation != "bubblewrap"
        self._forge = Forge(host_variables(), warm) if usable else None

    @property
    def lays_over(self) -> bool:
        """Whether a view's `code` is shown where the step may change it; otherwise the step needs a copy of its own."""
        return self.isolation == "namespaces" and self._forge is not None

    def warm_up(self) -> None:
        """Let the warm process server import already."""
        if self._forge is not None:
            self._forge.start()

    def start(self, launch: Launch) -> Process:
        """Start a process; what it sees beside its view is the system and this Python."""
        view = launch.view
        if view is not None and self.isolation != "none":
            view = replace(view, readable=(*interpreter(), *view.readable))
            launch = replace(launch, view=view)
        else:
            launch = replace(launch, view=None)
        if self._forge is None:
            return PlainProcess(launch, bubblewrap(view) if launch.view and view else ())
        try:
            return self._forge.launch(launch)
        except WorkspaceError:
            if launch.view is not None:
                raise  # never with less isolation than was asked for
            return PlainProcess(launch)

    def close(self) -> None:
        """End the warm process server, and what it started."""
        if self._forge is not None:
            self._forge.close()
