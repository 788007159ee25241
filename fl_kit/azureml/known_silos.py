"""What a workspace knows of silos: whether their computes and datastores are there and ready."""

from dataclasses import replace
from typing import Any

from fl_kit.azureml.facts import Facts
from fl_kit.azureml.places import compute_findings, datastore_findings
from fl_kit.silo import Federation
from fl_kit.silo_facts import SiloFacts, from_tags


def silo_facts(federation: Federation, client: Any) -> dict[str, SiloFacts]:
    """Which silos can take part now, for `SiloPicker(federation, facts=…)`.

    client  an `azure.ai.ml.MLClient`; it is asked for computes and datastores, and nothing is changed

    Rows and prices are what the silos' tags say: nobody here may read their data. Raises FederationError if the
    workspace does not answer.

    >>> picker = SiloPicker(federation, facts=silo_facts(federation, client))  # doctest: +SKIP
    """
    facts = Facts.of(client, federation)
    reasons: dict[str, str] = {}
    for finding in (*compute_findings(federation, facts), *datastore_findings(federation, facts)):
        if finding.level == "error":
            reasons.setdefault(finding.party, finding.what)
    return {
        name: replace(known, reason=reasons.get(name, ""), status=known.status or "ready")
        for name, known in from_tags(federation).items()
    }
