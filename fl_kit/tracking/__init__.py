"""A run mirrored to MLflow: `mirror` while it goes on, `push` later from its folder.

    run = job.run(federation, on=InProcess(), track="sqlite:///mlflow.db")   # run.tracker mirrors it
    push("runs/20261124-071502-heart-3f9a1c", "https://mlflow.example.org")  # what is not there yet

A mirror is a thread of its own that reads the run's events and never sits in its rounds: a slow or dead
server costs the run nothing, and what did not arrive can be pushed later. What is sent: the job's settings,
the figures of each round, job.json, plan.json, the task's source and the final model. What is not sent: rows
of any silo, `federation.yaml` and `environment.json` (they hold paths and machines), texts of failures.

MLflow's own usage statistics are as you set them: MLFLOW_DISABLE_TELEMETRY=true turns them off.
"""

from fl_kit.tracking.tracker import Tracker as Tracker
from fl_kit.tracking.tracker import mirror as mirror
from fl_kit.tracking.tracker import push as push

__all__ = ["Tracker", "mirror", "push"]
