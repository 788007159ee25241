"""A step of the plan as AzureML's command: what it runs, reads, writes, and where. Plain data, as its YAML has it."""

from dataclasses import dataclass
from typing import Any

from fl_kit.azureml.environment import environment_name
from fl_kit.azureml.locality import locate
from fl_kit.azureml.phases import Phase
from fl_kit.bundle import PACKED
from fl_kit.job import Job
from fl_kit.party_forms import check_identity
from fl_kit.plan import ORCHESTRATOR, Step
from fl_kit.silo import Federation, Party, Silo

FOLDER = {"type": "uri_folder"}
TEXT = {"type": "string"}
BUNDLE = "bundle"
"""The bundle's folder in the code of a step; beside it, AzureML writes what is its own."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What all steps of a run have in common.

    code      the folder that travels: it holds the bundle
    digest    of the bundle; each step refuses any other
    limit     seconds after which AzureML ends a silo's step, or None
    threads   of torch, in each step
    approvals  the name of the file of approvals beside the bundle, or empty. It says what the file holds: what is
               registered in the workspace under an equal name is never looked at again
    origins   the runs that this one branched off, the nearest first: their silos' memories are its own, too
    """

    job: Job
    federation: Federation
    code: str
    digest: str
    limit: int | None
    threads: int
    approvals: str = ""
    origins: tuple[str, ...] = ()

    @property
    def quorum(self) -> bool:
        """Whether a round may do without some silos."""
        return self.job.min_silos is not None

    @property
    def memory_may_lack(self) -> bool:
        """Whether a silo may have kept nothing in this run for a round of which the plan says that it did."""
        drawn = self.job.fraction is not None or self.job.per_round is not None
        early = drawn and self.job.stop is not None  # stopped before the silo's first round
        return self.quorum or early or bool(self.origins)

    def party(self, name: str) -> Party:
        """The silo of that name, or the orchestrator."""
        return self.federation.orchestrator if name == ORCHESTRATOR else self.federation[name]


def node(phase: Phase, step: Step, terms: Terms) -> dict[str, Any]:
    """The step as a node of its phase's component."""
    party = terms.party(step.party)
    found: dict[str, Any] = {
        "type": "command",
        "component": component(phase, step, terms),
        "compute": f"azureml:{party.compute}",
        "inputs": {"round": "${{parent.inputs.round}}", "party": step.party, **bindings(phase, step, terms)},
        "outputs": {name: f"${{{{parent.outputs.{phase.outputs[step.id, name]}}}}}" for name in step.outputs},
    }
    found |= {"resources": resources} if (resources := resources_of(party)) else {}
    found |= {"identity": identity} if (identity := identity_of(party.identity)) else {}
    found |= {"environment_variables": dict(party.variables)} if party.variables else {}
    if isinstance(party, Silo):
        if terms.limit:
            found["limits"] = {"timeout": terms.limit}
        if party.instance_count * party.processes > 1 and step.op == "fit":
            found["distribution"] = {"type": "pytorch", "process_count_per_instance": party.processes}
    return found


def component(phase: Phase, step: Step, terms: Terms) -> dict[str, Any]:
    """The command that runs a step. It never gives an old result again: not deterministic."""
    return {
        "type": "command",
        "is_deterministic": False,
        "inputs": {"round": TEXT, "party": TEXT, **declarations(phase, step, terms)},
        "outputs": dict.fromkeys(step.outputs, FOLDER),
        "code": terms.code,
        "environment": f"azureml:{environment_name(terms.party(step.party), terms.job.task)}",
        "command": command(phase, step, terms),
    }


