"""Makes deploy/ importable: it is a folder of scripts beside the workspace, not a member of it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
