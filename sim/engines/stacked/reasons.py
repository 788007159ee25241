"""Why silos cannot be computed as one tensor program."""

from fl_kit.job import Job
from fl_kit.optimizers import is_plain
from fl_kit.policy import policy_files
from fl_kit.silo import Federation
from fl_kit.strategies.local_training import LocalTraining

ELEMENTWISE = (
    "SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Rprop",
)  # fmt: skip
"""torch's optimisers that treat each number for itself: a silo's parameters move as they would alone."""


class Unstackable(Exception):
    """These silos cannot be computed together, in words that follow "since".

    everywhere  whether that is so for every silo and round of the job, and not for some silos' rows or requests
    """

    def __init__(self, why: str, *, everywhere: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.everywhere = everywhere


def job_refusal(job: Job, federation: Federation) -> str:
    """Why no silo of a job can be stacked, as far as it shows before anything runs; empty for nothing."""
    strategy = job.strategy
    if job.task.fit is not None:
        return "the task trains by its own fit()"
    if job.deadline is not None:
        return "the job has a deadline, which is held silo by silo"
    if any(policy_files(silo.data) for silo in federation.silos):
        return "silos have policies of their own, which are asked step by step"
    changed_loss = isinstance(strategy, LocalTraining) and type(strategy).loss_term is not LocalTraining.loss_term
    if changed_loss and getattr(strategy, "mu", True):
        return f"{type(strategy).__name__} adds a term of its own to the loss"
    return settings_refusal(strategy) if isinstance(strategy, LocalTraining) else ""


def settings_refusal(settings: object) -> str:
    """Why silos that train with these settings cannot be stacked; empty for nothing."""
    name = getattr(settings, "optimizer", "SGD")
    if is_plain(settings):  # type: ignore[arg-type]  # a strategy's settings, which local training has read
        return ""
    if name not in ELEMENTWISE:
        return f"optimizer={name!r} does not treat each number for itself"
    if getattr(settings, "optimizer_state", "reset") == "kept":
        return "optimizer_state='kept' has each silo go on with its own count of steps"
    return ""


def in_brief(error: BaseException) -> str:
    """The first line of what an error says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:160]}"
