"""Run the tutorials in docs/tutorials and keep their pictures, small; `python tools/tutorials.py` after a change.

With `--set NAME=VALUE` the settings of a notebook's first code cell are replaced and nothing is kept: the pictures go
to `--out` instead, so that nothing of your own data enters the repository.
"""

import argparse
import base64
import io
import os
import sys
from itertools import chain
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
WIDTH, COLOURS = 720, 128


def execute(path: Path, settings: dict[str, str] | None = None) -> nbformat.NotebookNode:
    """A notebook after its run; an exception if a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source += "".join(f"\n{name} = {value!r}" for name, value in (settings or {}).items())
    inherited = os.environ.get("PYTHONPATH", "")
    env = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{inherited}",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    NotebookClient(notebook, timeout=1800, kernel_name="python3").execute(env=env)
    return notebook


def pictures(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """PNG pictures of each cell, as base64, reduced in width and colours."""
    found = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", ())
        data = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
        found.append([_small(picture) for picture in data])
    return found


def _small(picture: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.thumbnail((WIDTH, 10 * WIDTH))
    buffer = io.BytesIO()
    image.quantize(COLOURS).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[path.stem for path in TUTORIALS], help="default: all")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, help="folder of the pictures, with --set")
    arguments = parser.parse_args()
    for path in (path for path in TUTORIALS if path.stem in arguments.names):
        settings = dict(setting.split("=", 1) for setting in arguments.set)
        kept = pictures(execute(path, settings))
        if settings:
            arguments.out.mkdir(parents=True, exist_ok=True)
            for number, data in enumerate(chain.from_iterable(kept)):
                (arguments.out / f"{path.stem}-{number}.png").write_bytes(base64.b64decode(data))
            continue
        notebook = nbformat.read(path, as_version=4)
        for cell, data in zip(notebook.cells, kept):
            if cell.cell_type == "code":
                cell.execution_count = None
                cell.outputs = [nbformat.v4.new_output("display_data", {"image/png": picture}) for picture in data]
        nbformat.write(notebook, path)
        print(path, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
