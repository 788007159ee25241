"""The table of layers, held by reading every import of fl_kit and sim, wherever it stands in a file."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

# A new module joins its row here. A name is one of fl_kit's unless it says sim; a package's stands for all in it.
ROWS = {
    0: "errors bounded secret_scan files grid table shown_frame tensor_table readable picture randomness tensors "
    "tensor_file packed_figures corrections backward events yaml_lines entries schedules party_forms archive signing "
    "audit",
    1: "messages update_checks packed_memories participation silo silo_facts plan source components metrics task "
    "model_state given_weights spent own_source batches protocols chart run_lock retention",
    2: "changes_since compositions local optimizers standardize stopping strategies aggregators transforms privacy "
    "vertical",
    3: "store memory_store branching channel tracking job planning legs amending gate run_ids review bundle approvals "
    "policy workbench context step_inputs deadline door figures run_handle execute step history silo_environment "
    "mlflow_rest reporting untold update_form",
    4: "azureml sim",
    5: "watcher magics widgets regression approval_commands",
}
TOP = 6  # fl_kit/__init__.py: lazy, above all, and imported by no module below
# Stricter than their row: the highest row that these may import, themselves aside.
ONLY_UP_TO = {"fl_kit.chart": 0}
# These never import each other, whatever their rows.
APART = [("fl_kit", "sim")]
# Faces know runs and silos, and no place.
FACES, PLACES = [f"fl_kit.{name}" for name in ROWS[5].split()], ["fl_kit.azureml", "sim"]

PICKLING = ("pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "torch.load", "torch.save")

Graph = dict[str, set[str]]


def row_of(module: str) -> int | None:
    """The module's row, or None if the table does not name it."""
    if module == "fl_kit":
        return TOP
    name = module.removeprefix("fl_kit.").split(".")[0]
    return next((row for row, names in ROWS.items() if name in names.split()), None)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def source_files(root: Path) -> dict[str, Path]:
    """Module name → file, for fl_kit and sim; a package is its __init__.py."""
    found = {}
    for path in sorted([*root.glob("fl_kit/**/*.py"), *root.glob("sim/**/*.py")]):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def names_imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Every dotted name that the file imports, at its top, inside functions, or by importlib with a plain string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*home, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def import_graph(root: Path) -> Graph:
    """Module → the modules of fl_kit and sim that it imports."""
    files = source_files(root)
    graph: Graph = {module: set() for module in files}
    for module, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for name in names_imported(tree, module, path.name == "__init__.py"):
            if name.split(".")[0] in ("fl_kit", "sim"):
                # `from fl_kit.silo import Silo` names the module fl_kit.silo, `from fl_kit import silo` too.
                graph[module].add(name if name in files else name.rpartition(".")[0] or name)
        graph[module].discard(module)
    return graph


def faults(graph: Graph) -> list[str]:
    """Every import that the table forbids, and every module that it lacks."""
    found = [f"{m}: not in ROWS of tests/test_architecture.py; give it a row" for m in graph if row_of(m) is None]
    for module, imported in sorted(graph.items()):
        found += [f"{module} imports {other}: {why}" for other in sorted(imported) if (why := forbidden(module, other))]
    return found


def forbidden(module: str, other: str) -> str:
    """Why `module` may not import `other`, or an empty string."""
    if any(within(module, a) and within(other, b) for a, b in APART):
        return "fl_kit never imports sim"
    if within(module, "sim") and within(other, "fl_kit.azureml"):
        return "neither place imports the other"
    if any(within(module, face) for face in FACES) and any(within(other, place) for place in PLACES):
        return "a face knows no place"
    mine, theirs = row_of(module), row_of(other)
    if mine is None or theirs is None:
        return ""
    for package, highest in ONLY_UP_TO.items():
        if within(module, package) and not within(other, package) and theirs > highest:
            return f"{package} imports no row above {highest}, and {other} is in row {theirs}"
    return f"row {mine} may not import row {theirs}" if theirs > mine else ""


