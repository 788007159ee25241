"""From a submitted job to steps: what each runs, reads and writes, and after whom. Pure: nothing runs here.

A pipeline's nodes refer to one another by text (`${{parent.jobs.fit.outputs.update}}`, `${{parent.inputs.state}}`),
and a node may be a pipeline component with nodes of its own, whose outputs were lifted to the outer level. What
comes out is flat: steps that name the step and output from which each input comes.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sim.azureml.job_step import JobStep, Location, Result, Source, Target, Value, in_blocks, refused, seconds

Body: TypeAlias = dict[str, Any]
Lookup: TypeAlias = Callable[[str], Body]
"""A component's id → its specification; raises WorkspaceError if there is none."""

PARENT_INPUT = re.compile(r"\$\{\{\s*parent\.inputs\.([^\s}]+?)\s*\}\}")
PARENT_OUTPUT = re.compile(r"\$\{\{\s*parent\.outputs\.([^\s}]+?)\s*\}\}")
NODE_OUTPUT = re.compile(r"\$\{\{\s*parent\.jobs\.([^\s}.]+)\.outputs\.([^\s}]+?)\s*\}\}")


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A job's steps in an order in which they can run.

    continues  whether steps that can run still run after another one failed
    outputs    the job's own outputs: name → the step's output that it is
    datastore  where outputs go for which no place was said; empty for the workspace's default
    """

    steps: tuple[JobStep, ...]
    continues: bool = False
    outputs: Mapping[str, Result] = field(default_factory=dict)
    datastore: str = ""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One pipeline of the tree: its nodes, what its inputs stand for, and where its outputs are wanted."""

    prefix: str
    nodes: Mapping[str, Body]
    inputs: Mapping[str, Source]
    outputs: Mapping[str, Target]
    compute: str


def graph_of(job: Body, component: Lookup) -> Graph:
    """The graph of a job's properties; raises WorkspaceError (400) for one that cannot run."""
    kind = str(job.get("jobType", "")).lower()
    if kind == "pipeline":
        return pipeline_graph(job, component)
    if kind == "command":
        return Graph(
            steps=(command_step(job),), outputs={name: Result(step="", output=name) for name in outputs_of(job)}
        )
    raise refused(f"the local workspace runs pipeline and command jobs, not {job.get('jobType')!r}", code="NotServed")


def pipeline_graph(job: Body, component: Lookup) -> Graph:
    settings = job.get("settings") or {}
    wanted = {name: target_of(entry, lifted=True) for name, entry in outputs_of(job).items()}
    level = Level(
        prefix="",
        nodes=job.get("jobs") or {},
        inputs=given(job.get("inputs")),
        outputs=wanted,
        compute=name_of(job.get("computeId") or settings.get("default_compute") or ""),
    )
    if not level.nodes:
        raise refused("the pipeline has no nodes")
    outputs = {name: lifted(level, name, component) for name in wanted}
    return Graph(
        steps=in_order(list(expand(level, component))),
        continues=bool(settings.get("continue_on_step_failure")),
        outputs={name: result for name, result in outputs.items() if result is not None},
        datastore=name_of(settings.get("default_datastore") or ""),
    )


def expand(level: Level, component: Lookup) -> Iterator[JobStep]:
    """Every command of a level and of the levels below it."""
    for name, node in level.nodes.items():
        kind = node.get("type", "command")
        if kind == "pipeline":
            yield from expand(inner(level, name, node, component), component)
        elif kind == "command":
            yield node_step(level, name, node, component)
        else:
            raise refused(f"node {level.prefix}{name}: the local workspace runs no {kind!r} nodes", code="NotServed")


def inner(level: Level, name: str, node: Body, component: Lookup) -> Level:
    """The level of a node that is a pipeline component."""
    spec = component(node["componentId"])
    compute = name_of(node.get("computeId") or "") or level.compute
    return Level(
        prefix=f"{level.prefix}{name}/",
        nodes=spec.get("jobs") or {},
        inputs=bound(level, name, node, spec, component),
        outputs=targets(level, node, spec),
        compute=substituted(level, compute),
    )


