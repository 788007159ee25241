"""Hands a compiled pipeline to the SDK: environments and components are registered once, the job calls them."""

import io
import logging
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
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

    files = write_files(pipeline, folder)
    with without_notices():
        new = absent(client.components, pipeline.components)
        for label in absent(client.environments, pipeline.environments) if new else ():
            client.environments.create_or_update(load_environment(files[label]))
        for label in new:
            client.components.create_or_update(load_component(files[label]))
        job = load_job(files["job"])
        return client.jobs.create_or_update(job, skip_validation=True)


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


def absent(operations: Any, labels: Iterable[str]) -> list[str]:
    """Which of these `name:version` the workspace has not: a version is made from its content, so the rest stay."""
    from azure.core.exceptions import ResourceNotFoundError

    found = []
    for label in labels:
        name, _, version = label.partition(":")
        try:
            operations.get(name, version)
        except ResourceNotFoundError:
            found.append(label)
    return found


def write_yaml(content: Mapping[str, Any], file: Path) -> None:
    """Plain YAML without anchors, in the order given."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    text = yaml.dump(dict(content), Dumper=Plain, sort_keys=False, allow_unicode=True, width=100_000)
    file.write_text(text, encoding="utf-8")
