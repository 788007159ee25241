"""The scripted run, importable by its plain name, as it is in the notebooks of other tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
