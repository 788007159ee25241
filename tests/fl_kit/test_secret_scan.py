"""What looks like a secret is found, masked and kept out of what travels; digests, ids and pictures are none."""

import base64
import hashlib
import json
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit import FedAvg, Federation, Job, Orchestrator, Silo
from fl_kit.bundle import write_bundle
from fl_kit.errors import BundleError, FederationError, FlKitError, StepFailed, StoreError, TrackingError
from fl_kit.events import NOTE, Event, EventLog
from fl_kit.secret_scan import masked, secrets_in
from fl_kit.task import Task
from fl_kit.tracking.record import of_run
from sim import InProcess
from tests.tasks import LINEAR, job, random_rows, silos

SIGNATURE = "Zq3" * 13 + "abcd" + "%3D"
JWT = ".".join(["eyJ" + "hbGciOiJub25l", "eyJ" + "zdWIiOiJhZGEi", "c2lnbmF0dXJl"])
KEY = base64.b64encode(hashlib.sha512(b"key").digest()).decode()
PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEA" * 8 + "\n-----END"
SECRETS = {
    f"https://a.blob.core.windows.net/c/x.csv?sv=2024-01-01&sp=r&sig={SIGNATURE}": SIGNATURE,
    f"SharedAccessSignature=sv=2024&sig={SIGNATURE};": SIGNATURE,
    f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={KEY};EndpointSuffix=core.windows.net": KEY,
    f"Endpoint=sb://a.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey={KEY[:43]}=": KEY[:43],
    f"BlobServiceClient(url, '{KEY}')": KEY,
    "client = 'abc" + "8Q~" + "Ab1_" * 8 + "'": "8Q~" + "Ab1_" * 8,
    f"token: {JWT}": JWT,
    f"Authorization: Bearer {'a1B2' * 8}": "a1B2" * 8,
    f"headers={{'Authorization': 'Basic {base64.b64encode(b'ada:lovelace').decode()}'}}": "YWRhOmxvdmVsYWNl",
    "git clone x " + "ghp_" + "a1" * 18: "ghp_" + "a1" * 18,
    "github_pat_" + "A1_b" * 12: "github_pat_" + "A1_b" * 12,
    "glpat-" + "x" * 20: "glpat-" + "x" * 20,
    "AKIA" + "ABCDEFGH12345678": "AKIA" + "ABCDEFGH12345678",
    "login('hf_" + "aB" * 17 + "')": "hf_" + "aB" * 17,
    "sk-" + "proj-" + "a1_-" * 10: "sk-" + "proj-" + "a1_-" * 10,
    "sk-" + "a1" * 24: "sk-" + "a1" * 24,
    "xoxb-" + "1234567890-abc": "xoxb-" + "1234567890-abc",
    "AIza" + "a_-1" * 8 + "abc": "AIza" + "a_-1" * 8 + "abc",
    "dapi" + "0123456789abcdef" * 2: "dapi" + "0123456789abcdef" * 2,
    "npm_" + "a1" * 18: "npm_" + "a1" * 18,
    PEM: "MIIEowIBAAKCAQEA",
    "postgres://ada:" + "lovelace@db.example.org/x": "lovelace",
    "https://:" + "token123@mlflow.example.org": "token123",
    "Server=tcp:a;User ID=b;Password=" + "hunter22;": "hunter22",
    "AZURE_CLIENT_SECRET = '" + "no-word-of-this'": "no-word-of-this",
    '"api_key": "' + '0123456789abcdef"': "0123456789abcdef",
    "db_password='" + "correct-horse'": "correct-horse",
    "aws_secret_access_key = '" + "wJalrXUtnFEMI/K7MDENG'": "wJalrXUtnFEMI/K7MDENG",
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SECRETS.items(), ids=range(len(SECRETS)))
def test_each_form_is_found_with_its_line_and_masked(text: str, value: str) -> None:
    assert value in text
    (first, *_) = secrets_in(f"import os\n\n{text}\nx = 1\n")
    assert first.line == 3
    assert value not in repr(first)
    hidden = masked(f"before {text} after")
    assert value not in hidden
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")
    assert masked(hidden) == hidden
    assert secrets_in(f"{text}  # no secret") == [] or "\n" in text


PLAIN = [
    hashlib.sha256(b"x").hexdigest(),
    "sha256:" + hashlib.sha256(b"x").hexdigest(),
    "sha512-" + KEY,
    "heart-2026-11-24-14-03-22-abcdef",
    "0f8fad5b-d9cb-469f-a165-70867728950e",
    "password = os.environ['DB_PASSWORD']",
    "password=getpass()",
    'password = "{password}"',
    "https://{user}:{password}@host/",
    "https://ada:***@host/",
    "http://127.0.0.1:8888/lab?token=",
    "azureml://datastores/cleveland_store/paths/heart/",
    "Bearer token of the compute's own identity, which nobody sees",
    "headers = {'Authorization': f'Bearer {token}'}",
    "sig = inspect.signature(function)",
    "key=lambda item: item[1].start",
    "def access_token(self) -> str:",
    "risk-adjusted-mortality-by-hospital-and-by-year-of-admission",
    "-----BEGIN PUBLIC KEY-----",
    "eyJ is how a token begins",
    "data:image/png;base64," + base64.b64encode(random.Random(0).randbytes(30_000)).decode(),
    "\n".join(base64.encodebytes(random.Random(1).randbytes(30_000)).decode().splitlines()),
]


