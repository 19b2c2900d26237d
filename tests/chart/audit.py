"""Run checkov (`make audit`) over what the chart renders for each of its values files, and over the Dockerfile."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from chart.charts import CI, ci_values, render
from support.harness import ROOT

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name in CI:
            (Path(folder) / f"{name}.yaml").write_text(yaml.safe_dump_all(render(ci_values(name))))
        shutil.copy(ROOT / "Dockerfile", folder)
        options = ["--config-file", str(Path(__file__).parent / "checkov.yaml"), "--directory", folder]
        sys.exit(subprocess.run([sys.argv[1], *options], check=False).returncode)