def cycle(graph: Graph) -> list[str]:
    """The modules of one import cycle, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def picklers(root: Path) -> list[str]:
    """Where fl_kit or sim names a thing that pickles."""
    found = []
    for module, path in source_files(root).items():
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        named = set(names_imported(tree, module, path.name == "__init__.py"))
        named |= {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        found += [f"{module}: {name}" for name in sorted(named) if any(within(name, bad) for bad in PICKLING)]
    return found


def test_every_module_has_a_row_and_imports_lower_rows_only(root: Path) -> None:
    found = faults(import_graph(root))
    assert not found, "\n".join(found)


def test_no_import_cycle(root: Path) -> None:
    found = cycle(import_graph(root))
    assert not found, " → ".join(found)


def test_nothing_pickles(root: Path) -> None:
    found = picklers(root)
    assert not found, "\n".join(found)


def test_the_reading_sees_the_real_tree(root: Path) -> None:
    graph = import_graph(root)
    assert "fl_kit.errors" in graph["fl_kit.silo"]
    assert "sim.demo" in graph


# The tests above are only as good as their reading: each rule is broken here once.


def tree(tmp_path: Path, **sources: str) -> Path:
    """A tree of made-up modules; `__` in a key stands for a slash."""
    for key, source in sources.items():
        path = tmp_path / f"{key.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    for package in {path.parent for path in tmp_path.rglob("*.py")}:
        (package / "__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("fl_kit__errors", "from fl_kit.silo import Silo", "fl_kit.errors imports fl_kit.silo: row 0 may not"),
        ("fl_kit__errors", "from fl_kit import silo", "fl_kit.errors imports fl_kit.silo: row 0 may not"),
        ("fl_kit__errors", "def f():\n    import fl_kit.silo", "fl_kit.errors imports fl_kit.silo: row 0 may not"),
        ("fl_kit__errors", "from .silo import Silo", "fl_kit.errors imports fl_kit.silo: row 0 may not"),
        ("fl_kit__strategies__mine", "from ..job import Job", "fl_kit.strategies.mine imports fl_kit.job: row 2 may"),
        ("fl_kit__job", "from fl_kit import Silo", "fl_kit.job imports fl_kit: row 3 may not import row 6"),
        ("fl_kit__job", "import importlib\nimportlib.import_module('sim.demo')", "fl_kit never imports sim"),
        ("fl_kit__watcher", "from fl_kit.azureml import run", "a face knows no place"),
        ("fl_kit__chart__curves", "import fl_kit.silo", "fl_kit.chart imports no row above 0"),
        ("sim__here", "from fl_kit.azureml.run import attach", "neither place imports the other"),
        ("fl_kit__azureml__run", "import sim.demo", "fl_kit never imports sim"),
        ("fl_kit__helpers", "", "fl_kit.helpers: not in ROWS"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, file: str, source: str, expected: str) -> None:
    root = tree(
        tmp_path,
        **{"fl_kit__silo": "", "fl_kit__job": "", "fl_kit__azureml__run": "", "sim__demo": "", file: source},
    )
    (fault,) = faults(import_graph(root))
    assert expected in fault


def test_what_the_table_allows_passes(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        fl_kit__errors="import torch",
        fl_kit__silo="from .errors import FlKitError",
        fl_kit__plan="from fl_kit import silo, errors",
        fl_kit__chart__curves="from . import scale",
        fl_kit__chart__scale="from ..errors import FlKitError",
        sim__demo="from fl_kit.plan import Plan",
    )
    assert faults(import_graph(root)) == []
    assert cycle(import_graph(root)) == []


def test_a_cycle_within_a_row_is_found(tmp_path: Path) -> None:
    root = tree(tmp_path, fl_kit__silo="import fl_kit.plan", fl_kit__plan="def f():\n    from fl_kit.silo import Silo")
    assert faults(import_graph(root)) == []
    assert set(cycle(import_graph(root))) == {"fl_kit.silo", "fl_kit.plan"}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from cloudpickle import dumps", "import torch\ntorch.save({}, 'f')", "from torch import load"],
)
def test_pickling_is_found(tmp_path: Path, source: str) -> None:
    assert len(picklers(tree(tmp_path, sim__demo=source))) == 1
