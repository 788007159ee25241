"""Every call of MLflow's interface that is served: its method and path, and the function that answers it."""

from sim.azureml.mlflow import experiment_calls, model_calls, run_calls
from sim.azureml.mlflow.book import Call

CALLS: dict[tuple[str, str], Call] = {
    ("POST", "experiments/create"): experiment_calls.create_experiment,
    ("GET", "experiments/get"): experiment_calls.get_experiment,
    ("GET", "experiments/get-by-name"): experiment_calls.get_experiment_by_name,
    ("POST", "experiments/search"): experiment_calls.search_experiments,
    ("GET", "experiments/search"): experiment_calls.search_experiments,
    ("POST", "experiments/update"): experiment_calls.change_experiment(),
    ("POST", "experiments/delete"): experiment_calls.change_experiment("deleted"),
    ("POST", "experiments/restore"): experiment_calls.change_experiment("active"),
    ("POST", "experiments/set-experiment-tag"): experiment_calls.tag_experiment,
    ("POST", "runs/create"): run_calls.create_run,
    ("GET", "runs/get"): run_calls.get_run,
    ("POST", "runs/update"): run_calls.update_run,
    ("POST", "runs/delete"): run_calls.move_run("deleted"),
    ("POST", "runs/restore"): run_calls.move_run("active"),
    ("POST", "runs/search"): run_calls.search_runs,
    ("POST", "runs/log-metric"): run_calls.log_metric,
    ("POST", "runs/log-parameter"): run_calls.log_parameter,
    ("POST", "runs/log-batch"): run_calls.log_batch,
    ("POST", "runs/set-tag"): run_calls.set_tag,
    ("POST", "runs/delete-tag"): run_calls.delete_tag,
    ("POST", "runs/log-inputs"): run_calls.log_inputs,
    ("POST", "runs/outputs"): run_calls.log_outputs,
    ("GET", "metrics/get-history"): run_calls.metric_history,
    ("GET", "metrics/get-history-bulk"): run_calls.metric_history_of_runs,
    ("POST", "logged-models"): model_calls.create_model,
    ("POST", "logged-models/search"): model_calls.search_models,
    ("GET", "logged-models/{model_id}"): model_calls.get_model,
    ("PATCH", "logged-models/{model_id}"): model_calls.finish_model,
    ("DELETE", "logged-models/{model_id}"): model_calls.delete_model,
    ("PATCH", "logged-models/{model_id}/tags"): model_calls.tag_model,
    ("DELETE", "logged-models/{model_id}/tags/{tag_key:path}"): model_calls.untag_model,
    ("POST", "logged-models/{model_id}/params"): model_calls.add_model_params,
}
"""What is served, by method and path behind `…/api/2.0/mlflow/`."""
