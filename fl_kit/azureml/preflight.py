"""`check`: everything that would go wrong on AzureML and can be seen before anything is submitted, at once."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from fl_kit.approvals import brought
from fl_kit.azureml.environment import image_of, is_registered, lacking, packages_of, unpinned
from fl_kit.azureml.facts import Facts
from fl_kit.azureml.findings import Check, Finding, doubt, fault, plural, together
from fl_kit.azureml.locality import Breach, breaches, locate
from fl_kit.azureml.own_policies import chosen_by_the_sender, refusals, visible
from fl_kit.azureml.places import (
    compute_findings,
    datastore_findings,
    environment_findings,
    missing_places,
    mount_findings,
    parties,
    same_things,
    shared_places,
)
from fl_kit.bundle import contents
from fl_kit.errors import FederationError, FlKitError
from fl_kit.job import Job
from fl_kit.party_forms import check_identity
from fl_kit.plan import ORCHESTRATOR, Plan
from fl_kit.reporting import NAMES, crowded, metric_names
from fl_kit.silo import Federation, Party
from fl_kit.task import OWN_METRICS

P = TypeVar("P", bound=Party)

# Microsoft's limits: learn.microsoft.com/azure/machine-learning/resource-limits-capacity,
# …/how-to-manage-quotas and …/how-to-save-write-experiment-files.
STEPS = 30_000
INPUTS = 200
OUTPUTS = 20
BUNDLE_FILES = 2_000
BUNDLE_BYTES = 300 << 20


def check(
    job: Job,
    federation: Federation,
    client: Any,
    *,
    rounds_per_pipeline: int | None = None,
    approvals: str | Path | None = None,
) -> Check:
    """Whether a job can run for a federation in a workspace: every finding at once, with its cure.

        found = check(job, federation, client)
        found                # a table
        found.require()      # raises FederationError if there is an error

    client               an `azure.ai.ml.MLClient`
    rounds_per_pipeline  as AzureML is told; None for all rounds in one pipeline
    approvals            as AzureML is told: for the silos whose own policy can be seen from here

    It asks the workspace about its computes and datastores, and about the data assets and environments that the
    federation names; nothing is changed there. What only shows when a step runs is not found: role assignments,
    quotas, networks, what is in an image, and a silo's own policy unless its data is a path on this machine too. A
    workspace that does not answer is a finding as well.

    >>> check(job, federation, client).require()  # doctest: +SKIP
    """
    facts, found = facts_of(client, federation)
    found += [*missing_places(federation), *shared_places(federation), *chosen_by_the_sender(federation)]
    found += [*spelling(job, federation), *shared_work(job, federation)]
    if facts:
        found += workspace_findings(federation, facts)
    try:
        plan = job.plan(federation)
    except FlKitError as error:
        found.append(fault("job", f"it has no plan for this federation: {error}", "mend the job"))
    else:
        found += plan_findings(job, plan, federation, facts, rounds_per_pipeline)
        found += refusals(job, plan, federation, brought(approvals, None))
    found.sort(key=lambda each: each.level)  # error stands before warning
    return Check(findings=together(found), looked_at=looked_at(job, federation, facts))


def facts_of(client: Any, federation: Federation) -> tuple[Facts | None, list[Finding]]:
    try:
        return Facts.of(client, federation), []
    except FederationError as error:
        return None, [fault("workspace", str(error), "nothing that only the workspace knows was checked")]


def workspace_findings(federation: Federation, facts: Facts) -> Iterable[Finding]:
    checks = (same_things, compute_findings, datastore_findings, mount_findings, environment_findings)
    return chain.from_iterable(each(federation, facts) for each in checks)


def plan_findings(
    job: Job, plan: Plan, federation: Federation, facts: Facts | None, rounds_per_pipeline: int | None
) -> Iterator[Finding]:
    yield from breach_findings(plan, federation, facts)
    yield from size_findings(plan, rounds_per_pipeline)
    yield from metric_findings(job, federation)
    yield from bundle_findings(job, plan)


def breach_findings(plan: Plan, federation: Federation, facts: Facts | None) -> Iterator[Finding]:
    """Who would read or write where he must not. That a party has no datastore, or one that is not there, was said."""
    absent = {name for name, party in parties(federation).items() if not party.datastore}
    if facts:
        absent |= {
            name for name, party in parties(federation).items() if party.datastore.lower() not in facts.datastores
        }
    for breach in breaches(plan, with_datastores(federation, absent), facts.locate if facts else locate):
        if not (breach.doubtful and breach.party in absent):
            yield of_breach(breach)


def with_datastores(federation: Federation, absent: Collection[str]) -> Federation:
    """The federation with a datastore for each of these parties, by a name that no datastore can have."""

    def given(party: P, name: str) -> P:
        return replace(party, datastore=f"of {name}") if name in absent else party

    return Federation(
        silos=tuple(given(silo, silo.name) for silo in federation.silos),
        orchestrator=given(federation.orchestrator, ORCHESTRATOR),
    )


def of_breach(breach: Breach) -> Finding:
    return (doubt if breach.doubtful else fault)(breach.party, breach.what, breach.cure)


def spelling(job: Job, federation: Federation) -> Iterator[Finding]:
    """Identities, environments and packages, which need no workspace to be wrong."""
    for name, party in parties(federation).items():
        try:
            check_identity(party.identity)
        except FederationError as error:
            yield fault(name, str(error), "mend its `identity`")
        if is_registered(party):
            if party.packages:
                what = f"its packages are not installed into {party.environment!r}, which is taken as it is"
                yield doubt(name, what, "register an environment that has them, and leave `packages` out")
            continue
        try:
            image_of(party)
            packages_of(party, job.task)
        except FederationError as error:
            yield fault(name, str(error), "mend its `environment` or `packages`")
            continue
        for line in unpinned(party):
            yield doubt(name, f"the package {line!r} has no exact version", "pin it with ==, or with --hash")
        for wanted in lacking(party, job.task):
            what = f"{job.task.name}.py, line {wanted.line} imports {wanted.name!r}, which its environment lacks"
            cure = "put the code into the task's own file, or name the package that has it in `packages`"
            yield fault(name, what, cure)


def shared_work(job: Job, federation: Federation) -> Iterator[Finding]:
    """Several processes for a step, which only a task's own fit can make use of."""
    for silo in federation.silos:
        if silo.instance_count * silo.processes > 1 and job.task.fit is None:
            what = f"{silo.instance_count} × {silo.processes} processes train, and each would do the same work"
            cure = (
                f"define fit() in {job.task.name}.py, which shares the work with torch.distributed; or leave them out"
            )
            yield doubt(silo.name, what, cure)