@pytest.mark.parametrize("text", PLAIN, ids=range(len(PLAIN)))
def test_what_only_reminds_of_one_passes(text: str) -> None:
    assert secrets_in(text) == []
    assert masked(text) is text


@given(st.binary(max_size=3000), st.integers(0, 10**12))
def test_digests_and_pictures_are_never_taken_for_one(data: bytes, seed: int) -> None:
    pixels = random.Random(seed).randbytes(2000)
    for text in (hashlib.sha256(data).hexdigest(), data.hex(), base64.b64encode(pixels + data + b"x" * 70).decode()):
        assert secrets_in(text) == []


def test_the_repository_holds_none(root: Path) -> None:
    """Sources, notebooks and samples; what a test needs is put together where it is used, or says that it is none."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False)
    names = listed.stdout.decode().split("\0")[:-1] or [str(p.relative_to(root)) for p in root.rglob("*.py")]
    texts = {name: (root / name).read_bytes().decode("utf-8", "replace") for name in names if (root / name).is_file()}
    found = {name: secrets for name, text in texts.items() if (secrets := secrets_in(text))}
    assert not found
    assert len(texts) > 100


LEAKY = LINEAR.read_text(encoding="utf-8") + f"\nADDRESS = 'https://a.blob.core.windows.net/c?sig={SIGNATURE}'\n"


@pytest.fixture
def leaky() -> Task:
    return Task(name="leaky", source=LEAKY)


def last_line(text: str) -> int:
    return len(text.splitlines())


def asked(task: Task) -> Job:
    return job(task, FedAvg(), rounds=1)


def test_a_bundle_with_a_secret_is_refused_by_file_and_line(leaky: Task, tmp_path: Path) -> None:
    federation = Federation(silos=(Silo(name="ash", data="d"),))
    one = asked(leaky)
    with pytest.raises(BundleError) as caught:
        write_bundle(one, one.plan(federation), tmp_path / "bundle")
    said = str(caught.value)
    assert said.startswith(
        f"task/leaky.py, line {last_line(LEAKY)} holds what looks like the signature of an Azure SAS"
    )
    assert SIGNATURE not in said
    assert not (tmp_path / "bundle").exists()
    named_none = Task(name="leaky", source=LEAKY.rstrip("\n") + "  # no secret\n")
    write_bundle(asked(named_none), asked(named_none).plan(federation), tmp_path / "bundle")


def test_a_run_folder_and_a_mirror_with_a_secret_are_refused(leaky: Task, tmp_path: Path) -> None:
    federation = silos(tmp_path / "data", ash=random_rows(8, 4, 0))
    with pytest.raises(StoreError, match="holds what looks like"):
        InProcess(folder=tmp_path / "runs").start(asked(leaky), federation)
    assert not list((tmp_path / "runs").glob("*/*"))
    run = InProcess(folder=None).start(asked(leaky), federation).wait()
    with pytest.raises(TrackingError, match="holds what looks like"):
        of_run(run)


def test_a_federation_with_a_secret_is_refused_with_its_line(tmp_path: Path) -> None:
    address = f"https://a.blob.core.windows.net/c?sig={SIGNATURE}"
    with pytest.raises(FederationError, match="data holds what looks like the signature of an Azure SAS") as caught:
        Silo(name="ash", data=address)
    assert SIGNATURE not in str(caught.value)
    with pytest.raises(FederationError, match="variables holds what looks like"):
        Orchestrator(variables={"DB_PASSWORD": "correct-horse"})  # no secret
    (tmp_path / "federation.yaml").write_text(f"silos:\n- name: ash\n  data: {address}\n", encoding="utf-8")
    with pytest.raises(FederationError, match=r"line 2, silo 1: data holds") as caught:
        Federation.load(tmp_path / "federation.yaml")
    assert SIGNATURE not in str(caught.value)


def test_errors_show_none() -> None:
    failure = StepFailed(f"HTTP 403 for ?sig={SIGNATURE}", op="fit", silo="ash", round=1, detail=f"  get({JWT!r})")
    assert SIGNATURE not in str(failure)
    assert "sig=***" in str(failure)
    assert JWT not in "\n".join(failure._render_traceback_())
    assert str(FlKitError("plain")) == "plain"


def test_the_log_keeps_none_and_nothing_that_utf8_cannot_hold(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    value = {"message": f"?sig={SIGNATURE}", "detail": f"a file called \udcff, {JWT}", "step": "fit"}
    log.append(Event(time=1.0, round=0, party="ash", name=NOTE, value=value))
    log.append(Event(time=1.0, round=0, party="ash", name=NOTE, value=f"Bearer {'a1' * 12}"))
    log.flush()
    text = (tmp_path / "events.jsonl").read_text(encoding="utf-8")
    assert SIGNATURE not in text
    assert JWT not in text
    first, second = EventLog.load(tmp_path / "events.jsonl").read()
    assert first.value == {"message": "?sig=***", "detail": "a file called ?, ***", "step": "fit"}
    assert second.value == "Bearer ***"
    assert json.loads(text.splitlines()[0])["value"] == first.value
