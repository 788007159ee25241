"""A silo's policy: k of n signatures, a list of digests, epsilon, outputs; and everything that it refuses."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fl_kit import Policy
from fl_kit.approvals import Approval, statement
from fl_kit.errors import PolicyError
from fl_kit.plan import Plan, Step
from fl_kit.policy import Offer, admit
from fl_kit.signing import public_word, sign

DIGEST, OTHER = "3f" * 32, "81" * 32
TIME = "2026-11-24T14:05:00Z"
PLAN = Plan(
    steps=(
        Step(op="fit", party="ash", round=1, inputs={}, outputs={"update": "shared", "memory": "private"}),
        Step(op="fit", party="birch", round=1, inputs={}, outputs={"note": "shared"}),
    )
)


@cache
def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


def public(*names: str) -> dict[str, str]:
    return {name: public_word(key(name).public_key()) for name in names}


def signed(name: str, digest: str = DIGEST, by: str = "") -> Approval:
    text = statement(digest, name, TIME)
    return Approval(digest=digest, approver=name, time=TIME, signature=sign(key(by or name), text))


def offer(*approvals: Approval, epsilons: tuple[Any, ...] = ()) -> Offer:
    transforms = [{"class": "task.Noise", "settings": {"epsilon": epsilon}} for epsilon in epsilons]
    transforms.append({"class": "task.Clip", "settings": {"norm": 1.0}})
    return Offer(digest=DIGEST, approvals=approvals, job={"transforms": transforms}, plan=PLAN)


TWO_OF_THREE = Policy(approvers=public("alice", "bob", "carol"), threshold=2)


def test_so_many_of_the_approvers_suffice_whoever_they_are() -> None:
    for pair in (("alice", "bob"), ("bob", "carol"), ("carol", "alice")):
        assert TWO_OF_THREE.objections("ash", offer(*map(signed, pair))) == []


@pytest.mark.parametrize(
    ("approvals", "why"),
    [
        ([], "0 of 2 needed approvals are valid. missing: alice, bob, carol"),
        ([signed("bob")], "1 of 2 needed approvals are valid: bob. missing: alice, carol"),
        ([signed("bob"), signed("bob")], "1 of 2 needed approvals are valid: bob. missing: alice, carol"),
        (
            [signed("bob"), signed("dave")],
            "1 of 2 needed approvals are valid: bob. missing: alice, carol. not counted: dave is no approver here",
        ),
        (
            [signed("bob"), signed("alice", OTHER)],
            "1 of 2 needed approvals are valid: bob. missing: alice, carol. "
            "not counted: alice signed another bundle, 818181818181…",
        ),
        (
            [signed("bob"), signed("alice", by="dave")],
            "1 of 2 needed approvals are valid: bob. missing: alice, carol. "
            "not counted: the signature of alice was not made with alice's key, or for something else",
        ),
        (  # bob's signature under alice's name, and under a digest that it was not made for
            [
                signed("bob"),
                Approval(digest=DIGEST, approver="alice", time=TIME, signature=signed("bob").signature),
                Approval(digest=DIGEST, approver="carol", time=TIME, signature=signed("carol", OTHER).signature),
            ],
            "1 of 2 needed approvals are valid: bob. missing: alice, carol. "
            "not counted: the signature of alice was not made with alice's key, or for something else; "
            "the signature of carol was not made with carol's key, or for something else",
        ),
    ],
    ids=["none", "one", "twice", "unknown", "another bundle", "another key", "stolen"],
)
def test_too_few_valid_approvals_are_told_apart(approvals: list[Approval], why: str) -> None:
    assert TWO_OF_THREE.objections("ash", offer(*approvals)) == [why]


def test_a_worthless_approval_takes_nothing_from_the_good_ones() -> None:
    good = (signed("alice"), signed("bob"))
    assert TWO_OF_THREE.objections("ash", offer(signed("dave"), signed("alice", OTHER), *good)) == []


def test_all_approvers_must_sign_where_no_threshold_is_given() -> None:
    both = Policy(approvers=public("alice", "bob"))
    assert both.objections("ash", offer(signed("alice"))) == ["1 of 2 needed approvals are valid: alice. missing: bob"]
    assert both.objections("ash", offer(signed("alice"), signed("bob"))) == []


def test_a_digest_that_the_owner_lists_needs_no_signature() -> None:
    assert Policy(allow=[DIGEST]).objections("ash", offer()) == []
    assert Policy(allow=[DIGEST], approvers=public("alice")).objections("ash", offer()) == []
    assert Policy(allow=[OTHER]).objections("ash", offer(signed("alice"))) == [
        "it is none of the 1 bundles that `allow` lists, and nobody's signature would do"
    ]
    assert Policy(allow=[OTHER], approvers=public("alice")).objections("ash", offer(signed("alice"))) == []


@pytest.mark.parametrize(
    ("epsilons", "why"),
    [
        ((), "it declares no epsilon, and at most 3 is asked for: add a transform that has one"),
        ((3.0,), ""),
        ((1, 2.0), ""),
        ((2.0, 2.0), "it declares an epsilon of 4; at most 3 is allowed"),
        ((-1.0,), "it declares an epsilon of nan; at most 3 is allowed"),
        ((float("nan"),), "it declares an epsilon of nan; at most 3 is allowed"),
        (("1",), "it declares an epsilon of nan; at most 3 is allowed"),
        ((True,), "it declares an epsilon of nan; at most 3 is allowed"),
    ],
)
def test_what_the_job_declares_to_spend_is_held_against_the_most(epsilons: tuple[Any, ...], why: str) -> None:
    assert Policy(max_epsilon=3.0).objections("ash", offer(epsilons=epsilons)) == ([why] if why else [])


def test_outputs_are_those_of_the_silos_own_steps_and_the_figures_of_its_updates() -> None:
    everything = ["update", "metrics", "memory"]
    assert Policy(outputs=everything).objections("ash", offer()) == []
    for lacking in everything:
        allowed = [name for name in everything if name != lacking]
        assert Policy(outputs=allowed).objections("ash", offer()) == [
            f"its steps here would give {lacking}; allowed is {', '.join(allowed)}"
        ]
    assert Policy(outputs=[]).objections("birch", offer()) == ["its steps here would give note; allowed is nothing"]
    assert Policy(outputs=["note"]).objections("birch", offer()) == []


def test_all_objections_are_told_at_once() -> None:
    assert len(Policy(approvers=public("alice"), max_epsilon=1.0, outputs=[]).objections("ash", offer())) == 3


def toml(folder: Path, text: str, keys: Mapping[str, str] | None = None) -> Path:
    lines = "".join(f'{name} = "{word}"\n' for name, word in (keys or {}).items())
    (folder / "policy.toml").write_text(f"{text}\n" + (f"[approvers]\n{lines}" if keys else ""), encoding="utf-8")
    return folder / "policy.toml"


def test_the_file_in_the_data_folder_is_asked_and_named(tmp_path: Path) -> None:
    admit("ash", str(tmp_path), offer())
    file = toml(tmp_path, "threshold = 1", public("alice", "bob"))
    admit("ash", str(tmp_path), offer(signed("bob")))
    with pytest.raises(PolicyError) as raised:
        admit("ash", str(tmp_path), offer())
    assert str(raised.value) == (
        f"silo ash refuses bundle {DIGEST}: 0 of 1 needed approvals are valid. missing: alice, bob. "
        f"So says {file}; approvers sign with `fl-kit approve`, and a backend is given `approvals`"
    )


def test_the_file_that_the_environment_names_is_asked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, elsewhere = tmp_path / "own", tmp_path / "elsewhere"
    own.mkdir()
    elsewhere.mkdir()
    monkeypatch.setenv("FL_KIT_POLICY", str(toml(elsewhere, "outputs = []")))
    with pytest.raises(PolicyError, match="elsewhere"):
        admit("ash", str(own), offer())
    with pytest.raises(PolicyError, match="elsewhere"):
        admit("ash", "", offer())
    toml(own, f'allow = ["{OTHER}"]')
    monkeypatch.setenv("FL_KIT_POLICY", str(toml(elsewhere, 'outputs = ["update", "memory", "metrics"]')))
    with pytest.raises(PolicyError, match="own"):  # a lax one elsewhere does not replace the strict one
        admit("ash", str(own), offer())
    monkeypatch.setenv("FL_KIT_POLICY", str(tmp_path / "gone.toml"))
    with pytest.raises(PolicyError, match=r"gone\.toml cannot be read: No such file.*nothing runs here"):
        admit("ash", "", offer())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("treshold = 2", "has 'treshold', which is none of approvers, threshold"),
        ("threshold = 1", "threshold is 1, of 0 approvers"),
        ("threshold", "is not TOML"),
        ("allow = 'all'", "allow must be a list"),
        ("allow = ['3f']", "allow holds '3f'; it must be digests"),
        ("allow = [3]", "allow holds '3'"),
        ("outputs = 'update'", "outputs must be a list"),
        ("outputs = ['a b']", "outputs holds 'a b'"),
        ("max_epsilon = -1", "max_epsilon is -1"),
        ("max_epsilon = nan", "max_epsilon is nan"),
        ("max_epsilon = true", "max_epsilon is True"),
        ("approvers = 3", "approvers must be a table"),
        ("[approvers]\nalice = 'ed25519:AAAA'", "the key of alice: 'ed25519:AAAA' is no public key"),
        ("[approvers]\nalice = 3", "the key of alice: '3' is no public key"),
        (f"[approvers]\n'a b' = '{public('alice')['alice']}'", "no approver can be called 'a b'"),
        (f"threshold = 0\n[approvers]\nalice = '{public('alice')['alice']}'", "threshold is 0, of 1 approvers"),
        (f"threshold = 2\n[approvers]\nalice = '{public('alice')['alice']}'", "threshold is 2, of 1 approvers"),
        (f"threshold = true\n[approvers]\nalice = '{public('alice')['alice']}'", "threshold is True"),
        (
            f"[approvers]\nalice = '{public('alice')['alice']}'\nbob = '{public('alice')['alice']}'",
            "alice and bob have the same key: one person would count twice",
        ),
        ("#" * (1 << 20) + "#", "larger than the 1,048,576 expected"),
    ],
)
def test_a_policy_in_disorder_lets_nothing_run(tmp_path: Path, text: str, why: str) -> None:
    toml(tmp_path, text)
    with pytest.raises(PolicyError) as raised:
        admit("ash", str(tmp_path), offer(signed("alice")))
    assert why in str(raised.value)
    assert str(tmp_path / "policy.toml") in str(raised.value)


@pytest.mark.skipif(os.name != "posix", reason="a link that leads nowhere needs no rights here")
def test_a_policy_that_cannot_be_followed_is_no_missing_one(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").symlink_to(tmp_path / "gone")
    with pytest.raises(PolicyError, match="cannot be read"):
        admit("ash", str(tmp_path), offer())
