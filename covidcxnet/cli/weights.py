"""The command `covidcxnet weights`: which released weights there are, where they are, whether they are intact."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from covidcxnet.cli._common import add_action
from covidcxnet.cli._weights_convert import add_average, add_calibrate, add_convert
from enhancement.command_line import Parser, command, did_you_mean
from enhancement.errors import InputError
from weights import lookup, manifest


@command("covidcxnet weights")
def main(argv: list[str], prog: str) -> int:
    """Run one action: 0 done, 1 a file is missing or not the released one (`verify`), 2 a file cannot be had."""
    text = "Released weights: this package's own, and public files that are downloaded once and verified."
    epilog = "COVIDCXNET_HOME names the folder of the cache; COVIDCXNET_OFFLINE=1 forbids downloads."
    parser = Parser(prog=prog, description=text, epilog=epilog)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    # Downloads are an action of their own: `path` in a script must not fetch 30 MB.
    for name, work, nargs, text in (
        ("list", _list, None, "list all released weights and where each file is"),
        ("show", _show, 1, "show everything known about a file"),
        ("verify", _verify, "*", "compare files with the manifest: those named, or all on this machine"),
        ("fetch", _fetch, "+", "download files into the cache and verify them; a wrong file is replaced"),
        ("path", _path, 1, "print the path of a file; nothing is downloaded"),
    ):
        action = add_action(actions, name, work, text)
        if nargs:
            action.add_argument("names", nargs=nargs, metavar="NAME")
    add_convert(actions)
    add_average(actions)
    add_calibrate(actions)
    actions.choices["list"].add_argument("--json", action="store_true", help="print all entries as JSON")
    arguments = parser.parse_args(argv)
    entries, names = manifest.read(), getattr(arguments, "names", [])
    for name in names:
        if name not in entries:
            near = did_you_mean(name, entries)
            raise InputError(f"{name}: no such released weights{near} (covidcxnet weights list shows all)")
    arguments.entries = [entries[name] for name in names or entries]
    return arguments.action(arguments)


def _list(arguments: argparse.Namespace) -> int:
    from covidcxnet.reporting.table import Table

    entries = arguments.entries
    if arguments.json:
        print(json.dumps({entry.name: {**vars(entry), "place": _place(entry)} for entry in entries}))
        return 0
    sizes = ["" if entry.size is None else f"{entry.size / 1e6:.1f} MB" for entry in entries]
    rows = [(e.name, e.kind, size, _place(e), e.summary) for e, size in zip(entries, sizes, strict=True)]
    print(Table(("name", "kind", "size", "place", "summary"), rows).text())
    return 0


def _show(arguments: argparse.Namespace) -> int:
    (entry,) = arguments.entries
    for key, value in vars(entry).items():
        if value not in ("", None, (), {}):
            print(f"{key:<13} {json.dumps(value) if isinstance(value, dict | tuple | list) else value}")
    print(f"{'place':<13} {_place(entry)}")
    for path in lookup.candidates(entry):
        print(f"{'looked for at':<13} {path}")
    if entry.card:
        print(f"{'card at':<13} {manifest.FOLDER / entry.card}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    wrong = files = 0
    for entry in arguments.entries:
        # Every copy, not only the one that is used: a broken cache shows when the package's file is gone.
        present = [path for path in lookup.candidates(entry) if path.is_file()]
        files += len(present)
        for path in present:
            try:
                entry.verify(path)
                print(f"{entry.name}: {path}: as released")
            except InputError as error:
                wrong += 1
                print(f"{entry.name}: {error}", file=sys.stderr)
        # Most are never downloaded: absence is worth an error only for a file that is named.
        if not present and arguments.names:
            wrong += 1
            print(f"{entry.name}: not on this machine; covidcxnet weights fetch {entry.name}", file=sys.stderr)
    if not files and not wrong:
        print("no released weights on this machine")
    return int(wrong > 0)


def _fetch(arguments: argparse.Namespace) -> int:
    for entry in arguments.entries:
        try:
            path = lookup.find(entry)
        except InputError as error:
            # A wrong file is replaced, and not silently.
            print(error, file=sys.stderr)
            path = None
        print(path or lookup.fetch(entry))
    return 0


def _path(arguments: argparse.Namespace) -> int:
    (entry,) = arguments.entries
    path = lookup.find(entry)
    if path is None:
        paths = " or ".join(map(str, lookup.candidates(entry)))
        raise InputError(f"{entry.name}: not at {paths}; covidcxnet weights fetch {entry.name}")
    print(path)
    return 0


def _place(entry: Any) -> str:
    path = next((path for path in lookup.candidates(entry) if path.is_file()), None)
    if path is None:
        return "to fetch" if entry.url else f"extra {entry.extra}" if entry.extra else "missing"
    return "cache" if path.parent == lookup.cache_folder(entry) else "package"
