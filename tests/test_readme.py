"""The README's example runs as it stands."""

import re
from pathlib import Path

import pytest


@pytest.fixture
def example(root: Path) -> str:
    blocks = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    return str(blocks[0])


@pytest.mark.sample
def test_the_example_runs(
    example: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "heart.py").write_text((root / "notebooks" / "heart.py").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert "completed after 30 rounds" in printed
    assert printed.strip().splitlines()[-1].startswith("Federated auc 0.8")
    assert "beats silo-only" in printed


def test_it_is_as_short_as_it_says(example: str) -> None:
    assert len([line for line in example.splitlines() if line.strip()]) <= 15


def test_what_it_names_exists(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    named = [*re.findall(r"\]\(([^)#]+)\)", text), *re.findall(r"^\| `([\w/]+/)` \|", text, re.MULTILINE)]
    assert len(named) >= 9
    assert [name for name in named if "://" not in name and not (root / name).exists()] == []
