"""Runs a set of notebooks, several at a time."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from fl_kit.errors import RegressionError
from fl_kit.regression.bands import Way, load_bands
from fl_kit.regression.execution import Execution
from fl_kit.regression.outcome import Outcome, try_notebook


def find_notebooks(places: Sequence[Path]) -> list[Path]:
    """The notebooks in these folders and files, each once; raises RegressionError for a place without any."""
    found: dict[Path, None] = {}
    for place in places:
        here = sorted(place.glob("*.ipynb")) if place.is_dir() else [place] if place.suffix == ".ipynb" else []
        here = [path for path in here if path.is_file()]
        if not here:
            raise RegressionError(f"{place} is no notebook and no folder with notebooks")
        found |= dict.fromkeys(here)
    twice = [path for path in found if sum(path.stem == other.stem for other in found) > 1]
    if twice:
        raise RegressionError(f"two notebooks are called {twice[0].stem!r}; run their folders one after the other")
    return list(found)


def ways(notebooks: Sequence[Path], mode: str) -> dict[Path, Way]:
    """Notebook → how to run it, from the bands.toml beside it; one without an entry runs as it is."""
    known = {folder: load_bands(folder, mode) for folder in {path.parent for path in notebooks}}
    return {path: known[path.parent].get(path.stem, Way()) for path in notebooks}


def try_all(
    asked: Mapping[Path, Way], folder: Path, *, jobs: int = 1, tell: Callable[[Execution], None] | None = None
) -> Iterator[Outcome]:
    """The outcome of each notebook when it is known; an interrupt ends those that are running.

    folder  where executed notebooks go        jobs  how many run at a time
    """
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        waiting = [
            pool.submit(try_notebook, notebook, way, folder, tell=tell, stop=stop) for notebook, way in asked.items()
        ]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
