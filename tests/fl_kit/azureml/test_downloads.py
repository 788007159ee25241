"""States brought here from a datastore: whole or not at all, whatever lies there and whenever the line is cut."""

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fl_kit.azureml.downloads import download_message
from fl_kit.errors import StoreError
from fl_kit.messages import META_FILE, TENSORS_FILE, State, read, write
from fl_kit.tensors import digest

PATH = "fl/r/round_003/orchestrator/state"
STATE = State(round=3, params={"w": torch.arange(6.0)})


@pytest.fixture
def there(workspace: Any, client: Any) -> Path:
    """The folder of a state in the orchestrator's datastore, on the workspace's disk."""
    folder: Path = workspace.storage("orchestrator_store") / PATH
    write(STATE, folder)
    return folder


@pytest.fixture
def uri() -> str:
    return f"azureml://datastores/orchestrator_store/paths/{PATH}/"


def kept(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_state_is_brought_with_its_two_files_and_nothing_else(client, there, uri, tmp_path):
    (there / "more.bin").write_bytes(b"x" * 100)
    (there.parent / "state-2").mkdir(exist_ok=True)
    (there.parent / "state-2" / META_FILE).write_text("{}")
    place = tmp_path / "r" / "state"
    assert download_message(client, uri, place)
    assert digest(read(State, place).params) == digest(STATE.params)
    assert kept(tmp_path / "r") == {f"state/{META_FILE}", f"state/{TENSORS_FILE}"}


def test_what_is_not_there_is_no_message(client, there, uri, tmp_path):
    assert not download_message(client, uri.replace("round_003", "round_009"), tmp_path / "r" / "state")
    assert kept(tmp_path / "r") == set()


TORN = {
    "cut off": (lambda f: (f / TENSORS_FILE).write_bytes((f / TENSORS_FILE).read_bytes()[:-1]), "it is not whole"),
    "longer": (lambda f: (f / TENSORS_FILE).write_bytes(bytes(1000)), "tensors.safetensors has 1,000 bytes, larger"),
    "no tensors": (lambda f: (f / TENSORS_FILE).unlink(), "it is not whole"),
    "a manifest cut off": (lambda f: (f / META_FILE).write_text('{"format": 1,'), "meta.json is not JSON"),
    "a large manifest": (lambda f: (f / META_FILE).write_bytes(b" " * (2 << 20)), "meta.json has 2,097,152 bytes"),
    "a size that is none": (lambda f: (f / META_FILE).write_text('{"format": 1, "bytes": 1e300}'), "larger than the 0"),
}  # fmt: skip


@pytest.mark.parametrize("how", TORN)
def test_what_is_torn_there_is_told_and_what_was_here_stays(client, there, uri, tmp_path, how):
    place = tmp_path / "r" / "state"
    assert download_message(client, uri, place)
    tear, words = TORN[how]
    tear(there)
    with pytest.raises(StoreError, match=words) as raised:
        download_message(client, uri, place)
    assert str(raised.value).startswith(uri)
    assert ".partial" not in str(raised.value)
    assert digest(read(State, place).params) == digest(STATE.params)
    assert kept(tmp_path / "r") == {f"state/{META_FILE}", f"state/{TENSORS_FILE}"}


def test_a_link_among_the_blobs_leads_nowhere(client, there, uri, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    (there / META_FILE).unlink()
    (there / META_FILE).symlink_to(secret)
    place = tmp_path / "r" / "state"
    with contextlib.suppress(StoreError):  # a workspace may refuse it, or have no such blob
        assert not download_message(client, uri, place)
    (there / META_FILE).unlink()
    assert kept(tmp_path / "r") == set()


@pytest.mark.parametrize("after", [0, 1, 2, math.inf])
def test_a_line_that_is_cut_leaves_nothing_and_the_next_call_has_it_all(
    client, there, uri, tmp_path, monkeypatch, after
):
    from azure.storage.blob import StorageStreamDownloader

    whole, calls = StorageStreamDownloader.readinto, 0

    def cut(self: Any, file: Any) -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            file.write(b"{")
            raise OSError("the line was cut")
        return whole(self, file)

    place = tmp_path / "r" / "state"
    with monkeypatch.context() as patch:
        patch.setattr(StorageStreamDownloader, "readinto", cut)
        if after < 2:
            with pytest.raises(StoreError, match=r"cannot be downloaded: the line was cut. Ask again; nothing"):
                download_message(client, uri, place)
            assert kept(tmp_path / "r") == set()
    assert download_message(client, uri, place)
    assert digest(read(State, place).params) == digest(STATE.params)