def size_findings(plan: Plan, rounds_per_pipeline: int | None) -> Iterator[Finding]:
    """What is too large for one pipeline or one step."""
    rounds = Counter(step.round for step in plan.steps)
    most = sum(sorted(rounds.values(), reverse=True)[: rounds_per_pipeline or len(rounds)])
    if most > STEPS:
        fits = STEPS // max(rounds.values())
        cure = f"submit fewer rounds at a time: AzureML(client, rounds_per_pipeline={max(fits, 1)})"
        yield fault("job", f"{most:,} steps in one pipeline; AzureML takes {STEPS:,}", cure)
    for kind, limit, sizes in (
        ("inputs", INPUTS, [(len(step.inputs), step.id) for step in plan.steps]),
        ("outputs", OUTPUTS, [(len(step.outputs), step.id) for step in plan.steps]),
    ):
        size, step = max(sizes, key=lambda found: found[0], default=(0, ""))
        if size >= limit:
            what = f"{step} has {size:,} {kind}; AzureML takes fewer than {limit}"
            yield fault("job", what, "select fewer silos, or combine them in two levels")


def metric_findings(job: Job, federation: Federation) -> Iterator[Finding]:
    """The names of metrics on the pipeline's own run."""
    if len(OWN_METRICS) + len(job.task.metrics) >= NAMES:
        what = f"the task has {plural(len(job.task.metrics), 'metric')}; AzureML takes fewer than {NAMES} names"
        yield fault("job", what, "measure less")
    elif crowded(job, len(federation)):
        total = metric_names(job, len(federation))
        what = f"{total} names of metrics on the pipeline's run; AzureML takes {NAMES}"
        cure = "nothing to do: each silo's figures go to one child run of its own, named like the silo"
        yield doubt("job", what, cure)


def bundle_findings(job: Job, plan: Plan) -> Iterator[Finding]:
    """What travels to the silos."""
    sizes = [len(data) for _, data in contents(job, plan)]
    if len(sizes) > BUNDLE_FILES or sum(sizes) > BUNDLE_BYTES:
        what = f"the bundle has {len(sizes):,} files and {sum(sizes) >> 20:,} MiB"
        cure = f"AzureML takes {BUNDLE_FILES:,} files and {BUNDLE_BYTES >> 20} MiB: keep data out of the task's source"
        yield fault("job", what, cure)


def looked_at(job: Job, federation: Federation, facts: Facts | None) -> str:
    """What was checked, in a few words."""
    there = (
        f"{plural(len(facts.computes), 'compute')} and {plural(len(facts.datastores), 'datastore')} of "
        f"{facts.client.workspace_name!r}"
        if facts
        else "no workspace"
    )
    hidden = sum(not visible(silo) for silo in federation.silos)
    unseen = f"; the own policies of {plural(hidden, 'silo')} show only there" if hidden else ""
    return f"Looked at {there}, {plural(len(federation), 'silo')}, {job.task.name}.py and its plan{unseen}"