def command(phase: Phase, step: Step, terms: Terms) -> str:
    """The very command that runs on a laptop, with AzureML's placeholders for round and folders."""
    words = [
        f"cd {BUNDLE} && PYTHONPATH=$PWD/{PACKED}:$PYTHONPATH PYTHONDONTWRITEBYTECODE=1",
        f"python -m fl_kit.step --bundle . --digest {terms.digest}",
        f"--step ${{{{inputs.round}}}}/${{{{inputs.party}}}}/{step.op}",
        f"--threads {terms.threads} --retry --report",
        *([f"--approvals ../{terms.approvals}"] if terms.approvals and step.party != ORCHESTRATOR else []),
    ]
    for name in step.inputs:
        ident = input_name(phase, name)
        if name == "data":
            words.append('--data "${{inputs.data}}"')
        elif name == "memory":
            runs = ("${{inputs.run}}", *terms.origins) if terms.memory_may_lack else ()
            below = [f"/fl/{run}/${{{{inputs.party}}}}/memory" for run in runs]
            words += [f'--memories "${{{{inputs.memories}}}}{path}"' for path in below or [""]]
        else:
            word = f'--input "{name}=${{{{inputs.{ident}}}}}"'
            words.append(f"$[[{word}]]" if may_lack(name, terms) else word)
    words += [f'--output "{name}=${{{{outputs.{name}}}}}"' for name in step.outputs]
    return " ".join(words)


def declarations(phase: Phase, step: Step, terms: Terms) -> dict[str, Any]:
    """The inputs of a step's command, and their types."""
    found: dict[str, Any] = {}
    for name in step.inputs:
        kind = data_type(terms.federation[step.party].data) if name == "data" else FOLDER
        found[input_name(phase, name)] = {**kind, "optional": True} if may_lack(name, terms) else kind
    if "memory" in step.inputs and terms.memory_may_lack:
        found["run"] = TEXT
    return found


def bindings(phase: Phase, step: Step, terms: Terms) -> dict[str, str]:
    """The inputs of a step's command → where they come from, inside its phase."""
    found: dict[str, str] = {}
    for name, source in step.inputs.items():
        producer, _, output = source.partition(":")
        if producer in phase.nodes:
            found[input_name(phase, name)] = f"${{{{parent.jobs.{phase.nodes[producer]}.outputs.{output}}}}}"
        else:
            found[input_name(phase, name)] = f"${{{{parent.inputs.{from_outside(phase, step, name)}}}}}"
    if "memory" in step.inputs and terms.memory_may_lack:
        found["run"] = "${{parent.inputs.run}}"
    return found


def from_outside(phase: Phase, step: Step, name: str) -> str:
    """The phase's input for what a step reads that is not made in the phase itself."""
    ident = phase.idents.get(step.party, "")
    return {"data": f"{ident}_data", "memory": f"{ident}_memories"}.get(name) or phase.sources[step.inputs[name]]


def input_name(phase: Phase, name: str) -> str:
    """AzureML's name for a step's input: `update_cleveland` for `update/cleveland`."""
    if name.startswith("update/"):
        return f"update_{phase.idents[name.removeprefix('update/')]}"
    return "memories" if name == "memory" else name


def may_lack(name: str, terms: Terms) -> bool:
    return terms.quorum and name.startswith("update/")


def data_type(data: str) -> dict[str, str]:
    """A folder that AzureML brings to the step, or the plain path of a volume that is mounted there."""
    return FOLDER if locate(data).kind in ("datastore", "asset", "storage") else TEXT


def data_value(data: str) -> Any:
    """A silo's data as the value of an input."""
    if data_type(data) is TEXT:
        return data
    short = locate(data).kind == "asset" and not data.lower().startswith("azureml:")
    return {**FOLDER, "path": f"azureml:{data}" if short else data}


def resources_of(party: Party) -> dict[str, Any]:
    count = party.instance_count if isinstance(party, Silo) else 1
    if not party.instance_type and count == 1:
        return {}
    return {"instance_count": count} | ({"instance_type": party.instance_type} if party.instance_type else {})


def identity_of(text: str) -> dict[str, str]:
    """An identity as AzureML's YAML writes it; nothing for none."""
    check_identity(text)
    kind, _, client_id = text.partition(":")
    if not kind:
        return {}
    return (
        {"type": "user_identity"}
        if kind == "user"
        else {"type": kind} | ({"client_id": client_id} if client_id else {})
    )
