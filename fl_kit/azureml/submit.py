"""Hands a compiled pipeline to the SDK: environments and components are registered once, the job calls them.

Each thing that is registered is a request of its own, for AzureML takes no two in one. A job that the workspace has
never seen, of FedAvg with any number of silos in one environment and of rounds, takes 22:

    1  GET   component           is all of it there? The last one that is registered stands for the others
    1  GET   codes?hash=…        is this content there?
    1  POST  startPendingUpload  where shall it go?
    1  HEAD  blob                is the first file there?
    5  PUT   blobs               job.json, plan.json, the task, the manifest, and fl-kit's source in one archive
    1  PUT   blob's metadata     all files are there
    1  PUT   code                the folder becomes an asset
    1  PUT   environment         one for each image and list of packages
    1  GET   workspace           once for a client, before its first pipeline component
    5  PUT   components          the commands init, fit, aggregate, evaluate and report, to which the SDK gives names
    3  PUT   components          the pipelines start, round and report, made of those
    1  PUT   job

From the hash to the asset it is the SDK that decides, and about the workspace. Sent again, by whomever, the job is
the first and the last of these: 2. Given weights are one more file; where silos keep a memory, the round in which
they have none yet is one more command and one more pipeline; rounds of other silos are pipelines of their own. The
first run of a client asks once more, for the address of the workspace's MLflow.
"""

import io
import logging
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, TextIO

from fl_kit.azureml.pipeline import Pipeline


def write_files(pipeline: Pipeline, folder: Path) -> dict[str, Path]:
    """Write AzureML's own YAML of each asset, and of the job as `pipeline.yml`; gives `name:version` → file."""
    folder.mkdir(parents=True, exist_ok=True)
    assets = {**pipeline.environments, **pipeline.components}
    files = {label: folder / f"{label.replace(':', '-')}.yml" for label in assets}
    for label, file in files.items():
        write_yaml(assets[label], file)
    write_yaml(pipeline.job, folder / "pipeline.yml")
    return {**files, "job": folder / "pipeline.yml"}


def submit(client: Any, pipeline: Pipeline, folder: Path) -> Any:
    """Register what the workspace does not have yet, submit the job, and give it as the SDK does.

    folder  where the YAML is kept that was sent
    """
    from azure.ai.ml import load_component, load_environment, load_job

    with without_notices():
        there = has(client.components, list(pipeline.components)[-1])
        pipeline = pipeline if there else pipeline.with_code(upload(client, pipeline.code))
        files = write_files(pipeline, folder)
        for label in () if there else pipeline.environments:
            register(client.environments, label, load_environment(files[label]))
        for label in () if there else pipeline.components:
            register(client.components, label, load_component(files[label]))
        return client.jobs.create_or_update(load_job(files["job"]), skip_validation=True)


def upload(client: Any, folder: str) -> str:
    """Bring a folder to the workspace, unless it has one of the same content; gives what a component names it by.

    Once for all components: from each that names a folder, the SDK would ask the workspace for it again. The call is
    the one with which the SDK itself uploads a component's code; it is not public.
    """
    from azure.ai.ml.entities._assets import Code

    return f"azureml:{client._code.create_or_update(Code(path=folder)).id}"


def register(operations: Any, label: str, asset: Any) -> None:
    """Make an asset, unless the workspace has it: its version is made from its content, so then it is the same."""
    from azure.core.exceptions import HttpResponseError

    try:
        operations.create_or_update(asset)
    except HttpResponseError:
        if not has(operations, label):
            raise


def has(operations: Any, label: str) -> bool:
    """Whether the workspace has a `name:version`."""
    from azure.core.exceptions import ResourceNotFoundError

    name, _, version = label.partition(":")
    try:
        operations.get(name, version)
    except ResourceNotFoundError:
        return False
    return True


@contextmanager
def without_notices() -> Iterator[None]:
    """Leaves out what the SDK says that is for nobody: blank red lines, which of its classes are experimental.

    Several threads may be in it: what was there before the first one came is there again when the last one goes.
    """
    with _threads:
        if not _inside:
            _before.enter_context(quiet_notices())
        _inside.append(None)
    try:
        yield
    finally:
        with _threads:
            _inside.pop()
            if not _inside:
                _before.close()


_threads = threading.Lock()
_inside: list[None] = []
_before = ExitStack()


@contextmanager
def quiet_notices() -> Iterator[None]:
    logger = logging.getLogger("azure.ai.ml._utils._experimental")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(WithoutBlankLines(sys.stderr)):
            yield
    finally:
        logger.setLevel(before)


class WithoutBlankLines(io.TextIOBase):
    """Passes on what is written, but for lines of nothing but space and colour codes."""

    def __init__(self, to: TextIO) -> None:
        self.to = to
        self.line_begun = False

    def write(self, text: str) -> int:
        visible = re.sub(r"\x1b\[[0-9;]*m", "", text)
        if self.line_begun or visible.strip():
            self.to.write(text)
            self.line_begun = not visible.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self.to.flush()


def write_yaml(content: Mapping[str, Any], file: Path) -> None:
    """Plain YAML without anchors, in the order given."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    text = yaml.dump(dict(content), Dumper=Plain, sort_keys=False, allow_unicode=True, width=100_000)
    file.write_text(text, encoding="utf-8")
