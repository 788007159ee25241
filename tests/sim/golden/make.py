"""Makes a golden run folder: an unfinished run, as this fl-kit writes it, for later ones to read and go on with.

    python -m tests.sim.golden.make tests/sim/golden/format_1

Two silos, F_k(w) = (w − y_k)²/2 with y = 0 and 2, full batches and lr ½: every weight is a fraction of a power of two,
so the bits are the same on every machine. Four rounds were asked for; the first two are kept. The paths of the silos'
data are of the machine that reads it: `{data}` stands for them.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from fl_kit import Job, Scaffold
from sim.in_process import InProcess
from tests.tasks import QUADRATIC, silos

ROUNDS, KEPT = 4, 2
ROWS = {"ash": [[1, 0]], "birch": [[1, 2]]}
"""Silo → its rows (x, y)."""
RUN_ID = "golden"


def make(place: Path) -> None:
    """Write the folder; raises FileExistsError if it is there."""
    with tempfile.TemporaryDirectory() as scratch:
        federation = silos(Path(scratch) / "silos", **ROWS)
        job = Job(task=QUADRATIC, strategy=Scaffold(lr=0.5, batch_size=1), rounds=ROUNDS, device="cpu", min_silos=1)
        run = job.run(federation, on=InProcess(folder=Path(scratch) / "runs"))
        run.wait()
        assert run.folder is not None
        for round in range(KEPT + 1, ROUNDS + 1):
            shutil.rmtree(run.folder / f"round_{round:03d}")
        cut(run.folder / "events.jsonl")
        file = run.folder / "federation.yaml"
        text = file.read_text(encoding="utf-8").replace(str(Path(scratch) / "silos"), "{data}")
        file.write_text(text, encoding="utf-8")
        shutil.copytree(run.folder, place / RUN_ID)


def cut(events: Path) -> None:
    """Leave what was told before the first round that is not kept was saved."""
    lines = events.read_text(encoding="utf-8").splitlines(keepends=True)
    ends = [i for i, line in enumerate(lines) if '"round/completed"' in line]
    events.write_text("".join(lines[: ends[KEPT] + 1]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", type=Path)
    make(parser.parse_args().place)


if __name__ == "__main__":
    main()