def node_step(level: Level, name: str, node: Body, component: Lookup) -> JobStep:
    spec = component(node["componentId"])
    resources = {**(spec.get("resources") or {}), **(node.get("resources") or {})}
    distribution = {**(spec.get("distribution") or {}), **(node.get("distribution") or {})}
    limits = {**(spec.get("limits") or {}), **(node.get("limits") or {})}
    variables = {**(spec.get("environment_variables") or {}), **(node.get("environment_variables") or {})}
    return JobStep(
        path=f"{level.prefix}{name}",
        command=spec["command"],
        code=spec.get("code") or "",
        environment=node.get("environment") or spec.get("environment") or "",
        compute=substituted(level, name_of(node.get("computeId") or "") or level.compute),
        inputs=bound(level, name, node, spec, component),
        optional=frozenset(key for key, entry in (spec.get("inputs") or {}).items() if is_true(entry.get("optional"))),
        outputs=targets(level, node, spec),
        variables={key: substituted(level, str(value)) for key, value in variables.items()},
        timeout=seconds(limits.get("timeout")),
        instances=int(resources.get("instance_count") or 1),
        processes=int(distribution.get("process_count_per_instance") or 1),
    )


def command_step(job: Body) -> JobStep:
    """A job that is one command, whose inputs and outputs stand in the job itself."""
    resources, distribution = job.get("resources") or {}, job.get("distribution") or {}
    return JobStep(
        path="",
        command=job["command"],
        code=job.get("codeId") or "",
        environment=job.get("environmentId") or "",
        compute=name_of(job.get("computeId") or ""),
        inputs=given(job.get("inputs")),
        optional=in_blocks(job["command"]),
        outputs={name: target_of(entry) for name, entry in outputs_of(job).items()},
        variables=job.get("environmentVariables") or {},
        timeout=seconds((job.get("limits") or {}).get("timeout")),
        instances=int(resources.get("instanceCount") or 1),
        processes=int(distribution.get("processCountPerInstance") or 1),
    )


def bound(level: Level, name: str, node: Body, spec: Body, component: Lookup) -> dict[str, Source]:
    """A node's inputs: what the node says, else the component's default; raises WorkspaceError for one that lacks."""
    found: dict[str, Source] = {}
    said = node.get("inputs") or {}
    for key, declared in (spec.get("inputs") or {}).items():
        source = source_of(level, said[key], component) if key in said else None
        if source is None and declared.get("default") is not None:
            source = Value(text=str(declared["default"]))
        if source is not None:
            found[key] = source
        elif not is_true(declared.get("optional")):
            raise refused(f"node {level.prefix}{name}: its input {key!r} is not given, and is not optional")
    unknown = sorted(said.keys() - (spec.get("inputs") or {}).keys())
    if unknown:
        raise refused(f"node {level.prefix}{name}: its component has no input {unknown[0]!r}")
    return found


def source_of(level: Level, entry: Body, component: Lookup) -> Source | None:
    """What an input's entry stands for; None for an outer input that was not given."""
    if "uri" in entry:
        return Location(uri=entry["uri"], kind=kind_of(entry))
    text = str(entry.get("value", ""))
    outer = PARENT_INPUT.fullmatch(text)
    if outer:
        return level.inputs.get(outer[1])
    result = NODE_OUTPUT.fullmatch(text)
    if result:
        return result_of(level.nodes, level.prefix, result[1], result[2], component)
    return Value(text=substituted(level, text))


def result_of(nodes: Mapping[str, Body], prefix: str, name: str, output: str, component: Lookup) -> Result:
    """The step whose output stands behind a node's output, however deep that step is."""
    node = nodes.get(name)
    if node is None:
        raise refused(f"an input is to come from node {prefix}{name}, and there is none")
    spec = component(node["componentId"])
    if output not in (spec.get("outputs") or {}):
        raise refused(f"node {prefix}{name} has no output {output!r}")
    if node.get("type") != "pipeline":
        return Result(step=f"{prefix}{name}", output=output)
    found = lifter(spec.get("jobs") or {}, output)
    if found is None:
        raise refused(f"no node in {prefix}{name} writes its output {output!r}")
    return result_of(spec["jobs"], f"{prefix}{name}/", *found, component)


