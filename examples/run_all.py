"""Run every example beside this file; what an example prints and leaves goes to a temporary folder."""

import subprocess
import sys
import tempfile
from pathlib import Path

here = Path(__file__).resolve().parent
with tempfile.TemporaryDirectory() as folder:
    for example in sorted(here.glob("*.py")):
        if example.name != "run_all.py":
            print(f"--- {example.name}", flush=True)
            subprocess.run([sys.executable, str(example)], cwd=folder, check=True)
