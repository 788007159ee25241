"""Small notebooks for the tests of `fl-kit notebooks`."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook


def write_notebook(folder: Path, name: str, *sources: str, parameters: str | None = "level = 1\nseed = 0") -> Path:
    """A notebook whose first cell, unless None, is tagged `parameters`, and one cell for each source."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = (
        [] if parameters is None else [new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]})]
    )
    cells += [new_code_cell(source, id=f"cell-{place}") for place, source in enumerate(sources, 1)]
    path = folder / f"{name}.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def write_bands(folder: Path, text: str) -> Path:
    path = folder / "bands.toml"
    path.write_text(text, encoding="utf-8")
    return path
