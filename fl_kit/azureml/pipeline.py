"""A plan as an AzureML pipeline: each round is one pipeline component, registered once and called each round.

Compiling needs no network and no Azure: it gives plain data in the form of AzureML's documented YAML, which a
data owner can read before anything runs, and from which the SDK makes its own objects.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fl_kit.azureml.environment import environment_of, is_registered
from fl_kit.azureml.layout import Layout
from fl_kit.azureml.nodes import FOLDER, TEXT, Terms, data_type, data_value, node
from fl_kit.azureml.phases import Phase, phases
from fl_kit.errors import FederationError, PlanError
from fl_kit.silo import Federation

Earlier = Callable[[str], str]
"""`<step id>:<output>` → the folder in which an earlier submission left it."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What is submitted for some rounds of a run, as plain data.

    environments  `name:version` → an environment in which components' steps run
    components    `name:version` → a pipeline component, in the order in which they are registered; the last one's
                  version stands for those of all the others too, so that a workspace which has it has all of them
    job           the pipeline job; its nodes call the components by name and version
    code          the folder that travels, as the components name it
    """

    environments: Mapping[str, Mapping[str, Any]]
    components: Mapping[str, Mapping[str, Any]]
    job: Mapping[str, Any]
    code: str

    def with_code(self, uploaded: str) -> "Pipeline":
        """The same pipeline, whose components name the code that was uploaded: the SDK need not look for it again."""

        def naming(node: Mapping[str, Any]) -> dict[str, Any]:
            return {**node, "component": {**node["component"], "code": uploaded}}

        components = {
            label: {**component, "jobs": {name: naming(node) for name, node in component["jobs"].items()}}
            for label, component in self.components.items()
        }
        return replace(self, components=components, code=uploaded)


def compile_pipeline(
    terms: Terms,
    layout: Layout,
    *,
    first: int = 0,
    last: int | None = None,
    earlier: Earlier | None = None,
    name: str = "",
    experiment: str = "",
    tags: Mapping[str, str] | None = None,
) -> Pipeline:
    """The pipeline of the plan's phases from `first` on, up to and without `last`; None means all that follow.

    earlier     source → folder, for what phases before `first` made; by default where this layout has it
    name        the pipeline job's; the run's id by default
    experiment  under which AzureML shows it; by default the task's name
    tags        what is written on the job

    Raises FederationError if a party has no compute or datastore, PlanError for phases that the plan has not.
    """
    check_places(terms.federation)
    chosen = phases(layout.plan)[first:last]
    if not chosen:
        raise PlanError(f"the plan has no phases from {first} on up to {last}")
    components = with_versions({phase.shape: phase_component(phase, terms) for phase in unlike(chosen)}, terms.code)
    labels = {shape: label(component) for shape, component in components.items()}
    made = {source: {"path": at} for phase in chosen for source, at in given(phase)}
    for phase in chosen:
        for source in phase.sources.keys() - made.keys():
            made[source] = {**FOLDER, "path": (earlier or layout.source)(source)}
    job = {
        "$schema": "https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json",
        "type": "pipeline",
        "name": name or layout.run_id,
        "display_name": f"{terms.job.task.name}: {type(terms.job.strategy).__name__}, {rounds_of(chosen)}",
        "experiment_name": experiment or terms.job.task.name,
        "tags": dict(tags or {}),
        "settings": {"force_rerun": True, "continue_on_step_failure": terms.quorum},
        "jobs": {phase.name: call(phase, labels[phase.shape], terms, layout, made) for phase in chosen},
    }
    return Pipeline(
        environments=environments(chosen, terms),
        components={labels[shape]: component for shape, component in components.items()},
        job=job,
        code=terms.code,
    )


def environments(chosen: Iterable[Phase], terms: Terms) -> dict[str, Mapping[str, Any]]:
    """Each environment once; those that the workspace has from elsewhere are taken as they are."""
    parties = [terms.party(name) for name in {step.party: None for phase in chosen for step in phase.steps}]
    made = [environment_of(party, terms.job.task) for party in parties if not is_registered(party)]
    return {label(each): each for each in made}


def rounds_of(chosen: list[Phase]) -> str:
    first, last = chosen[0].round, chosen[-1].round
    return f"round {first}" if first == last else f"rounds {first} to {last}"


def phase_component(phase: Phase, terms: Terms) -> dict[str, Any]:
    """The pipeline component of all phases of this shape, without its version."""
    inputs: dict[str, Any] = {"round": TEXT, **dict.fromkeys(phase.sources.values(), FOLDER)}
    for step in phase.steps:
        if "data" in step.inputs:
            inputs[f"{phase.idents[step.party]}_data"] = data_type(terms.federation[step.party].data)
        if "memory" in step.inputs:
            inputs[f"{phase.idents[step.party]}_memories"] = FOLDER
            inputs |= {"run": TEXT} if terms.memory_may_lack else {}
    return {
        "$schema": "https://azuremlschemas.azureedge.net/latest/pipelineComponent.schema.json",
        "type": "pipeline",
        "name": f"fl_{''.join(c if c.isalnum() else '_' for c in terms.job.task.name.lower())}_{phase.op}",
        "display_name": {"init": "start", "aggregate": "round"}.get(phase.op, phase.op),
        "inputs": inputs,
        "outputs": dict.fromkeys(phase.outputs.values(), FOLDER),
        "jobs": {phase.nodes[step.id]: node(phase, step, terms) for step in phase.steps},
    }


def with_versions(components: Mapping[str, Mapping[str, Any]], code: str) -> dict[str, dict[str, Any]]:
    """The same components, each with the version that follows from its content; the last one's from all contents."""
    found: dict[str, dict[str, Any]] = {}
    for number, (shape, component) in enumerate(components.items(), 1):
        others = [label(other) for other in found.values()] if number == len(components) else []
        found[shape] = {**component, "version": version(component, code, others)}
    return found


