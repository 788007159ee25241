"""Computes, datastores and assets through the unmodified SDK, and the door in front of them."""

import hashlib
import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from starlette.routing import Route

from fl_kit.azureml.places import instance_types
from sim.azureml import LocalWorkspace
from sim.azureml.arm import BUILT_IN
from sim.azureml.credential import LocalCredential
from sim.azureml.identity import identity_secret
from sim.azureml.server import OPEN, application
from sim.azureml.state import WorkspaceState
from sim.azureml.tokens import STEP_AUDIENCE, bearer

MISSING = ResourceNotFoundError


class Web:
    """Calls that no SDK would make, over HTTPS, exactly as they are written here."""

    def __init__(self, workspace: LocalWorkspace) -> None:
        self.state = workspace.state
        self.outside = workspace.root.parent
        self.trust = ssl.create_default_context(cafile=str(workspace.root / "tls" / "authority.pem"))

    def __call__(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer."""
        connection = HTTPSConnection("127.0.0.1", self.state.settings.port, context=self.trust, timeout=30)
        with closing(connection):
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            text = answer.read()
        return answer.status, json.loads(text) if text else {}

    def token(self, audience: str = "anyone") -> str:
        return f"Bearer {bearer(self.state, audience)}"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    workspace = LocalWorkspace(tmp_path_factory.mktemp("web") / "root").start(point=False)
    yield Web(workspace)
    workspace.stop()


# The door.


def test_no_call_is_answered_without_a_token(web: Web, tmp_path: Path) -> None:
    routes = [route for route in application(WorkspaceState.open(tmp_path)).routes if isinstance(route, Route)]
    closed = [route for route in routes if not route.path.startswith(OPEN)]
    assert len(closed) > 40
    for route in closed:
        for method in sorted(route.methods or ()):
            path = route.path.replace(":path", "").replace("{", "").replace("}", "")
            assert web(method, path)[0] == 401, f"{method} {path}"


def test_a_steps_token_reads_no_silos_secrets(web: Web) -> None:
    path = f"{web.state.settings.scope}/datastores/workspaceblobstore/listSecrets"
    assert web("POST", path, authorization=web.token())[0] == 200
    assert web("POST", path, authorization=web.token(STEP_AUDIENCE))[0] == 403


def test_tokens_are_given_only_to_who_knows_the_secret(web: Web) -> None:
    asked = ("GET", "/msi/token?api-version=2017-09-01&resource=x")
    assert "access_token" in web(*asked, secret=identity_secret(web.state))[1]
    assert web(*asked)[0] == web(*asked, secret="")[0] == web(*asked, secret="local")[0] == 401


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH", "DELETE"])
def test_what_is_not_served_is_named(web: Web, method: str) -> None:
    path = f"{web.state.settings.scope}/onlineEndpoints/mine"
    status, answer = web(method, path, authorization=web.token())
    assert status == 404
    assert f"does not serve {method} {path}" in answer["error"]["message"]


@pytest.mark.parametrize("kind", ["datastores", "computes", "data", "components"])
@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..%2fx", "a%2f..%2f..%2fb", "%00", "a%5cb"])
def test_a_name_leads_nowhere(web: Web, kind: str, name: str) -> None:
    def around() -> list[Path]:
        return sorted(path for path in web.outside.rglob("*") if not path.is_relative_to(web.state.root))

    before = around()
    path = f"{web.state.settings.scope}/{kind}/{name}" + ("/versions/1" if kind in ("data", "components") else "")
    body = json.dumps({"properties": {"datastoreType": "AzureBlob", "computeType": "AmlCompute"}}).encode()
    assert web("PUT", path, body, authorization=web.token())[0] < 500
    assert around() == before
    kept = (web.state.root / "documents").rglob("*.json")
    assert {file.parent.parent for file in kept} == {web.state.root / "documents"}
    assert {folder.name for folder in (web.state.root / "storage").iterdir()} == set(BUILT_IN)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b'{"properties": 3}', b"\xff"])
def test_a_body_that_is_no_resource_is_refused(web: Web, body: bytes) -> None:
    for path in ("computes/x", "datastores/x", "data/x/versions/1"):
        status, answer = web("PUT", f"{web.state.settings.scope}/{path}", body, authorization=web.token())
        assert (status, answer["error"]["code"]) == (400, "InvalidRequestContent")


@pytest.mark.parametrize("part", ["subscription", "resource_group", "name"])
def test_another_workspace_is_not_found(workspace: LocalWorkspace, part: str) -> None:
    from azure.ai.ml import MLClient

    settings = workspace.state.settings
    names = {key: getattr(settings, key) for key in ("subscription", "resource_group", "name")} | {part: "elsewhere"}
    client = MLClient(LocalCredential(workspace.state), *names.values(), enable_telemetry=False)
    with pytest.raises(MISSING, match=r"'elsewhere' (could not be|was not) found"):
        client.compute.get("alpha")


def test_an_expired_token_is_told_apart(workspace: LocalWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.azureml.credential.MINUTES", -1)
    with pytest.raises(ClientAuthenticationError, match="expired"):
        workspace.client().compute.get("alpha")


# Workspace, computes, datastores.


def test_the_workspace_describes_itself(workspace: LocalWorkspace, client: Any) -> None:
    found = client.workspaces.get(client.workspace_name)
    assert found.mlflow_tracking_uri == f"{workspace.url}/mlflow/v2.0{workspace.state.settings.scope}"
    assert [each.name for each in client.workspaces.list()] == ["local"]


def test_computes_of_the_federation(client: Any) -> None:
    found = {compute.name: compute for compute in client.compute.list()}
    assert {name: found[name].type for name in ("orchestrator", "alpha", "arc-1")} == {
        "orchestrator": "amlcompute",
        "alpha": "amlcompute",
        "arc-1": "kubernetes",
    }
    assert found["alpha"].tags == {"silo": "alpha", "region": "north"}
    assert found["arc-1"].provisioning_state == "Succeeded"
    assert set(instance_types(client.compute.get("arc-1"))) == {"gpu-small"}


def test_a_compute_is_made_and_deleted(client: Any) -> None:
    from azure.ai.ml.entities import AmlCompute, KubernetesCompute

    made = client.compute.begin_create_or_update(
        AmlCompute(name="new", size="STANDARD_DS3_V2", max_instances=3)
    ).result()
    assert (made.size, made.max_instances) == ("STANDARD_DS3_V2", 3)
    cluster = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Kubernetes/connectedClusters/c"
    attached = KubernetesCompute(name="arc-2", namespace="fl", resource_id=cluster)
    assert client.compute.begin_create_or_update(attached).result().namespace == "fl"
    client.compute.begin_delete("new").result()
    with pytest.raises(MISSING, match="computes 'new' was not found in this workspace; there is alpha, arc-1, arc-2"):
        client.compute.get("new")


def test_a_compute_of_a_kind_that_is_not_here_is_refused(client: Any) -> None:
    from azure.ai.ml.entities import ComputeInstance

    with pytest.raises(HttpResponseError, match="ComputeInstance"):
        client.compute.begin_create_or_update(ComputeInstance(name="mine", size="STANDARD_DS3_V2"))


def test_datastores_of_the_federation(client: Any) -> None:
    found = {store.name: store.tags for store in client.datastores.list()}
    assert found["alpha_store"] == {"silo": "alpha", "region": "north"}
    assert found["orchestrator_store"] == {"silo": "orchestrator"}
    assert client.datastores.get_default().name == "workspaceblobstore"
    with pytest.raises(MISSING, match="datastores 'alfa_store' was not found in this workspace; there is alpha_store"):
        client.datastores.get("alfa_store")


def test_a_datastores_secret_opens_that_datastore_only(workspace: LocalWorkspace, client: Any) -> None:
    from azure.storage.blob import ContainerClient

    store = client.datastores.get("alpha_store", include_secrets=True)
    sas = store.credentials.sas_token
    own = ContainerClient.from_container_url(f"{workspace.state.settings.container_url('alpha_store')}?{sas}")
    assert sorted(own.list_blob_names()) == ["data/deep/more.csv", "data/rows.csv"]
    assert own.download_blob("data/rows.csv").readall() == b"x,y\n1,alpha\n"
    other = ContainerClient.from_container_url(f"{workspace.state.settings.container_url('bravo_store')}?{sas}")
    with pytest.raises(HttpResponseError) as caught:
        list(other.list_blob_names())
    assert caught.value.status_code == 403


def test_a_datastore_is_made_and_deleted_and_keeps_its_blobs(workspace: LocalWorkspace, client: Any) -> None:
    from azure.ai.ml.entities import AzureBlobDatastore

    def make() -> Any:
        store = AzureBlobDatastore(name="mine", account_name="contoso", container_name="rows", tags={"silo": "x"})
        return client.datastores.create_or_update(store)

    made = make()
    assert (made.container_name, made.tags) == ("mine", {"silo": "x"})
    (workspace.storage("mine") / "kept.txt").write_text("kept")
    client.datastores.delete("mine")
    with pytest.raises(MISSING):
        client.datastores.get("mine")
    make()
    assert (workspace.storage("mine") / "kept.txt").read_text() == "kept"
    client.datastores.delete("mine")


def test_the_workspaces_own_datastores_stay(client: Any) -> None:
    with pytest.raises(HttpResponseError, match="belongs to the workspace"):
        client.datastores.delete("workspaceblobstore")


# Assets.


def component(folder: Path, command: str = "python main.py ${{inputs.rows}}", *, source: str = "import sys\n") -> Any:
    """A command component with code of its own, as a user builds it."""
    from azure.ai.ml import Input
    from azure.ai.ml import command as build

    code = folder / hashlib.sha256(source.encode()).hexdigest() / "code"
    code.mkdir(parents=True, exist_ok=True)
    (code / "main.py").write_text(source)
    rows = Input(type="uri_folder")
    return build(
        name="fit", command=command, inputs={"rows": rows}, environment="azureml:base:1", code=str(code)
    ).component


@pytest.fixture
def base(client: Any) -> Any:
    from azure.ai.ml.entities import Environment

    return client.environments.create_or_update(Environment(name="base", version="1", image="python:3.11"))


def test_environments_have_versions(client: Any, base: Any) -> None:
    from azure.ai.ml.entities import Environment

    for image in ("a:1", "a:2"):
        client.environments.create_or_update(Environment(name="counted", image=image, conda_file={"dependencies": []}))
    assert [found.version for found in client.environments.list(name="counted")] == ["2", "1"]
    assert client.environments.get("counted", label="latest").image == "a:2"
    assert client.environments.get("counted", version="1").image == "a:1"
    assert "counted" in [found.name for found in client.environments.list()]


def test_a_version_that_exists_is_not_changed(client: Any, base: Any) -> None:
    from azure.ai.ml.entities import Environment

    again = client.environments.create_or_update(Environment(name="base", version="1", image="python:3.11"))
    assert again.version == "1"
    with pytest.raises(ResourceExistsError, match="environments base:1 exists with another image"):
        client.environments.create_or_update(Environment(name="base", version="1", image="python:3.12"))
    assert client.environments.get("base", version="1").image == "python:3.11"


def test_a_component_is_kept_whole_and_its_code_uploaded_once(
    workspace: LocalWorkspace, client: Any, base: Any
) -> None:
    made = client.components.create_or_update(component(Path.cwd(), "python main.py $[[--rows ${{inputs.rows}}]]"))
    found = client.components.get("fit")
    assert (made.version, found.version) == ("1", "1")
    assert found.command == "python main.py $[[--rows ${{inputs.rows}}]]"
    assert found.inputs["rows"].type == "uri_folder"

    stamps = {file: file.stat().st_mtime_ns for file in uploaded(workspace)}
    second = client.components.create_or_update(component(Path.cwd(), "python main.py again ${{inputs.rows}}"))
    assert (second.version, second.code) == ("2", made.code)
    assert {file: file.stat().st_mtime_ns for file in uploaded(workspace)} == stamps


def test_snapshots_from_folders_of_one_name_are_kept_apart(workspace: LocalWorkspace, client: Any, base: Any) -> None:
    before = set(uploaded(workspace))
    built = [component(Path.cwd(), source=f"x = {i}\n") for i in range(2)]
    codes = {client.components.create_or_update(each).code for each in built}
    assert len(codes) == 2
    assert sorted(file.read_text() for file in set(uploaded(workspace)) - before) == ["x = 0\n", "x = 1\n"]
    for code in codes:
        name, _, version = code.split("/codes/")[1].partition("/versions/")
        (folder,) = (workspace.storage("workspaceblobstore") / "codes" / name / version).iterdir()
        kept = workspace.state.documents.get("codes", name, version)
        assert kept is not None
        assert kept["properties"]["codeUri"].endswith(f"/codes/{name}/{version}/{folder.name}")


def uploaded(workspace: LocalWorkspace) -> list[Path]:
    return sorted((workspace.storage("workspaceblobstore") / "codes").rglob("main.py"))


def test_data_assets_have_versions_and_the_address_that_azure_gives(client: Any) -> None:
    from azure.ai.ml.entities import Data

    (Path.cwd() / "rows.csv").write_text("x\n1\n")
    uploaded = client.data.create_or_update(Data(name="rows", path="rows.csv", type="uri_file"))
    path = "azureml://datastores/alpha_store/paths/data/"
    named = client.data.create_or_update(Data(name="rows", path=path, type="uri_folder"))
    assert (uploaded.version, named.version) == ("1", "2")
    assert uploaded.path.endswith("/rows.csv")
    assert named.path == (
        f"azureml://subscriptions/{client.subscription_id}/resourcegroups/{client.resource_group_name}"
        f"/workspaces/{client.workspace_name}/datastores/alpha_store/paths/data/"
    )
    assert client.data.get("rows", label="latest").version == "2"
    assert {found.name: found.latest_version for found in client.data.list()}["rows"] == "2"


def test_a_data_asset_in_a_datastore_that_is_not_there_is_refused(client: Any) -> None:
    from azure.ai.ml.entities import Data

    with pytest.raises(HttpResponseError, match="there is no datastore 'nowhere'"):
        client.data.create_or_update(Data(name="lost", path="azureml://datastores/nowhere/paths/x", type="uri_folder"))
    with pytest.raises(MISSING, match="data 'lost:1' was not found"):
        client.data.get("lost", version="1")


@pytest.mark.filterwarnings("ignore:.*(BlobProperties|content_as_bytes):DeprecationWarning")
def test_a_model_comes_back_as_it_went(client: Any) -> None:
    from azure.ai.ml.entities import Model

    (Path.cwd() / "model").mkdir()
    (Path.cwd() / "model" / "weights.bin").write_bytes(bytes(range(256)) * 40)
    model = Model(name="net", path="model", type="custom_model", tags={"run": "r1"}, description="first")
    made = client.models.create_or_update(model)
    assert (made.version, made.tags, made.description) == ("1", {"run": "r1"}, "first")
    client.models.download("net", "1", download_path="back")
    (file,) = Path("back").rglob("weights.bin")
    assert file.read_bytes() == bytes(range(256)) * 40


def test_an_mlflow_models_flavors_are_known(client: Any) -> None:
    from azure.ai.ml.entities import Model

    Path("flavoured").mkdir()
    Path("flavoured", "MLmodel").write_text("flavors:\n  pytorch:\n    pytorch_version: 2.6\n    code: null\n")
    made = client.models.create_or_update(Model(name="flavoured", path="flavoured", type="mlflow_model"))
    assert made.flavors == {"pytorch": {"pytorch_version": "2.6", "code": "None"}}
    assert client.models.get("flavoured", "1").flavors == made.flavors


@pytest.mark.parametrize("text", [None, "", "- a list", "flavors: 3", "flavors: {pytorch: 3}", "flavors: [", "é\udcff"])
def test_an_mlflow_model_that_is_none_is_refused(workspace: LocalWorkspace, client: Any, text: str | None) -> None:
    from azure.ai.ml.entities import Model

    folder = workspace.storage("orchestrator_store") / "plain"
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").unlink(missing_ok=True)
    if text is not None:
        (folder / "MLmodel").write_bytes(text.encode(errors="surrogateescape"))
    model = Model(name="plain", path="azureml://datastores/orchestrator_store/paths/plain/", type="mlflow_model")
    with pytest.raises(HttpResponseError, match="no file MLmodel" if text is None else "describes no flavors"):
        client.models.create_or_update(model)


def test_tags_of_a_model_may_change_its_files_may_not(client: Any) -> None:
    from azure.ai.ml.entities import Model

    def put(path: str, **tags: str) -> Any:
        return client.models.create_or_update(
            Model(name="fixed", version="1", path=path, type="custom_model", tags=tags)
        )

    put("azureml://datastores/alpha_store/paths/data/", stage="new")
    assert put("azureml://datastores/alpha_store/paths/data/", stage="good").tags == {"stage": "good"}
    with pytest.raises(ResourceExistsError, match="models fixed:1 exists with another modelUri"):
        put("azureml://datastores/bravo_store/paths/data/")


def test_what_is_archived_is_out_of_sight_and_can_come_back(client: Any) -> None:
    from azure.ai.ml.entities import Model

    for _ in range(2):
        client.models.create_or_update(Model(name="old", path="azureml://datastores/alpha_store/paths/data/"))
    client.models.archive("old", version="1")
    assert [model.version for model in client.models.list("old")] == ["2"]
    client.models.archive("old")
    assert "old" not in [model.name for model in client.models.list()]
    client.models.restore("old")
    client.models.restore("old", version="1")
    assert sorted(model.version for model in client.models.list("old")) == ["1", "2"]
    assert "old" in [model.name for model in client.models.list()]
