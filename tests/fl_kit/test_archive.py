"""One form for one set of files, which any zip tool reads, and nothing else passes for it."""

import io
import struct
import zipfile
import zipimport
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit import archive as archives
from fl_kit.archive import archive_of, files_of
from fl_kit.errors import BundleError

FILES = {"kit/__init__.py": b"", "kit/b.py": b"two = 1 + 1\n", "kit/\u00e9.txt": "gr\u00fcn\n".encode()}
NAMES = st.text("ab\u00e9\u6c34/._", min_size=1, max_size=9)


def written_by_zipfile(compression: int = zipfile.ZIP_STORED) -> bytes:
    """The same files as Python's own zipfile writes them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_python_reads_it_and_imports_from_it(tmp_path: Path) -> None:
    file = tmp_path / "kit.zip"
    file.write_bytes(archive_of(FILES))
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert {oct(member.external_attr >> 16) for member in archive.infolist()} == {"0o100644"}
    found: dict[str, object] = {}
    exec(zipimport.zipimporter(str(file)).get_code("kit/b"), found)
    assert found["two"] == 2


@given(st.dictionaries(NAMES, st.binary(max_size=40), max_size=5))
def test_the_files_come_back_and_their_order_does_not_count(files: dict[str, bytes]) -> None:
    made = archive_of(files)
    assert files_of(made) == files
    assert archive_of(dict(reversed(files.items()))) == made


@given(st.data())
def test_no_other_bytes_are_the_archive_of_what_is_read_from_them(data: st.DataObject) -> None:
    """Changed anywhere, cut anywhere, or followed by anything: it gives other files, or is not their archive."""
    made = archive_of(FILES)
    place = data.draw(st.integers(0, len(made) - 1))
    changed = bytearray(made)
    changed[place] ^= data.draw(st.integers(1, 255))
    for other in (bytes(changed), made[:place], made + made[: place + 1]):
        found = files_of(other)
        assert found != FILES or archive_of(found) != other


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_same_files_as_another_tool_packs_them_are_another_archive(compression: int) -> None:
    other = written_by_zipfile(compression)
    assert archive_of(files_of(other)) != other


def test_a_size_beyond_the_end_gives_nothing() -> None:
    made = bytearray(archive_of({"a": b"x"}))
    struct.pack_into("<L", made, 18, 0xFFFFFFFF)
    assert files_of(bytes(made)) == {}


def test_a_name_that_stands_twice_is_read_once() -> None:
    made = archive_of({"a": b"x"})
    once = made[: made.index(archives.CENTRAL)]
    assert files_of(once + once) == {"a": b"x"}


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = archive_of(FILES)
    monkeypatch.setattr(archives, "MOST_BYTES", len(made))
    assert archive_of(FILES) == made
    for limit, value in (("MOST_BYTES", len(made) - 1), ("MOST_FILES", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(archives, limit, value)
            with pytest.raises(BundleError, match="3 files of 0 MiB are too much"):
                archive_of(FILES)
