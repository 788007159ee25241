"""What lets a caller in, and every way in which it does not."""

import base64
import json
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.azureml.errors import WorkspaceError
from sim.azureml.state import WorkspaceState
from sim.azureml.tokens import STEP_AUDIENCE, bearer, check_bearer, check_sas, sas

AUDIENCE = "https://ml.azure.localhost"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> WorkspaceState:
    return WorkspaceState.open(tmp_path_factory.mktemp("tokens"))


def fields(state: WorkspaceState, datastore: str, **settings: object) -> dict[str, str]:
    return dict(parse_qsl(sas(state, datastore, **settings)))  # type: ignore[arg-type]


def claims(token: str) -> dict[str, object]:
    """The claims as a client reads them, who cannot check the signature."""
    body = token.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def test_a_token_opens_the_workspace_that_issued_it(home: WorkspaceState) -> None:
    check_bearer(home, f"Bearer {bearer(home, AUDIENCE)}")
    check_bearer(home, f"bearer {bearer(home, AUDIENCE)}")


def test_a_token_says_what_the_sdk_reads(home: WorkspaceState) -> None:
    found = claims(bearer(home, AUDIENCE, minutes=2))
    assert found["aud"] == AUDIENCE
    assert found["tid"]
    assert int(str(found["exp"])) - int(str(found["iat"])) == 120


def test_a_token_opens_no_other_workspace(home: WorkspaceState, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="not issued by this workspace") as caught:
        check_bearer(WorkspaceState.open(tmp_path), f"Bearer {bearer(home, AUDIENCE)}")
    assert caught.value.status == 401


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer abc", "Bearer a.b.c", "Bearer é.é"]
)
def test_what_is_no_token_is_refused(home: WorkspaceState, header: str | None) -> None:
    with pytest.raises(WorkspaceError) as caught:
        check_bearer(home, header)
    assert caught.value.status == 401


def test_an_expired_token_is_refused(home: WorkspaceState) -> None:
    with pytest.raises(WorkspaceError, match="expired") as caught:
        check_bearer(home, f"Bearer {bearer(home, AUDIENCE, minutes=-1)}")
    assert caught.value.status == 401


@given(data=st.data())
def test_a_token_with_any_character_changed_is_refused(home: WorkspaceState, data: st.DataObject) -> None:
    token = bearer(home, AUDIENCE)
    # The last character holds two bits that base64 throws away; all others count.
    place = data.draw(st.integers(0, len(token) - 2))
    other = data.draw(st.sampled_from("AZaz09-_.").filter(lambda c: c != token[place]))
    with pytest.raises(WorkspaceError):
        check_bearer(home, f"Bearer {token[:place]}{other}{token[place + 1 :]}")


def test_claims_cannot_be_exchanged_and_signing_cannot_be_left_out(home: WorkspaceState) -> None:
    head, body, signature = bearer(home, AUDIENCE, minutes=-1).split(".")
    forged = base64.urlsafe_b64encode(json.dumps({**claims(f"{head}.{body}.x"), "exp": 10**11}).encode()).decode()
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    for token in (f"{head}.{forged.rstrip('=')}.{signature}", f"{none}.{forged.rstrip('=')}."):
        with pytest.raises(WorkspaceError, match="not issued"):
            check_bearer(home, f"Bearer {token}")


def test_a_steps_token_is_good_only_where_steps_may_call(home: WorkspaceState) -> None:
    token = f"Bearer {bearer(home, STEP_AUDIENCE)}"
    check_bearer(home, token, step=True)
    with pytest.raises(WorkspaceError, match="metrics interface") as caught:
        check_bearer(home, token)
    assert caught.value.status == 403


def test_a_signature_opens_its_datastore(home: WorkspaceState) -> None:
    for needs in "racwdl":
        check_sas(home, "alpha_store", fields(home, "alpha_store"), needs=needs)


def test_a_signature_opens_no_other_datastore(home: WorkspaceState) -> None:
    with pytest.raises(WorkspaceError, match="bravo_store") as caught:
        check_sas(home, "bravo_store", fields(home, "alpha_store"), needs="r")
    assert caught.value.status == 403


def test_a_signature_of_another_workspace_opens_nothing(home: WorkspaceState, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError):
        check_sas(WorkspaceState.open(tmp_path), "alpha_store", fields(home, "alpha_store"), needs="r")


def test_a_call_without_a_signature_is_refused(home: WorkspaceState) -> None:
    with pytest.raises(WorkspaceError, match="no shared access signature"):
        check_sas(home, "alpha_store", {}, needs="r")


def test_an_expired_signature_is_refused(home: WorkspaceState) -> None:
    with pytest.raises(WorkspaceError, match="expired"):
        check_sas(home, "alpha_store", fields(home, "alpha_store", minutes=-1), needs="r")


@given(granted=st.text("racwdl", min_size=1, max_size=6), needs=st.text("racwdl", min_size=1, max_size=2))
def test_one_of_the_permissions_needed_must_be_granted(home: WorkspaceState, granted: str, needs: str) -> None:
    query = fields(home, "alpha_store", permissions=granted)
    if any(letter in granted for letter in needs):
        check_sas(home, "alpha_store", query, needs=needs)
    else:
        with pytest.raises(WorkspaceError, match="grants"):
            check_sas(home, "alpha_store", query, needs=needs)


@pytest.mark.parametrize("change", [{"sp": "racwdl"}, {"se": "2999-01-01T00:00:00Z"}, {"sig": "AAAA"}, {"sig": "é"}])
def test_a_signature_cannot_be_stretched(home: WorkspaceState, change: dict[str, str]) -> None:
    weak = fields(home, "alpha_store", permissions="r", minutes=1)
    with pytest.raises(WorkspaceError) as caught:
        check_sas(home, "alpha_store", {**weak, **change}, needs="r")
    assert caught.value.status == 403
