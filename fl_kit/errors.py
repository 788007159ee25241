"""Every error that fl-kit raises on purpose, under one root.

    FlKitError
    ├── TaskError            the user's module breaks the task contract
    ├── FederationError      a silo, its folder or the federation file is wrong
    ├── DataError            sample data, partitions or rows are wrong
    ├── PlanError            a plan is inconsistent
    │   └── LocalityError    a party would read what it may not
    ├── IncompatibleError    two pieces of a job exclude one another
    ├── StepFailed           one step failed: op, silo, round and the cause
    ├── DeadlineExceeded     a silo's step took longer than the job's `deadline`
    ├── QuorumLost           fewer silos delivered than `min_silos`
    ├── MessageError         an update, state or memory is malformed
    ├── BundleError          what travels differs from its manifest
    ├── ApprovalError        a key, a signature or an approval cannot be made or read
    ├── PolicyError          a silo's own policy refuses a bundle, or cannot be read
    ├── AuditError           the audit log was changed, or cannot be read or written
    ├── StoreError           a run folder cannot be read or written
    │   ├── RunNotFound      no run of that id
    │   └── RunLocked        another kernel goes on with the run
    ├── TrackingError        the MLflow mirror cannot be brought up to date
    ├── RegressionError      a notebook, its bands or a recorded figure cannot serve as a regression test
    └── Stopped              the run was stopped on request; what is done stays usable

Catch `FlKitError` to catch them all.
"""

from fl_kit.secret_scan import masked


class FlKitError(Exception):
    """Root of fl-kit's errors.

    `detail` is the traceback of the user's own code, where that raised; a notebook shows it above the one
    clear line, and none of fl-kit's own frames.

    >>> try:
    ...     federation.select(["alpa"])
    ... except FlKitError as error:
    ...     print(error)
    there is no silo 'alpa'; did you mean 'alpha'?...
    """

    detail: str = ""

    def __str__(self) -> str:
        """The message, with `***` in place of what looks like a secret: it may quote a user's own error."""
        return masked(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in the cell."""
        return [*masked(self.detail).splitlines(), f"{type(self).__name__}: {self}"]


class TaskError(FlKitError):
    """The user's task module breaks the contract; says which part and how to mend it."""


class FederationError(FlKitError):
    """A silo, its folder or the federation file is wrong."""


class DataError(FlKitError):
    """Sample data cannot be read or split as asked."""


class PlanError(FlKitError):
    """A plan is inconsistent: an unknown party, input or output, or a wrong order."""


class LocalityError(PlanError):
    """A step would read another party's data or private output."""


class IncompatibleError(FlKitError):
    """Two pieces of a job exclude one another; names both and the cure."""


class StepFailed(FlKitError):
    """One step failed. `op`, `silo` and `round` say which; `kind` is the class of the error that it met.

    Where the step ran in this process, `__cause__` is that error itself.
    """

    def __init__(
        self, message: str, *, op: str, silo: str, round: int, kind: str = "StepFailed", detail: str = ""
    ) -> None:
        super().__init__(f"{silo}, round {round}, step {op!r}: {message}")
        self.op = op
        self.silo = silo
        self.round = round
        self.kind = kind
        self.message = message
        self.detail = detail


class DeadlineExceeded(FlKitError):
    """A silo's step took longer than the job's `deadline`."""


class QuorumLost(FlKitError):
    """Fewer silos delivered an update than the job's `min_silos`."""


class MessageError(FlKitError):
    """An update, state or memory is malformed: names, shapes, dtypes, values or size."""


class BundleError(FlKitError):
    """A file of the bundle is missing or differs from the manifest."""


class ApprovalError(FlKitError):
    """A key, a signature or an approval cannot be made or read."""


class PolicyError(FlKitError):
    """A silo's own policy refuses a bundle, or cannot be read; nothing ran on the silo's data."""


class AuditError(FlKitError):
    """The audit log was changed, or cannot be read or written."""


class StoreError(FlKitError):
    """A run folder cannot be read or written."""


class RunNotFound(StoreError):
    """There is no run of that id."""


class RunLocked(StoreError):
    """Another kernel goes on with the run; says which, and what to do."""


class TrackingError(FlKitError):
    """The MLflow mirror of a run cannot be brought up to date."""


class RegressionError(FlKitError):
    """A notebook, its bands or a recorded figure cannot serve as a regression test."""


class Stopped(FlKitError):
    """The run was stopped on request; completed rounds stay usable."""
