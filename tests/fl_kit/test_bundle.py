"""The bundle: the same bytes wherever it is made, refused after any change, and complete enough to run alone."""

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_kit import Federation, FedProx, Job, Scaffold, own_source
from fl_kit import bundle as bundles
from fl_kit.archive import archive_of, files_of
from fl_kit.bundle import MANIFEST, PACKED, Bundle, verify, write_bundle
from fl_kit.errors import BundleError, TaskError
from fl_kit.task import Task
from tests.tasks import DROPOUT, LINEAR, job, random_rows, silos


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return silos(tmp_path_factory.mktemp("silos"), ash=random_rows(6, 4, 1), birch=random_rows(3, 4, 2))


@pytest.fixture(scope="module")
def travelling() -> Job:
    return job(LINEAR, Scaffold(lr=0.1), rounds=2, seed=11, min_silos=1)


@pytest.fixture(scope="module")
def master(travelling: Job, federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A good bundle; tests that change one put it back or take a copy."""
    return write_bundle(travelling, travelling.plan(federation), tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def copy(master: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(master.folder, tmp_path / "bundle"))


def content(folder: Path) -> dict[str, bytes]:
    """Name → bytes of every file of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refusal(folder: Path, digest: str = "") -> str:
    """What verify says against a bundle."""
    with pytest.raises(BundleError) as caught:
        verify(folder, digest)
    return str(caught.value)


def test_the_same_job_and_plan_give_the_same_bytes(
    travelling: Job, federation: Federation, master: Bundle, tmp_path: Path
) -> None:
    again = write_bundle(
        job(LINEAR, Scaffold(lr=0.1), rounds=2, seed=11, min_silos=1), travelling.plan(federation), tmp_path / "again"
    )
    assert again.digest == master.digest
    assert content(again.folder) == content(master.folder)


@pytest.mark.parametrize("change", [{"seed": 12}, {"rounds": 3}, {"min_silos": 2}, {"strategy": FedProx()}], ids=str)
def test_another_job_gives_another_digest(
    federation: Federation, master: Bundle, tmp_path: Path, change: dict[str, object]
) -> None:
    settings = {"strategy": Scaffold(lr=0.1), "rounds": 2, "seed": 11, "min_silos": 1, **change}
    other = job(LINEAR, **settings)  # type: ignore[arg-type]
    assert write_bundle(other, other.plan(federation), tmp_path / "other").digest != master.digest


def test_the_plan_is_part_of_the_digest(
    travelling: Job, federation: Federation, master: Bundle, tmp_path: Path
) -> None:
    other = travelling.plan(federation.select(["ash"]))
    assert write_bundle(travelling, other, tmp_path / "other").digest != master.digest


def test_the_manifest_is_the_sha256_of_every_file_and_the_digest_its_own(master: Bundle) -> None:
    files = content(master.folder)
    manifest = files.pop(MANIFEST)
    assert master.digest == hashlib.sha256(manifest).hexdigest()
    assert json.loads(manifest)["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_it_holds_all_of_fl_kit_the_task_the_job_and_the_plan_and_nothing_pickled(
    master: Bundle, travelling: Job, root: Path
) -> None:
    found = set(content(master.folder))
    own = {f"fl_kit/{p.relative_to(root / 'fl_kit').as_posix()}" for p in (root / "fl_kit").rglob("*.py")}
    assert own <= found
    assert found - own == {"job.json", "plan.json", "task/linear.py", MANIFEST, "fl_kit/silo_environment.txt"}
    assert {Path(name).suffix for name in found} == {".py", ".json", ".txt"}
    for name, data in content(master.folder).items():
        assert not data.startswith(b"\x80"), name  # how a pickle of protocol 2 and later begins
        assert "\x00" not in data.decode("utf-8"), name
    # so an owner who knows a task's digest finds it in the manifest
    assert json.loads((master.folder / MANIFEST).read_text())["files"]["task/linear.py"] == travelling.task.sha256


def test_job_and_plan_come_back(master: Bundle, travelling: Job, federation: Federation) -> None:
    back = verify(master.folder, master.digest)
    assert back == master
    assert back.job() == travelling
    assert back.job().to_json() == travelling.to_json()
    assert back.plan() == travelling.plan(federation)


# --- the same from every checkout -----------------------------------------------------------------------------


def with_source(change: Callable[[str], str]) -> Job:
    return job(Task(name="linear", source=change(LINEAR.read_text(encoding="utf-8"))), FedProx(), rounds=1)


@pytest.mark.parametrize("line_end", ["\r\n", "\r"], ids=["crlf", "cr"])
def test_the_line_ends_of_the_task_do_not_count(federation: Federation, tmp_path: Path, line_end: str) -> None:
    plain, foreign = with_source(str), with_source(lambda text: text.replace("\n", line_end))
    assert foreign.task.source != plain.task.source
    first = write_bundle(plain, plain.plan(federation), tmp_path / "lf")
    second = write_bundle(foreign, foreign.plan(federation), tmp_path / "other")
    assert second.digest == first.digest
    assert content(second.folder) == content(first.folder)
    assert second.job().task.sha256 == foreign.task.sha256


def test_a_byte_order_mark_does_not_count(federation: Federation, tmp_path: Path) -> None:
    (tmp_path / "linear.py").write_bytes(b"\xef\xbb\xbf" + LINEAR.read_bytes())
    marked, plain = (job(path, FedProx(), rounds=1) for path in (tmp_path / "linear.py", LINEAR))
    first = write_bundle(marked, marked.plan(federation), tmp_path / "marked")
    assert first.digest == write_bundle(plain, plain.plan(federation), tmp_path / "plain").digest


def test_the_line_ends_of_a_checkout_of_fl_kit_do_not_count(
    travelling: Job, federation: Federation, master: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "windows" / ".venv" / "fl_kit"  # a hidden folder above it hides nothing
    shutil.copytree(master.folder / "fl_kit", checkout)
    for path in checkout.rglob("*.*"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (checkout / "__pycache__").mkdir()
    (checkout / "__pycache__" / "step.cpython-311.pyc").write_bytes(b"\0")
    (checkout / ".ipynb_checkpoints").mkdir()
    (checkout / ".ipynb_checkpoints" / "step-checkpoint.py").write_text("old = 1\n")
    monkeypatch.setattr(own_source, "__file__", str(checkout / "own_source.py"))
    made = write_bundle(travelling, travelling.plan(federation), tmp_path / "made")
    assert content(made.folder) == content(master.folder)


# --- any change is refused ------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(data=st.data())
def test_a_changed_byte_in_any_file_is_found_and_the_file_named(master: Bundle, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(content(master.folder))))
    file = master.folder / name
    original = file.read_bytes()
    changed = bytearray(original)
    if changed:
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] ^= data.draw(st.integers(1, 255))
    else:
        changed += b"#"
    try:
        file.write_bytes(changed)
        said = refusal(master.folder)
        # a byte of the manifest may change the name, or the sha256, of another file
        assert name in said or name == MANIFEST
        if name == MANIFEST:
            assert f"expected {master.digest}" in refusal(master.folder, master.digest)
    finally:
        file.write_bytes(original)
    assert verify(master.folder, master.digest) == master


@settings(max_examples=40)
@given(data=st.data())
def test_a_file_cut_short_or_made_longer_is_named(master: Bundle, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(set(content(master.folder)) - {MANIFEST})))
    file = master.folder / name
    original = file.read_bytes()
    length = data.draw(st.integers(0, len(original) + 3).filter(lambda n: n != len(original)))
    try:
        file.write_bytes((original + b"\n\n\n")[:length])
        assert f"{name} was changed" in refusal(master.folder)
    finally:
        file.write_bytes(original)


