"""`fl-kit keygen`, `approve` and `verify-audit`: approvers' keys, their signatures for bundles, and the audit log."""

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import Any

from fl_kit.approvals import approve
from fl_kit.audit import verify_audit
from fl_kit.bundle import verify
from fl_kit.errors import ApprovalError
from fl_kit.signing import is_encrypted, make_key

PASSPHRASE = "FL_KIT_KEY_PASSPHRASE"
"""The environment variable of a key's passphrase, for where nobody can be asked."""


def add_approval_commands(commands: Any) -> None:
    """Add them to the subcommands of `fl-kit`."""
    keygen = commands.add_parser("keygen", help="make an approver's key: a private file, and a word for policies")
    keygen.add_argument("key", type=Path, metavar="FILE", help="a new file for the private key, in PEM")
    keygen.add_argument("--passphrase", action="store_true",
                        help=f"encrypt it; asked for, unless {PASSPHRASE} holds one")  # fmt: skip
    keygen.set_defaults(work=run_keygen)

    sign = commands.add_parser("approve", help="sign for a bundle that you have read")
    sign.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="your private key")
    sign.add_argument("--name", required=True, help="your name, as silos' policies have it")
    sign.add_argument("--digest", default="", help="the digest that you have read; any other is refused")
    sign.add_argument("--audit", type=Path, metavar="FILE", help="an audit log to record it in")
    sign.set_defaults(work=run_approve)

    audit = commands.add_parser("verify-audit", help="whether an audit log is whole, and what it says")
    audit.add_argument("log", type=Path, metavar="LOG", help="the file, or the folder of runs that it lies in")
    audit.add_argument("--runs", type=Path, metavar="FOLDER", help="the runs that remember lines of it")
    audit.add_argument("--head", default="", metavar="SHA256", help="of a line that must still be there")
    audit.set_defaults(work=run_verify_audit)


def run_keygen(asked: argparse.Namespace) -> int:
    """Make a key, and print the public one."""
    passphrase = os.environ.get(PASSPHRASE, "")
    if asked.passphrase and not passphrase:
        passphrase = ask("Passphrase of the new key: ")
        if not passphrase or ask("Once more: ") != passphrase:
            raise ApprovalError("the passphrase is empty, or the two differ: no key was made")
    public = make_key(asked.key, passphrase=passphrase)
    print(public)
    guarded = "is encrypted" if passphrase else "is NOT encrypted: whoever can read it can sign as you"
    print(f'{asked.key} {guarded}. The line above goes into silos\' policies: name = "{public}"', file=sys.stderr)
    return 0


def run_approve(asked: argparse.Namespace) -> int:
    """Sign, and say what for."""
    passphrase = os.environ.get(PASSPHRASE, "")
    verify(asked.bundle, asked.digest)
    if not passphrase and encrypted(asked.key):
        passphrase = ask(f"Passphrase of {asked.key}: ")
    approval = approve(asked.bundle, key=asked.key, name=asked.name, passphrase=passphrase, audit=asked.audit)
    print(f"{approval.approver} approved {approval.digest} at {approval.time}")
    return 0


def run_verify_audit(asked: argparse.Namespace) -> int:
    """Show the log, if its chain is whole."""
    print(verify_audit(asked.log, runs=asked.runs, head=asked.head).table().text())
    return 0


def encrypted(key: Path) -> bool:
    """Whether a key asks for a passphrase; of a file that cannot be read, `approve` says what is wrong."""
    return key.is_file() and is_encrypted(key.read_bytes())


def ask(question: str) -> str:
    """A passphrase that somebody types unseen; raises ApprovalError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise ApprovalError(f"nobody can be asked for the passphrase here: put it into {PASSPHRASE}")
    return getpass.getpass(question)
