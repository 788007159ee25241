"""Approvals: who has read a bundle, and signed for its digest.

They lie beside the bundle, since its digest must not depend on who approves it:

    to_approve/bundle/              what `write_bundle` wrote; its digest is what is approved
    to_approve/approvals/alice.json digest, approver, time, and an Ed25519 signature over the three

A silo's own policy says whose approval counts, and how many are needed: see `fl_kit.policy`.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fl_kit.audit import APPROVED, PATH, add
from fl_kit.bounded import name_fault, parse_json, read_bytes
from fl_kit.bundle import Bundle, verify
from fl_kit.errors import ApprovalError
from fl_kit.files import write_text
from fl_kit.signing import read_key, sign

FOLDER = "approvals"
PACKED = "approvals.json"
"""All approvals of a run in one file, in its run folder."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
DIGEST = re.compile(r"[0-9a-f]{64}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
LARGEST_FILE, MOST = 256 << 10, 256


@dataclass(frozen=True, kw_only=True)
class Approval:
    """One approver's signature for one bundle.

    digest     of the bundle, 64 hexadecimal digits
    approver   a name; whose key it must be is said by each silo's policy
    time       when it was signed, as the approver's clock had it: `2026-11-24T14:05:00Z`
    signature  Ed25519 over `statement`, in base 64

    Raises ApprovalError for a field of another form.
    """

    digest: str
    approver: str
    time: str
    signature: str

    def __post_init__(self) -> None:
        for name, form in (("digest", DIGEST), ("approver", NAME), ("time", TIME)):
            value: object = getattr(self, name)
            if not (isinstance(value, str) and form.fullmatch(value)):
                raise ApprovalError(f"an approval's {name} cannot be {str(value)[:80]!r}")
        signature: object = self.signature
        if not isinstance(signature, str) or len(signature) > 100:
            raise ApprovalError(f"the signature of {self.approver} is none")

    @property
    def statement(self) -> bytes:
        """What is signed: the same bytes wherever it is written."""
        return statement(self.digest, self.approver, self.time)


def statement(digest: str, approver: str, time: str) -> bytes:
    """The bytes that an approver signs."""
    return f"fl-kit approval, format 1\ndigest {digest}\napprover {approver}\ntime {time}\n".encode()


def approve(
    bundle: Bundle | str | Path,
    *,
    key: str | Path,
    name: str,
    passphrase: str = "",
    audit: str | Path | None = None,
) -> Approval:
    """Sign for a bundle, and put the approval beside it as `approvals/<name>.json`; gives it.

    bundle      its folder, which is verified first: what is signed is the digest of what lies there
    key         file of the approver's private key, which `fl-kit keygen` makes
    name        under which silos' policies know the approver
    passphrase  of the key, if it is encrypted
    audit       an audit log to record it in, beside the one that FL_KIT_AUDIT names, if it does

    Signing a bundle again replaces one's own approval. Raises BundleError for a bundle that was changed, ApprovalError
    for a key that cannot be used, or if the approval there is for another bundle.

    >>> from fl_kit.signing import make_key
    >>> public = make_key("alice.pem")
    >>> bundle = write_bundle(job, job.plan(federation), "signed/bundle")
    >>> approve(bundle, key="alice.pem", name="alice").approver
    'alice'
    """
    folder = bundle.folder if isinstance(bundle, Bundle) else Path(bundle)
    digest, time = verify(folder).digest, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if not NAME.fullmatch(name) or name_fault(f"{name}.json"):
        raise ApprovalError(f"an approver's name cannot be {name[:80]!r}: use letters, digits, '.', '_', '@' and '-'")
    made = sign(read_key(key, passphrase=passphrase), statement(digest, name, time))
    approval = Approval(digest=digest, approver=name, time=time, signature=made)
    file = folder.resolve().parent / FOLDER / f"{name}.json"
    for other in read_file(file) if file.exists() else ():
        if other.digest != digest:
            raise ApprovalError(
                f"{file} approves the bundle {other.digest}, and this one is {digest}: give each bundle a folder of "
                "its own to lie in, or remove that file"
            )
    try:
        file.parent.mkdir(exist_ok=True)
        write_text(file, json.dumps(asdict(approval), indent=1) + "\n", durable=True)
    except OSError as error:
        raise ApprovalError(f"the approval cannot be written to {file}: {error.strerror}") from error
    for log in {Path(each) for each in (audit, os.environ.get(PATH)) if each}:
        add(log, APPROVED, digest=digest, who=name)
    return approval


def read_approvals(place: str | Path) -> tuple[Approval, ...]:
    """The approvals in a folder of `*.json`, or in one file that holds one or a list of them.

    Whether a signature is good is not asked here. Raises ApprovalError, naming the file, for what is no approval.
    """
    place = Path(place)
    if not place.is_dir():
        return read_file(place)
    files = sorted(place.glob("*.json"))
    if len(files) > MOST:
        raise ApprovalError(f"{place} holds {len(files):,} files; more than {MOST} approvals are read from nowhere")
    return tuple(approval for file in files for approval in read_file(file))


def read_file(file: Path) -> tuple[Approval, ...]:
    """The approvals in one file."""
    try:
        found = parse_json(read_bytes(file, limit=LARGEST_FILE, links=True))
        entries = found if isinstance(found, list) else [found]
        if len(entries) > MOST:
            raise ApprovalError(f"{file} holds {len(entries):,} approvals; at most {MOST} are read")
        return tuple(from_dict(entry) for entry in entries)
    except OSError as error:
        raise ApprovalError(f"{file} cannot be read: {error.strerror}") from error
    except (ApprovalError, ValueError, TypeError) as error:
        raise ApprovalError(f"{file} holds no approval: {error}") from error


def from_dict(entry: Any) -> Approval:
    known = {field.name for field in fields(Approval)}
    if not isinstance(entry, dict) or set(entry) != known:
        raise ValueError(f"expected the fields {', '.join(sorted(known))}")
    return Approval(**entry)


def packed(approvals: Iterable[Approval]) -> str:
    """Approvals as the text of one file; the same for the same ones."""
    entries = sorted((asdict(each) for each in approvals), key=lambda each: (each["approver"], each["signature"]))
    return json.dumps(entries, indent=1) + "\n"


def brought(given: str | Path | None, run: Path | None) -> tuple[Approval, ...]:
    """The approvals of a run: those that it is given, which its folder keeps; else those that were kept there.

    run  the run folder, or None for a run that is kept in memory only

    Raises ApprovalError for what cannot be read or kept.
    """
    kept = None if run is None else run / PACKED
    if given is None:
        return read_file(kept) if kept is not None and kept.exists() else ()
    found = read_approvals(given)
    if kept is not None:
        try:
            write_text(kept, packed(found), durable=True)
        except OSError as error:
            raise ApprovalError(f"the approvals cannot be kept in {kept}: {error.strerror}") from error
    return found