@settings(max_examples=40)
@given(data=st.data())
def test_a_file_taken_away_is_named(master: Bundle, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(content(master.folder))))
    away = master.folder.parent / "away"
    (master.folder / name).replace(away)
    try:
        assert name in refusal(master.folder)
    finally:
        away.replace(master.folder / name)
    assert verify(master.folder) == master


@settings(max_examples=40)
@given(data=st.data())
def test_a_renamed_file_is_named(master: Bundle, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(set(content(master.folder)) - {MANIFEST})))
    file = master.folder / name
    other = file.with_name(data.draw(st.sampled_from([f"_{file.name}", f"{file.name}.bak", f"z{file.name}"])))
    file.replace(other)
    try:
        said = refusal(master.folder)
        assert name in said or other.relative_to(master.folder).as_posix() in said
    finally:
        other.replace(file)


@pytest.mark.parametrize(
    "name",
    [
        "torch.py",
        "torch/__init__.py",
        "fl_kit/extra.py",
        "fl_kit/step.pyc",
        "fl_kit/__pycache__/step.cpython-311.pyc",
        "task/__pycache__/linear.cpython-311.pyc",
        "task/helper.so",
        "sitecustomize.py",
        "fl_kit/manifest.json",
        ".hidden",
    ],
)
def test_a_file_added_is_named(copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_bytes(b"")
    assert refusal(copy) == f"{name} is not named by the bundle's manifest"


def test_byte_code_is_accepted_only_on_request_and_only_where_python_puts_it(copy: Path) -> None:
    cache = copy / "fl_kit" / "__pycache__"
    cache.mkdir()
    (cache / "step.cpython-311.pyc").write_bytes(b"")
    assert "step.cpython-311.pyc" in refusal(copy)
    assert verify(copy, byte_code=True).folder == copy
    (copy / "fl_kit" / "step.pyc").write_bytes(b"")
    with pytest.raises(BundleError, match=r"^fl_kit/step\.pyc is not named"):
        verify(copy, byte_code=True)
    (copy / "fl_kit" / "step.pyc").rename(cache / "step.py")
    with pytest.raises(BundleError, match=r"^fl_kit/__pycache__/step\.py is not named"):
        verify(copy, byte_code=True)


def test_a_link_is_a_file_wherever_it_leads(copy: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "__init__.py").write_text("planted = True\n")
    for target in (elsewhere, elsewhere / "__init__.py", tmp_path / "nowhere"):
        (copy / "torch").symlink_to(target)
        assert "torch" in refusal(copy)
        (copy / "torch").unlink()
    assert verify(copy)


def test_a_folder_in_a_files_place_is_named(copy: Path) -> None:
    (copy / "plan.json").unlink()
    (copy / "plan.json").mkdir()
    assert refusal(copy) == "plan.json is missing from the bundle"


def test_a_change_of_file_and_manifest_together_is_found_by_the_digest(master: Bundle, copy: Path) -> None:
    """Whoever can write both can make a consistent bundle; only the approved digest tells."""
    (copy / "task" / "linear.py").write_text("import os\n")
    files = content(copy)
    del files[MANIFEST]
    (copy / MANIFEST).write_bytes(bundles.manifest_of({n: hashlib.sha256(d).hexdigest() for n, d in files.items()}))
    assert verify(copy).digest != master.digest
    assert f"expected {master.digest}" in refusal(copy, master.digest)


def test_another_digest_is_refused(master: Bundle) -> None:
    said = refusal(master.folder, "0" * 64)
    assert master.digest in said
    assert "0" * 64 in said


EDITS: list[Callable[[dict[str, object]], object]] = [
    lambda found: {**found, "approved": True},
    lambda found: {**found, "format": 2},
    lambda found: {"format": 1},
    lambda found: {"format": 1, "files": list(found["files"])},  # type: ignore[call-overload]
    lambda found: {"format": 1, "files": [[1, 2], ["a", "b"]]},
    lambda found: {"format": 1, "files": {**found["files"], "../outside.py": "0" * 64}},  # type: ignore[dict-item]
    lambda found: {"format": 1, "files": None},
    lambda found: [found],
    lambda found: 7,
]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_manifest_is_refused(copy: Path, edit: Callable[[dict[str, object]], object]) -> None:
    (copy / MANIFEST).write_text(json.dumps(edit(json.loads((copy / MANIFEST).read_text())), indent=1))
    said = refusal(copy)
    assert MANIFEST in said or said == "../outside.py is missing from the bundle"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null"], ids=lambda data: repr(data[:4]))
def test_what_is_no_manifest_is_refused(copy: Path, data: bytes) -> None:
    (copy / MANIFEST).write_bytes(data)
    assert MANIFEST in refusal(copy)


def test_a_manifest_in_another_layout_is_refused(copy: Path) -> None:
    """Its digest would differ though every file is as listed: one bundle has one digest."""
    (copy / MANIFEST).write_text(json.dumps(json.loads((copy / MANIFEST).read_text())))
    assert MANIFEST in refusal(copy)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    assert "holds no bundle" in refusal(tmp_path)
    assert "holds no bundle" in refusal(tmp_path / "nowhere")


# --- packed ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(travelling: Job, federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The good bundle as it is sent to AzureML."""
    return write_bundle(travelling, travelling.plan(federation), tmp_path_factory.mktemp("sent") / "b", packed=True)


@pytest.fixture
def sent(packed: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed.folder, tmp_path / "sent"))