def version(component: Mapping[str, Any], code: str, others: Iterable[str] = ()) -> str:
    """A component's version: the same for the same content, wherever its code lies on this machine."""
    text = " ".join((json.dumps(component, sort_keys=True).replace(json.dumps(code), '"code"'), *others))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def call(phase: Phase, component: str, terms: Terms, layout: Layout, made: Mapping[str, Any]) -> dict[str, Any]:
    """A phase as a node of the pipeline: its component, its round, and a path of its own for every output."""
    inputs: dict[str, Any] = {"round": layout_round(phase)}
    inputs |= {ident: made[source] for source, ident in phase.sources.items()}
    for step in phase.steps:
        if "data" in step.inputs:
            inputs[f"{phase.idents[step.party]}_data"] = data_value(terms.federation[step.party].data)
        if "memory" in step.inputs:
            # AzureML mounts no folder that is not there: where a silo may have kept nothing yet, the root of its store
            path = layout.store(step.party) if terms.memory_may_lack else layout.private(step.party, "memory")
            inputs[f"{phase.idents[step.party]}_memories"] = {**FOLDER, "path": path}
            inputs |= {"run": layout.run_id} if terms.memory_may_lack else {}
    outputs = {
        phase.outputs[step.id, name]: {**FOLDER, "mode": "upload", "path": layout.output(step, name)}
        for step in phase.steps
        for name in step.outputs
    }
    return {"type": "pipeline", "component": f"azureml:{component}", "inputs": inputs, "outputs": outputs}


def layout_round(phase: Phase) -> str:
    """The round as it begins the ids of the phase's steps."""
    return phase.steps[-1].id.partition("/")[0]


def given(phase: Phase) -> Iterator[tuple[str, str]]:
    """Source → how later phases of the pipeline refer to it, for each output of a phase."""
    for (step, name), ident in phase.outputs.items():
        yield f"{step}:{name}", f"${{{{parent.jobs.{phase.name}.outputs.{ident}}}}}"


def unlike(chosen: Sequence[Phase]) -> list[Phase]:
    """One phase of each shape: first the rounds, which the next chunk of the run has too, and what is called often."""
    times = Counter(phase.shape for phase in chosen)
    first = {phase.shape: phase for phase in reversed(chosen)}
    return sorted(first.values(), key=lambda phase: (phase.op != "aggregate", -times[phase.shape]))


def label(asset: Mapping[str, Any]) -> str:
    return f"{asset['name']}:{asset['version']}"


def check_places(federation: Federation) -> None:
    """Raise FederationError that lists every party without compute or datastore."""
    parties = {"orchestrator": federation.orchestrator, **{silo.name: silo for silo in federation.silos}}
    faults = [
        f"{name}: no {what} is given"
        for name, party in parties.items()
        for what in ("compute", "datastore")
        if not getattr(party, what)
    ]
    if faults:
        raise FederationError(
            "the federation is not ready for AzureML:\n" + "\n".join(f"  {fault}" for fault in faults)
        )
