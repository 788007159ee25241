"""Every reader of what strangers write, tried with inputs that are almost right: `python -m bench.fuzz`.

    python -m bench.fuzz --inputs 1000000 --seed 7            every reader in turn
    python -m bench.fuzz --reader tensors --inputs 100000     one of them

An input starts from a valid one, and is changed in ways that know its form (a number beyond its range, a name that
leads elsewhere, a part twice, nested, left out or from another input) or know nothing (bytes flipped, cut, doubled).
A reader may give what it read, or raise its own FlKitError. Anything else, and an input that takes longer than SLOW
seconds, is a finding: it is printed, kept in `--keep`, and ends as a case in tests/fl_kit/test_fuzz.py.
"""

import argparse
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.fuzz_changes import Input, mutated
from fl_kit.errors import FlKitError

WORDY = 30_000
"""Characters of an error: some list every fault of a file, each with its line."""
SLOW = 2.0
"""Seconds of CPU that one input of some kilobytes may take at most."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One boundary, and the valid inputs that its inputs start from.

    read   given an input and a folder; raises FlKitError for what it refuses
    files  whether the input is put into the folder before
    share  how many inputs it gets for each that another gets
    """

    name: str
    seeds: tuple[Input, ...]
    read: Callable[[Input, Path], object]
    files: bool = True
    share: int = 1


@dataclass(kw_only=True)
class Tally:
    """What became of a reader's inputs."""

    tried: int = 0
    accepted: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    findings: list[tuple[str, Input]] = field(default_factory=list)


def try_one(reader: Reader, files: Input, folder: Path) -> tuple[str, bool]:
    """What is wrong with how a reader takes an input, or an empty string; and whether it took it."""
    for name, content in files.items() if reader.files else ():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    folder.mkdir(exist_ok=True)
    start = time.process_time()
    accepted = False
    try:
        reader.read(files, folder)
        accepted = True
    except FlKitError as error:
        if len(str(error)) > WORDY:
            return f"an error of {len(str(error)):,} characters (all of it)", False
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error!s:.200} ({Path(where.filename).name}, line {where.lineno})", False
    seconds = time.process_time() - start
    return (f"{seconds:.1f} s" if seconds > SLOW else ""), accepted


def fuzz(reader: Reader, inputs: int, seed: int, keep: Path | None = None) -> Tally:
    """Try a reader with so many inputs, which follow from the seed."""
    rng = random.Random(f"{seed}/{reader.name}")
    tally, start, seen = Tally(), time.process_time(), set()
    with tempfile.TemporaryDirectory(dir=scratch()) as temporary:
        for number in range(inputs):
            files = mutated(rng, reader.seeds)
            before = time.process_time()
            # files of another input must not lie about
            place = Path(temporary) / f"of_{len(files)}"
            wrong, accepted = try_one(reader, files, place)
            tally.slowest = max(tally.slowest, time.process_time() - before)
            tally.tried += 1
            tally.accepted += accepted
            if wrong and wrong.partition("(")[2] not in seen:
                seen.add(wrong.partition("(")[2])
                tally.findings.append((wrong, files))
                kept(keep, reader.name, number, files)
    tally.seconds = time.process_time() - start
    return tally


def scratch() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def kept(folder: Path | None, reader: str, number: int, files: Input) -> None:
    for name, content in files.items() if folder else ():
        assert folder
        path = folder / f"{reader}-{number}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main() -> int:
    """Fuzz, print a row for each reader, and give 1 if anything was found."""
    from bench.fuzz_readers import readers

    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description="Try every reader with bad inputs.")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--reader", action="append", default=[], help="only this one")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs that were not taken as they should be")
    options = parser.parse_args()
    chosen = [reader for reader in readers() if not options.reader or reader.name in options.reader]
    shares = sum(reader.share for reader in chosen)
    found = 0
    print(f"{'reader':<14}{'inputs':>10}{'accepted':>10}{'a second':>10}{'slowest':>10}{'peak MB':>9}  findings")
    for reader in chosen:
        tally = fuzz(reader, options.inputs * reader.share // shares, options.seed, options.keep)
        rate, peak = tally.tried / max(tally.seconds, 1e-9), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(
            f"{reader.name:<14}{tally.tried:>10,}{tally.accepted:>10,}{rate:>10,.0f}{tally.slowest:>9.2f}s{peak:>9,}"
            f"  {len(tally.findings)}",
            flush=True,
        )
        for wrong, files in tally.findings:
            print(f"    {wrong}\n    {str(files)[:1000]}", flush=True)
        found += len(tally.findings)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