def test_packed_it_is_the_same_bundle_in_a_few_files(packed: Bundle, master: Bundle, travelling: Job) -> None:
    assert set(content(packed.folder)) == {"job.json", "plan.json", "task/linear.py", MANIFEST, PACKED}
    assert packed.digest == master.digest
    back = verify(packed.folder, master.digest)
    assert back == packed
    assert (back.job(), back.plan()) == (travelling, verify(master.folder).plan())


def test_an_owner_unpacks_it_with_python_alone_and_it_is_verified_as_before(sent: Path, master: Bundle) -> None:
    zipfile.main(["-e", str(sent / PACKED), str(sent)])
    (sent / PACKED).unlink()
    assert content(sent) == content(master.folder)
    assert verify(sent, master.digest)


def repack(folder: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    """Write an archive in good form of other files."""
    files = files_of((folder / PACKED).read_bytes())
    change(files)
    (folder / PACKED).write_bytes(archive_of(files))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: files.update({"fl_kit/step.py": b"import os\n"}), "fl_kit/step.py was changed: its sha256"),
        (lambda files: files.pop("fl_kit/step.py"), "fl_kit/step.py is missing from the bundle"),
        (lambda files: files.update({"fl_kit/more.py": b""}), "fl_kit/more.py is not named by the bundle's manifest"),
        (lambda files: files.update({"fl_kit/step.pyc": b""}), "fl_kit/step.pyc is not named by the bundle's manifest"),
        (lambda files: files.update({"torch.py": b""}), "torch.py is in fl_kit.zip, which holds the files of fl_kit"),
        (lambda files: files.update({"../torch.py": b""}), "../torch.py is in fl_kit.zip, which holds"),
        (lambda files: files.update({"job.json": b"{}"}), "job.json is in fl_kit.zip, which holds"),
        (lambda files: files.clear(), "fl_kit/__init__.py is missing from the bundle"),
    ],
)
def test_a_change_inside_the_archive_names_the_file(
    sent: Path, change: Callable[[dict[str, bytes]], object], said: str
) -> None:
    repack(sent, change)
    assert refusal(sent).startswith(said)
    with pytest.raises(BundleError):
        verify(sent, byte_code=True)


