"""Data that do not come with fl-kit: read from a given place, downloaded once, or a clear word where to get them."""

import hashlib
from pathlib import Path

import pytest

from fl_kit.errors import DataError
from sim import public_samples, samples

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
CONTENT = b"what the publisher has"


def file_at(path: Path, content: bytes = CONTENT) -> public_samples.PublicFile:
    return public_samples.PublicFile(name="data.bin", url=path.as_uri(), digests=(hashlib.sha256(content).hexdigest(),))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FL_KIT_CACHE", str(tmp_path / "cache"))


def test_a_download_is_kept_and_not_made_again(tmp_path):
    published = tmp_path / "published"
    published.write_bytes(CONTENT)
    file = file_at(published)
    assert file.read() == CONTENT
    published.unlink()
    assert file.read() == CONTENT
    kept = tmp_path / "cache" / "downloads" / "data.bin"
    assert [entry.name for entry in kept.parent.iterdir()] == ["data.bin"]
    kept.write_bytes(b"changed")
    with pytest.raises(
        DataError, match=r"is not the published data.bin: its checksum differs; get data.bin from file:"
    ):
        file.read()


def test_another_content_is_not_kept(tmp_path):
    published = tmp_path / "published"
    published.write_bytes(b"something else")
    with pytest.raises(DataError, match=r"sent is not the published data.bin"):
        file_at(published).read()
    assert not (tmp_path / "cache" / "downloads").exists()


def test_without_a_network_the_error_says_how_to_get_the_file(tmp_path):
    with pytest.raises(DataError, match=r"could not be downloaded .* get data.bin from file:.* path=…, or put it into"):
        file_at(tmp_path / "nowhere").read()


def test_a_given_file_or_its_folder_is_read(tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT)
    file = file_at(tmp_path / "nowhere")
    assert file.read(tmp_path) == file.read(tmp_path / "data.bin") == CONTENT
    with pytest.raises(DataError, match="cannot be read: No such file"):
        file.read(tmp_path / "missing.bin")


def test_an_md5_counts_as_well():
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    file = public_samples.PublicFile(name="data.bin", url="file:///nowhere", digests=(md5,))
    assert file.is_right(CONTENT)
    assert not file.is_right(CONTENT + b"\n")


def test_sentences():
    text = "Paris\tB-location\nrocks\tO\n\n\t\n@a\tO\r\n"
    assert public_samples.sentences(text) == [(["Paris", "rocks"], ["B-location", "O"]), (["@a"], ["O"])]


def test_pneumoniamnist_has_the_counts_of_medmnist():
    """MedMNIST: 4708 + 524 + 624 pictures, 3494 + 389 + 390 of them pneumonia."""
    path = SHARED / "pneumoniamnist" / "pneumoniamnist_reassembled.npz"
    if not path.is_file():
        pytest.skip(f"PneumoniaMNIST is not part of the project, and {path.name} is not beside it")
    sample = samples.pneumoniamnist(path)
    assert sample.images.shape == (5856, 28, 28)
    assert int(sample.labels.sum()) == 3494 + 389 + 390
    assert int(sample.labels[:4708].sum()) == 3494
    assert "CC BY 4.0" in repr(sample)


def test_wnut17_has_the_counts_of_the_shared_task():
    """Derczynski et al. 2017: 3394, 1009 and 1287 sentences."""
    folder = SHARED / "wnut17"
    if not folder.is_dir():
        pytest.skip("WNUT-17 is not part of the project, and is not beside it")
    frame = samples.wnut17(folder)
    assert frame["platform"].value_counts().to_dict() == {"twitter": 3394, "mixed": 1287, "youtube": 1009}
    assert (frame["tokens"].map(len) == frame["tags"].map(len)).all()
    kinds = {tag.partition("-")[2] for tags in frame["tags"] for tag in tags} - {""}
    assert kinds == {"corporation", "creative-work", "group", "location", "person", "product"}
