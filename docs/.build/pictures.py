"""The models' pictures, which are kept with the models, among the pages: pictures/NAME.png."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

FOLDER = Path(__file__).parents[2] / "models" / "pictures"


def on_files(files: Files, config: Any) -> Files:
    """Called by MkDocs when it has found the pages."""
    for path in sorted(FOLDER.glob("*.png")):
        files.append(File.generated(config, f"pictures/{path.name}", abs_src_path=str(path)))
    return files