def lifted(level: Level, output: str, component: Lookup) -> Result | None:
    """The step's output that a level's own output is."""
    found = lifter(level.nodes, output)
    return result_of(level.nodes, level.prefix, *found, component) if found else None


def lifter(nodes: Mapping[str, Body], output: str) -> tuple[str, str] | None:
    """Node and output that were lifted to be a level's output."""
    for name, node in nodes.items():
        for own, entry in (node.get("outputs") or {}).items():
            outer = PARENT_OUTPUT.fullmatch(str(entry.get("value", "")))
            if outer and outer[1] == output:
                return name, own
    return None


def targets(level: Level, node: Body, spec: Body) -> dict[str, Target]:
    """Where a node's outputs go."""
    said = node.get("outputs") or {}
    found = {}
    for key, declared in (spec.get("outputs") or {}).items():
        entry = said.get(key) or {}
        outer = PARENT_OUTPUT.fullmatch(str(entry.get("value", "")))
        kind = kind_of(entry) or declared.get("type", "uri_folder")
        if outer:
            wanted = level.outputs.get(outer[1])
            found[key] = Target(uri=wanted.uri if wanted else "", kind=kind, lifted=True)
        else:
            found[key] = Target(uri=substituted(level, entry.get("uri") or ""), kind=kind)
    return found


def given(inputs: Mapping[str, Body | None] | None) -> dict[str, Source]:
    """The inputs of a job itself."""
    found: dict[str, Source] = {}
    for name, entry in (inputs or {}).items():
        if entry is None:
            continue
        uri = entry.get("uri")
        found[name] = Location(uri=uri, kind=kind_of(entry)) if uri else Value(text=str(entry.get("value", "")))
    return found


def outputs_of(job: Body) -> dict[str, Body]:
    return {name: entry or {} for name, entry in (job.get("outputs") or {}).items()}


def target_of(entry: Body, *, lifted: bool = False) -> Target:
    return Target(uri=entry.get("uri") or "", kind=kind_of(entry) or "uri_folder", lifted=lifted)


def kind_of(entry: Body) -> str:
    """`uri_folder` and its kin; the wire has two spellings of the field."""
    for key in ("job_input_type", "jobInputType", "job_output_type", "jobOutputType"):
        if key in entry:
            return str(entry[key])
    return ""


def substituted(level: Level, text: str) -> str:
    """A text with the values of a level's inputs in it."""

    def value(match: re.Match[str]) -> str:
        source = level.inputs.get(match[1])
        if not isinstance(source, Value):
            raise refused(f"{level.prefix or 'the pipeline'}: {match[0]} stands for no value")
        return source.text

    return PARENT_INPUT.sub(value, text)


def in_order(steps: list[JobStep]) -> tuple[JobStep, ...]:
    """The steps, each after those it reads from; raises WorkspaceError if they wait for one another."""
    waiting = {step.path: step for step in steps}
    done: dict[str, JobStep] = {}
    while waiting:
        ready = [step for step in waiting.values() if step.after <= done.keys()]
        if not ready:
            raise refused(f"these nodes wait for one another: {', '.join(sorted(waiting))}")
        for step in ready:
            done[step.path] = waiting.pop(step.path)
    return tuple(done.values())


def name_of(reference: str) -> str:
    """The name at the end of `azureml:name` or of a resource id; a reference to an input stays as it is."""
    if "${{" in reference:
        return reference[reference.index("${{") :]
    return reference.removeprefix("azureml:").rstrip("/").rpartition("/")[2]


def is_true(value: Any) -> bool:
    return str(value).lower() == "true"
