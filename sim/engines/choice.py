"""Which engine computes a run: the one that was asked for, or the one that suits it."""

from importlib import import_module

from fl_kit.entries import nearest
from fl_kit.errors import IncompatibleError
from sim.engines.engine import Engine, Simulation
from sim.engines.exact import Exact

AUTO = "auto"
HOMES: dict[str, str] = {
    "stacked": "sim.engines.stacked.engine:Stacked",
    "workers": "sim.engines.workers.engine:Workers",
}
"""Engine's name → `module:class`, of those beside the exact one; loaded when they are first asked for."""


def checked(asked: str, workers: int | None = None) -> str:
    """The name of an engine; raises IncompatibleError for one that there is not, or workers that it cannot have."""
    known = [AUTO, Exact.name, *HOMES]
    if asked not in known:
        raise IncompatibleError(f"InProcess(engine={asked!r}): there is no such engine{nearest(str(asked), known)}")
    if workers is not None and (type(workers) is not int or workers < 1):
        raise IncompatibleError(
            f"InProcess(workers={workers!r}): must be a whole number of at least 1; None takes the cores that there are"
        )
    if workers is not None and asked == Exact.name:
        raise IncompatibleError(
            f"InProcess(engine='exact', workers={workers}): the exact engine computes one silo after the other; "
            "say engine='workers', or leave `workers` away"
        )
    return asked


def engine_for(asked: str, simulation: Simulation, *, disturbed: bool, begun: str = "") -> Engine:
    """The engine for a run.

    disturbed  whether faults or attacks are given, which go around single steps
    begun      the name of the engine that the run was begun with, if it is resumed: its bits hold to the end

    An engine that cannot honour the job, or the place, is replaced by the exact one, which says why.
    """
    name = asked
    if begun and (begun == Exact.name or not kind(begun).same_bits):
        name = begun
    if name == Exact.name:
        return Exact(simulation)
    if disturbed:
        return instead(name, simulation, "faults strike single steps")
    if name == AUTO:
        return automatic(simulation)
    refusal = kind(name).refusal(simulation)
    return instead(name, simulation, refusal) if refusal else kind(name)(simulation)


def automatic(simulation: Simulation) -> Engine:
    """The fastest engine that gives the exact one's bits; workers start when what is left to do pays for them."""
    workers = kind("workers")
    refusal = workers.refusal(simulation)
    return Exact(simulation, refusal) if refusal else workers(simulation)


def instead(name: str, simulation: Simulation, why: str) -> Exact:
    """The exact engine in another one's place."""
    return Exact(simulation, why if name == AUTO else f"{name} cannot do it here: {why}")


def kind(name: str) -> type[Engine]:
    """The class of an engine."""
    module, _, found = HOMES[name].partition(":") if name in HOMES else (Exact.__module__, "", Exact.__name__)
    engine: type[Engine] = getattr(import_module(module), found)
    return engine
