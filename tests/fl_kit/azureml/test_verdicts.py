"""What run history says of a failed step, read as the service writes it; and whether another try may mend it."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from fl_kit import FedAvg, Federation, Job, Silo
from fl_kit.azureml.blame import Losses, error_of, failure_of
from fl_kit.azureml.verdicts import NO_WORD, Verdict, verdict
from fl_kit.door import failed
from fl_kit.errors import FlKitError, QuorumLost, StepFailed
from fl_kit.plan import Step
from tests.sim.small import LOGISTIC

STEPS = Job(task=LOGISTIC, strategy=FedAvg(), rounds=1).plan(
    Federation(silos=tuple(Silo(name=name, data=name) for name in ("a", "b")))
)
FIT, OTHER = STEPS.by_id["round_001/a/fit"], STEPS.by_id["round_001/b/fit"]
AGGREGATE = STEPS.by_id["round_001/orchestrator/aggregate"]
ENDED = datetime(2026, 1, 2, tzinfo=UTC)


def error(code: str, message: str = "", inner: Any = None) -> Any:
    return SimpleNamespace(code=code, message=message, inner_error=inner)


class Recorded:
    """A workspace that knows one step."""

    def __init__(self, error: Any, log: str = "") -> None:
        self.record = SimpleNamespace(error=SimpleNamespace(error=error) if error else None, end_time_utc=ENDED)
        self.text = log

    def details(self, name: str) -> Any:
        return self.record

    def log_of(self, name: str, details: Any) -> str:
        if self.text == "gone":
            raise FlKitError("the log of x cannot be read: gone")
        return self.text


def said(error: Any, log: str = "") -> Verdict:
    return verdict(Recorded(error, log), "run", FIT)  # type: ignore[arg-type]


def test_the_innermost_code_is_the_kind_and_the_services_words_the_message():
    inner = error("BadArgument", inner=error("ImageBuildFailure"))
    found = said(error("UserError", "The image cannot be built.", inner))
    assert (found.kind, found.message, found.detail) == ("ImageBuildFailure", "The image cannot be built.", "")
    assert found.time == ENDED.timestamp()


EXECUTION = "Execution failed. User process 'python' exited with status code {}. Please check log file 'std_log.txt'"


@pytest.mark.parametrize(("code", "lost"), [(1, False), (2, False), (127, False), (137, True), (143, True), (-9, True)])
def test_a_step_that_gave_an_exit_code_failed_by_itself_and_one_that_was_killed_did_not(code, lost):
    found = said(error("UserError", f"{EXECUTION.format(code)} for details. Error: Traceback …"), "one\nValueError: no")
    assert found.lost is lost
    words = f"Execution failed. User process 'python' exited with status code {code}. Its log ends with: ValueError: no"
    ended = {137: "its process was ended by signal 9: ", 143: "its process was ended by signal 15: "}
    ended[-9] = ended[137]
    assert (found.kind, found.message) == ("StepFailed" if lost else "UserError", ended.get(code, "") + words)
    assert found.detail == "one\nValueError: no"


def test_a_step_whose_time_ran_out_exceeded_its_deadline_as_in_every_backend():
    found = said(error("UserError", "The step took longer than its limit.", error("JobTimeout")))
    words = "it did not end within its time limit: The step took longer than its limit."
    assert (found.kind, found.message, found.lost) == ("DeadlineExceeded", words, True)


def test_a_failure_without_a_word_and_a_log_that_is_gone_are_told_as_they_are():
    found = said(None, "gone")
    assert (found.kind, found.message, found.detail) == ("StepFailed", NO_WORD, "the log of x cannot be read: gone")
    assert found.lost


def on(step: Step, *, lost: bool, kind: str = "NodeLost") -> Verdict:
    return Verdict(step=step, kind=kind, message="gone", detail="", time=1.0, lost=lost)


def losses(*tries: list[Verdict], **settings: Any) -> Losses:
    found = Losses(Job(task=LOGISTIC, strategy=FedAvg(), rounds=1, **settings))
    for verdicts in tries:
        found.count(verdicts)
    return found


LOST, BY_ITSELF = [on(FIT, lost=True)], [on(FIT, lost=False)]


def test_a_lost_step_is_tried_again_as_often_as_the_job_says():
    assert losses(LOST, retries=0).try_again(LOST, []) == []
    assert losses(LOST, retries=2).try_again(LOST, []) == LOST
    assert losses(LOST, LOST, retries=2).try_again(LOST, []) == LOST
    assert losses(LOST, LOST, LOST, retries=2).try_again(LOST, []) == []


def test_each_step_has_its_own_tries():
    other = [on(OTHER, lost=True)]
    assert losses(LOST, other, retries=1).try_again(other, []) == other
    both = [*LOST, *other]
    assert losses(LOST, both, retries=1).try_again(both, []) == []


def test_where_a_step_failed_by_itself_another_try_is_of_no_use():
    failed_too = [*LOST, on(OTHER, lost=False)]
    assert losses(failed_too, retries=3).try_again(failed_too, []) == []
    assert losses(BY_ITSELF, retries=3).try_again(BY_ITSELF, []) == []


def test_with_a_quorum_only_the_orchestrators_own_fault_is_final():
    verdicts = [*LOST, on(OTHER, lost=False), on(AGGREGATE, lost=False)]
    asked = losses(verdicts, retries=1, min_silos=1)
    lacking, broken = (
        failed(StepFailed("no", op="aggregate", silo="orchestrator", round=1, kind=kind))
        for kind in ("QuorumLost", "ValueError")
    )
    assert asked.try_again(verdicts, [lacking]) == LOST
    assert asked.try_again(verdicts, [broken]) == []
    assert asked.try_again(verdicts, []) == []


def test_a_round_whose_update_was_refused_is_tried_again_as_often_as_a_lost_one():
    verdicts = [on(AGGREGATE, lost=False)]
    refused = failed(StepFailed("damaged", op="aggregate", silo="orchestrator", round=1, kind="MessageError"))
    for retries, expected in ((0, []), (1, verdicts)):
        asked = losses([], retries=retries)
        asked.count(verdicts, [refused])
        assert asked.try_again(verdicts, [refused]) == expected
    asked.count(verdicts, [refused])
    assert asked.try_again(verdicts, [refused]) == []


def test_a_failure_that_a_second_attempt_mended_is_not_blamed():
    mended = failed(StepFailed("mended", op="fit", silo="b", round=1))
    final = on(FIT, lost=True).event()
    assert failure_of([mended, final], LOST) == final
    assert failure_of([mended], LOST) == mended


def test_the_error_says_what_the_user_can_do_if_the_step_was_lost():
    event = LOST[0].event()
    assert "Job(retries=1)" in losses(LOST).cure(event, LOST, "r-1", 1)
    assert "lost 2 times; `AzureML(client).resume('r-1')`" in losses(LOST, LOST, retries=1).cure(event, LOST, "r-1", 1)
    assert losses(BY_ITSELF).cure(event, BY_ITSELF, "r-1", 1) == ""
    assert isinstance(error_of(None, FIT), StepFailed)
    lacking = failed(StepFailed("0 of 2", op="aggregate", silo="orchestrator", round=1, kind="QuorumLost"))
    assert isinstance(error_of(lacking, AGGREGATE), QuorumLost)