@settings(max_examples=40)
@given(data=st.data())
def test_a_changed_byte_of_the_archive_is_found_and_the_file_named(packed: Bundle, data: st.DataObject) -> None:
    file = packed.folder / PACKED
    original = file.read_bytes()
    name = data.draw(st.sampled_from(sorted(name for name, text in files_of(original).items() if text)))
    begin = original.index(name.encode()) + len(name)
    inside = data.draw(st.booleans())
    place = data.draw(
        st.integers(begin, begin + len(files_of(original)[name]) - 1) if inside else st.integers(0, len(original) - 1)
    )
    changed = bytearray(original)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        file.write_bytes(changed)
        said = refusal(packed.folder)
        assert f"{name} was changed" in said or not inside
    finally:
        file.write_bytes(original)
    assert verify(packed.folder, packed.digest) == packed


def deflated(folder: Path) -> None:
    """The same files in an archive that grows when it is unpacked."""
    with zipfile.ZipFile(folder / PACKED, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((folder / "fl_kit").rglob("*.py")):
            archive.write(path, path.relative_to(folder))


def test_an_archive_in_another_form_is_refused(sent: Path) -> None:
    zipfile.main(["-e", str(sent / PACKED), str(sent)])
    deflated(sent)
    shutil.rmtree(sent / "fl_kit")
    assert "is missing from the bundle" in refusal(sent)  # nothing of it was unpacked
    stored = (sent / PACKED).with_suffix(".tmp")
    with zipfile.ZipFile(sent / PACKED) as archive, zipfile.ZipFile(stored, "w") as other:
        for member in archive.namelist():
            other.writestr(member, archive.read(member))
    stored.replace(sent / PACKED)
    assert "fl_kit/silo_environment.txt is missing" in refusal(sent)


def test_an_archive_with_something_behind_it_is_refused(sent: Path) -> None:
    with (sent / PACKED).open("ab") as file:
        file.write(b"\0")
    assert refusal(sent) == "fl_kit.zip was changed: it is not in the form in which bundles are written"


@pytest.mark.parametrize("more", [b"", archive_of({})], ids=["nothing", "no files"])
def test_an_archive_beside_the_folder_is_refused(copy: Path, more: bytes) -> None:
    (copy / PACKED).write_bytes(more)
    assert "is beside fl_kit.zip, which holds all files of fl_kit" in refusal(copy)


@pytest.mark.parametrize("name", ["fl_kit/step.py", "fl_kit/__init__.py", "fl_kit/new.py"])
def test_a_folder_beside_the_archive_is_refused(sent: Path, name: str) -> None:
    """Python would import from the folder."""
    (sent / "fl_kit").mkdir()
    (sent / name).write_bytes(files_of((sent / PACKED).read_bytes()).get(name, b""))
    assert refusal(sent) == f"{name} is beside fl_kit.zip, which holds all files of fl_kit"


def test_a_link_that_leads_nowhere_is_no_archive(copy: Path) -> None:
    (copy / PACKED).symlink_to(copy / "nowhere")
    assert "fl_kit.zip" in refusal(copy)


def test_an_archive_that_is_too_large_is_not_read(sent: Path) -> None:
    with (sent / PACKED).open("r+b") as file:
        file.truncate(1 << 40)  # of nothing: it takes no room on the disk
    assert refusal(sent).endswith(
        "fl_kit.zip cannot be read: it has 1,099,511,627,776 bytes, larger than the 16,777,216 expected"
    )


def test_a_change_of_archive_and_manifest_together_is_found_by_the_digest(sent: Path, packed: Bundle) -> None:
    repack(sent, lambda files: files.update({"fl_kit/step.py": b"import os\n"}))
    files = {name: data for name, data in content(sent).items() if name not in (MANIFEST, PACKED)}
    files |= files_of((sent / PACKED).read_bytes())
    (sent / MANIFEST).write_bytes(bundles.manifest_of({n: hashlib.sha256(d).hexdigest() for n, d in files.items()}))
    assert verify(sent).digest != packed.digest
    assert f"expected {packed.digest}" in refusal(sent, packed.digest)


# --- writing --------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_refused_and_left_alone(
    travelling: Job, federation: Federation, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="is not empty"):
        write_bundle(travelling, travelling.plan(federation), tmp_path)
    assert content(tmp_path) == {"notes.txt": b"mine"}


