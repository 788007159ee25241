"""What looks like a secret in a text: found before the text travels, and masked where it cannot be refused.

A short list of the forms that matter where federated learning is run, each so particular that digests, run ids and
pictures do not have it. A person says that a line holds none by ending it with `# no secret`. It is no substitute for
keeping secrets out of code: a password that looks like any word is not found.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

NO_SECRET = "# no secret"
"""What a line ends with that only looks as if it held one."""
MASK = "***"
NAMES = (
    r"(?:[a-z0-9_]*_)?(?:password|passwd|pwd|secret|client[_-]?secret|api[_-]?key|account[_-]?key|access[_-]?key"
    r"|secret[_-]?access[_-]?key|secret[_-]?key|access[_-]?token|auth[_-]?token|refresh[_-]?token|sas[_-]?token)"
)
"""Names whose values are secrets, in code and in connection strings."""
PLACEHOLDER = r"(?![<{$*%]|\.\.\.|…|x{3}|your|example|changeme|none\b|null\b|true\b|false\b)"
"""What stands in place of a value in documents and templates."""


RULES = (
    ("the signature of an Azure SAS", "sig=", r"\bsig=(?P<secret>[A-Za-z0-9%+/_-]{30,200}={0,2})"),
    ("a key of Azure", "key=", r"\b(?:AccountKey|SharedAccessKey)=(?P<secret>[A-Za-z0-9+/]{30,100}={0,2})"),
    (
        "a key of Azure storage",
        "==",
        r"(?<![A-Za-z0-9+/=])(?<!sha512-)(?P<secret>[A-Za-z0-9+/]{86}==)(?![A-Za-z0-9+/=])",
    ),
    ("a secret of Microsoft Entra", "q~", r"(?<![\w.~-])(?P<secret>[\w~.-]{3}[0-9]q~[\w~.-]{31,34})(?![\w~.-])"),
    ("a JSON web token", "eyj", r"\b(?P<secret>eyJ[\w-]{8,2000}\.eyJ[\w-]{8,3000}\.[\w-]{8,1000})"),
    ("a bearer token", "bearer", r"\bBearer[ :=]{1,3}(?P<secret>(?=[a-z._~+/-]{0,200}[0-9])[a-z0-9._~+/-]{20,4000}=*)"),
    ("a password in a header", "basic", r"\bAuthorization\W{1,6}Basic\s+(?P<secret>[a-z0-9+/]{8,400}=*)"),
    ("a token of GitHub", "gh", r"\b(?P<secret>gh[pousr]_[a-z0-9]{36,251})\b"),
    ("a token of GitHub", "github_pat_", r"\b(?P<secret>github_pat_\w{40,255})\b"),
    ("a token of GitLab", "glpat-", r"\b(?P<secret>glpat-[\w-]{20,60})"),
    ("a key of AWS", "ia", r"(?-i:\b(?P<secret>(?:AKIA|ASIA)[0-9A-Z]{16})\b)"),
    ("a token of Hugging Face", "hf_", r"(?-i:\b(?P<secret>hf_[A-Za-z0-9]{30,60})\b)"),
    (
        "a key of OpenAI or Anthropic",
        "sk-",
        r"\b(?P<secret>sk-(?:(?:proj|svcacct|admin|ant)-[\w-]{20,300}|[a-z0-9]{40,60}))",
    ),
    ("a token of Slack", "xox", r"\b(?P<secret>xox[abeprs]-[a-z0-9-]{10,250})"),
    ("a key of Google", "aiza", r"(?-i:\b(?P<secret>AIza[\w-]{35})(?![\w-]))"),
    ("a token of Databricks", "dapi", r"\b(?P<secret>dapi[0-9a-f]{32}(?:-[0-9])?)\b"),
    ("a token of PyPI", "pypi-", r"\b(?P<secret>pypi-AgE[\w-]{50,1000})"),
    ("a token of npm", "npm_", r"\b(?P<secret>npm_[a-z0-9]{36})\b"),
    (
        "a private key",
        "private key",
        r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY-----(?P<secret>[a-z0-9+/=\s\\]{40,8000})",
    ),
    (
        "a password in an address",
        "://",
        rf"\b[a-z][a-z0-9+.-]{{1,20}}://[^\s:/@\"']{{0,100}}:(?P<secret>{PLACEHOLDER}[^\s:/@\"']{{3,200}})@",
    ),
    (
        "a password in a connection string",
        ";",
        rf";\s{{0,4}}(?:password|pwd)=(?P<secret>{PLACEHOLDER}[^;\s\"']{{4,200}})",
    ),
    (
        "a value that its name calls a secret",
        "",
        rf"\b{NAMES}[\"']?\s{{0,4}}[:=]\s{{0,4}}[\"'](?P<secret>{PLACEHOLDER}[^\s\"']{{8,200}})[\"']",
    ),
)
"""What it is; a text that stands in every such place, in lower case; and the form, of which `secret` is masked.

Most texts have none of the second, and are done with soon.
"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What looks like a secret, and its line, counted from 1. The value itself is nowhere in it."""

    what: str
    line: int


def refusal(files: Mapping[str, str], why: str) -> str:
    """What to say of the first text, given name → text, that holds what looks like a secret; empty if none does.

    why  what would become of it
    """
    for name, text in files.items():
        for found in secrets_in(text):
            return (
                f"{name}, line {found.line} holds what looks like {found.what}, and {why}. Let the code read it where "
                f"it runs, from the environment or an identity; if it is none, end the line with `{NO_SECRET}`"
            )
    return ""


def secrets_in(text: str) -> list[Finding]:
    """What looks like secrets in a text, in the order of its lines; not on lines that say `# no secret`.

    >>> secrets_in("key = 'hf_" + "a" * 34 + "'")
    [Finding(what='a token of Hugging Face', line=1)]
    >>> secrets_in("key = 'hf_" + "a" * 34 + "'  # no secret")
    []
    """
    found = {(text.count("\n", 0, start), what) for start, _, what in spans(text)}
    lines = text.split("\n") if found else []
    kept = sorted((line, what) for line, what in found if not lines[line].rstrip().endswith(NO_SECRET))
    return [Finding(what=what, line=line + 1) for line, what in kept]


def masked(text: str) -> str:
    """The text with `***` in place of what looks like a secret.

    >>> masked("GET https://a.blob.core.windows.net/c?sp=r&sig=" + "A" * 43 + "%3D failed")
    'GET https://a.blob.core.windows.net/c?sp=r&sig=*** failed'
    """
    places = sorted((start, stop) for start, stop, _ in spans(text))
    parts, end = [], 0
    for start, stop in places:
        if start >= end:
            parts += [text[end:start], MASK]
        end = max(end, stop)
    return "".join([*parts, text[end:]]) if parts else text


def spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Start and end of what looks like a secret, and what it looks like."""
    low = text.lower()
    for what, hint, form in RULES:
        if hint in low:
            yield from ((m.start("secret"), m.end("secret"), what) for m in compiled(form).finditer(text))


@cache
def compiled(form: str) -> re.Pattern[str]:
    """Compiled when it is first needed: fl-kit is imported more often than it meets a secret."""
    return re.compile(form, re.IGNORECASE)
