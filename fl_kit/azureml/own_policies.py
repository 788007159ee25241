"""What can be seen of silos' own policies before a job is sent: little, since they lie with the data.

A silo whose data is a plain path, as of a volume that is mounted here too, shows its policy; any other silo's shows
when its first step asks it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fl_kit.approvals import Approval
from fl_kit.azureml.findings import Finding, fault
from fl_kit.bundle import bundle_digest
from fl_kit.errors import PolicyError
from fl_kit.job import Job
from fl_kit.plan import Plan
from fl_kit.policy import FILE, VARIABLE, Offer, Policy
from fl_kit.silo import Federation, Silo


def chosen_by_the_sender(federation: Federation) -> Iterator[Finding]:
    """Silos for which the federation would say where their policy is."""
    for silo in federation.silos:
        if VARIABLE in silo.variables:
            what = f"its variables set {VARIABLE}: a silo's policy is its owner's, and never the sender's"
            yield fault(silo.name, what, "leave it out of `variables`; the owner sets it on the silo's own machine")


def refusals(job: Job, plan: Plan, federation: Federation, approvals: Sequence[Approval]) -> Iterator[Finding]:
    """Silos whose policy can be seen from here, and refuses the job."""
    seen = [silo for silo in federation.silos if visible(silo)]
    if not seen:
        return
    offer = Offer(digest=bundle_digest(job, plan), approvals=approvals, job=job.to_dict(), plan=plan)
    for silo in seen:
        try:
            against = Policy.load(Path(silo.data) / FILE).objections(silo.name, offer)
        except PolicyError as error:
            against = [str(error)]
        if against:
            what = f"its policy refuses bundle {offer.digest}: {'. And '.join(against)}"
            yield fault(silo.name, what, "have its approvers sign with `fl-kit approve`, and pass `approvals`")


def visible(silo: Silo) -> bool:
    """Whether a silo's policy lies where this machine sees it."""
    return bool(silo.data) and "://" not in silo.data and (Path(silo.data) / FILE).is_file()