def test_a_file_where_the_folder_should_be_is_one_clear_error(
    travelling: Job, federation: Federation, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(BundleError, match=r"cannot be written to .*taken"):
        write_bundle(travelling, travelling.plan(federation), tmp_path / "taken")


def test_an_fl_kit_that_runs_from_an_archive_writes_no_bundle_without_itself(
    travelling: Job, federation: Federation, packed: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_source, "__file__", str(packed.folder / PACKED / "fl_kit" / "own_source.py"))
    with pytest.raises(BundleError, match=r"fl_kit\.zip.fl_kit is in an archive"):
        write_bundle(travelling, travelling.plan(federation), tmp_path / "made")


@pytest.mark.parametrize("name", ["job.json", "plan.json"])
def test_a_consistent_bundle_without_a_job_or_plan_says_so(copy: Path, name: str) -> None:
    (copy / name).unlink()
    files = content(copy)
    del files[MANIFEST]
    (copy / MANIFEST).write_bytes(bundles.manifest_of({n: hashlib.sha256(d).hexdigest() for n, d in files.items()}))
    bundle = verify(copy)
    with pytest.raises(BundleError, match=f"holds no {name.removesuffix('.json')}"):
        bundle.job() if name == "job.json" else bundle.plan()


def test_a_task_that_is_not_the_jobs_is_refused(copy: Path) -> None:
    (copy / "task" / "linear.py").write_bytes(DROPOUT.read_bytes())
    with pytest.raises(TaskError, match="sha256 differs"):
        Bundle(folder=copy, digest="").job()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_a_pipe_in_a_bundle_is_refused_and_never_waited_for(sent: Path) -> None:
    os.mkfifo(sent / "more")
    assert "more cannot be read: it is a pipe" in refusal(sent)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
@pytest.mark.parametrize("name", ["job.json", "manifest.json", "task"])
def test_a_link_in_a_bundle_is_refused_even_to_the_same_bytes(sent: Path, tmp_path: Path, name: str) -> None:
    (sent / name).rename(tmp_path / "elsewhere")
    (sent / name).symlink_to(tmp_path / "elsewhere")
    assert "it is a link" in refusal(sent)


@pytest.mark.parametrize("name", ["task/NUL.py", "a:b", "x.", "MORE.txt"])
def test_a_name_that_is_another_on_some_system_is_refused(sent: Path, name: str) -> None:
    (sent / "more.txt").write_bytes(b"")
    (sent / name).write_bytes(b"")
    assert re.search("a file that no bundle has|twice but for case", refusal(sent))


def test_what_was_verified_is_what_is_read(sent: Path) -> None:
    bundle = verify(sent)
    for name in ("job.json", "plan.json"):
        (sent / name).write_text("{}", encoding="utf-8")
    assert bundle.plan()
    assert bundle.job()
