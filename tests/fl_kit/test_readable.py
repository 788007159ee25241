"""Settings as a person would have written them."""

from types import SimpleNamespace

from fl_kit import FedProx, Krum, Orchestrator, Silo, Target
from fl_kit.azureml import AzureML
from fl_kit.readable import as_code, brief, call, listed
from sim import Dirichlet, InProcess


def test_only_what_was_changed_is_told() -> None:
    assert as_code(FedProx()) == "FedProx()"
    assert as_code(FedProx(mu=1.0, momentum=0.9)) == "FedProx(momentum=0.9, mu=1.0)"
    assert as_code(Target(metric="auc", value=0.9)) == "Target(metric='auc', value=0.9)"
    assert brief(Krum(bad=2)) == "Krum(bad=2)"
    assert brief((1, "a")) == "(1, 'a')"


def test_a_long_schedule_is_told_by_its_ends() -> None:
    assert as_code(FedProx(lr=(0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01))) == "FedProx(lr=(0.5, …, 0.01: 7 values))"
    assert listed("abcdefgh") == "a, b, c, d, e, f and 2 more"
    assert listed("abc") == "a, b, c"


def test_a_call_that_is_long_has_a_setting_a_line() -> None:
    assert call("Silo", {"name": "'ash'"}) == "Silo(name='ash')"
    assert (
        call("Silo", {"name": "'ash'", "data": repr("x" * 120)})
        == f"Silo(\n    name='ash',\n    data='{'x' * 120}',\n)"
    )


def test_a_silo_shows_what_is_set_and_no_variable_s_value() -> None:
    silo = Silo(name="ash", data="data/ash", compute="ash-cpu", tags={"ward": "A"}, variables={"TOKEN": "geheim"})
    assert repr(silo) == "Silo(name='ash', data='data/ash', compute='ash-cpu', variables=TOKEN, tags={'ward': 'A'})"
    assert silo.table().text() == (
        "Silo ash\ndata       data/ash\ncompute    ash-cpu\nvariables  TOKEN\ntags       ward: A"
    )
    assert repr(Orchestrator()) == "Orchestrator()"
    assert Orchestrator()._repr_html_() == '<div style="margin-bottom:10px"><div><b>Orchestrator</b></div></div>'
    assert repr((silo,)).startswith("(Silo(name='ash'")


def test_backends_and_partitions_are_code_too() -> None:
    assert repr(InProcess(folder=None)) == "InProcess(folder=None)"
    assert repr(Dirichlet(alpha=0.1)).startswith("Dirichlet(alpha=0.1")
    client = SimpleNamespace(workspace_name="ward", credential=object())
    assert repr(AzureML(client, rounds_per_pipeline=5)) == "AzureML(workspace='ward', rounds_per_pipeline=5)"
