"""MkDocs hooks: files from the rest of the repository as pages, notebooks as pages, links that hold in both places.

Links are written for a reader of the repository. On the site those that lead to a page or picture of it are turned to
it, and those that lead to another file of the repository become plain text.
"""

import json
import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CHANGELOG.md", "datasets.md", "examples/README.md", "weights/*.md")
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            content = _markdown(json.loads(file.content_string))
            files.append(File.generated(config, _uri(f"docs/{file.src_uri}"), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    base = dirname(here if _outside(here) else f"docs/{here}")

    def turn(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target) or not path:
            return match[0]
        place = normpath(join(base, path))
        place += "/README.md" if f"{place}/README.md" in PAGES else ""
        uri = _uri(place)
        if files.get_file_from_path(uri) is None:
            # A missing file is left as it is, so that the strict build names it.
            return text if (ROOT / place).exists() else match[0]
        return f"{picture}[{text}]({relpath(uri, dirname(here) or '.')}{'#' + anchor if anchor else ''})"

    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(turn, part) for part in parts[::2]]
    return "".join(parts)


def _uri(path: str) -> str:
    """The page of a file of the repository."""
    return re.sub(r"\.ipynb$", ".md", path if _outside(path) else path.removeprefix("docs/"))


def _outside(path: str) -> bool:
    return any(Path(path).match(pattern) and path.count("/") == pattern.count("/") for pattern in PAGES)


def _markdown(notebook: dict) -> str:
    """A notebook as Markdown: its text, its code, and the pictures and text that it was stored with."""
    blocks = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        blocks.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                blocks.append(f"![Output of the cell](data:image/png;base64,{''.join(data['image/png'].split())})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))).strip():
                blocks.append(f"```text\n{text}\n```")
    return "\n\n".join(blocks) + "\n"
