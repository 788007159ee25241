"""What is checked when a job is submitted, so that it is refused as a whole before anything runs."""

import re

from sim.azureml.errors import WorkspaceError
from sim.azureml.graph import Graph
from sim.azureml.job_step import JobStep, Location, Result
from sim.azureml.places import check_locality, default_datastore, path_of, place_of
from sim.azureml.snapshots import check_code
from sim.azureml.state import Body, WorkspaceState

COMPONENT = re.compile(r"(?:azureml:)?/?.*/components/([^/]+)/versions/([^/]+)")
ENVIRONMENT = re.compile(r"(?:azureml:)?/?.*/environments/([^/]+)/versions/([^/]+)")
SERVERLESS = "serverless"


def component_spec(state: WorkspaceState, id: str) -> Body:
    """The specification of a component; raises WorkspaceError (400) if there is none of that id."""
    match = COMPONENT.fullmatch(id)
    document = state.documents.get("components", match[1], match[2]) if match else None
    if document is None:
        raise WorkspaceError(f"there is no component {id!r} in this workspace", status=400, code="UserError")
    spec: Body = document["properties"]["componentSpec"]
    return spec


def check_graph(state: WorkspaceState, graph: Graph) -> None:
    """Raise WorkspaceError (400) for the first thing that a step needs and that is not there or not for it."""
    places: dict[tuple[str, str], str] = {}
    for step in graph.steps:
        check_compute(state, step)
        check_code(state, step.code)
        check_environment(state, step)
        for name, target in step.outputs.items():
            uri = target.uri or f"azureml://datastores/{graph.datastore or default_datastore(state)}/paths/"
            places[step.path, name] = datastore = datastore_of(state, uri)
            if target.uri:
                check_locality(state, step.path, step.compute, datastore, verb="write to")
        for source in step.inputs.values():
            if isinstance(source, Location):
                check_locality(state, step.path, step.compute, datastore_of(state, source.uri), verb="read from")
            elif isinstance(source, Result):
                datastore = places[source.step, source.output]
                check_locality(state, step.path, step.compute, datastore, verb="read from")


def check_compute(state: WorkspaceState, step: JobStep) -> None:
    if not step.compute:
        raise WorkspaceError(f"{shown(step)} has no compute", status=400, code="UserError")
    if step.compute != SERVERLESS and state.documents.get("computes", step.compute) is None:
        message = f"{shown(step)}: there is no compute {step.compute!r} in this workspace"
        raise WorkspaceError(message, status=400, code="ComputeNotFound")


def check_environment(state: WorkspaceState, step: JobStep) -> None:
    match = ENVIRONMENT.fullmatch(step.environment)
    if (
        match
        and "/registries/" not in step.environment
        and state.documents.get("environments", *match.groups()) is None
    ):
        message = f"{shown(step)}: there is no environment {match[1]}:{match[2]} in this workspace"
        raise WorkspaceError(message, status=400, code="UserError")


def datastore_of(state: WorkspaceState, uri: str) -> str:
    """The datastore of an address, which must exist, as must not a path out of it."""
    place = place_of(state, uri.replace("${{name}}", "name").replace("${{output_name}}", "output"))
    if state.documents.get("datastores", place.datastore) is None:
        message = f"{uri}: there is no datastore {place.datastore!r} in this workspace"
        raise WorkspaceError(message, status=400, code="UserError")
    path_of(state, place)
    return place.datastore


def shown(step: JobStep) -> str:
    return f"step {step.path}" if step.path else "the job"
