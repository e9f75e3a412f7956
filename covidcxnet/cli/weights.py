"""The command `covidcxnet weights`: what released weights there are, where they lie, and whether they are whole."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from enhancement import command_line
from enhancement.errors import InputError


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet weights") -> int:
    """Run one action on released weights.

    Returns
    -------
    int
        0 done; 1 some file is missing or not the released one (`verify`); 2 the input cannot be used, or a file cannot
        be had; 130 interrupted.
    """
    return command_line.run(partial(_run, prog=prog), argv, prog=prog)


def _run(argv: list[str], prog: str) -> int:
    arguments = _parser(prog).parse_args(argv)
    return arguments.action(arguments)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = command_line.Parser(
        prog=prog,
        description="Released weights: this package's own, and public files that are downloaded once and verified.",
        epilog="COVIDCXNET_HOME names the folder of the cache; COVIDCXNET_OFFLINE=1 forbids downloads.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, function, text: str) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=text, description=text)
        one.set_defaults(action=function)
        return one

    one = action("list", _list, "what there is, and where it lies")
    one.add_argument("--json", action="store_true", help="print all entries as JSON")
    one = action("show", _show, "everything known of one")
    one.add_argument("name", metavar="NAME")
    one = action("verify", _verify, "compare files with the manifest: those given, or all on this machine")
    one.add_argument("names", nargs="*", metavar="NAME")
    one = action("fetch", _fetch, "download into the cache, verified; a wrong file there is replaced")
    one.add_argument("names", nargs="+", metavar="NAME")
    one = action("path", _path, "print the file of a name; nothing is downloaded")
    one.add_argument("name", metavar="NAME")
    return parser


def _list(arguments: argparse.Namespace) -> int:
    entries = _entries().values()
    if arguments.json:
        print(json.dumps({entry.name: {**dataclasses.asdict(entry), "place": _place(entry)} for entry in entries}))
        return 0
    rows = [("name", "kind", "size", "place", "summary")]
    rows += [(entry.name, entry.kind, _size(entry), _place(entry), entry.summary) for entry in entries]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip())
    return 0


def _show(arguments: argparse.Namespace) -> int:
    import weights
    from weights.registry import places

    entry = _entry(arguments.name)
    facts = {key: value for key, value in dataclasses.asdict(entry).items() if value not in ("", None, (), {})}
    for key, value in facts.items():
        print(f"{key:<13} {json.dumps(value) if isinstance(value, dict | tuple | list) else value}")
    print(f"{'place':<13} {_place(entry)}")
    for path in places(entry):
        print(f"{'looked for at':<13} {path}")
    if entry.card:
        print(f"{'card at':<13} {weights.FOLDER / entry.card}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from weights.registry import places

    entries = [_entry(name) for name in arguments.names] or list(_entries().values())
    wrong = found = 0
    for entry in entries:
        present = [path for path in places(entry) if path.is_file()]
        found += len(present)
        for path in present:
            try:
                entry.verify(path)
                print(f"{entry.name}: {path}: as released")
            except InputError as error:
                wrong += 1
                print(f"{entry.name}: {error}", file=sys.stderr)
        if not present and arguments.names:
            wrong += 1
            print(f"{entry.name}: not on this machine; covidcxnet weights fetch {entry.name}", file=sys.stderr)
    if not found and not wrong:
        print("no released weights on this machine")
    return 1 if wrong else 0


def _fetch(arguments: argparse.Namespace) -> int:
    from weights.registry import fetch, find

    for entry in [_entry(name) for name in arguments.names]:
        try:
            path = find(entry)
        except InputError as error:
            print(f"{error}", file=sys.stderr)
            path = None
        print(path or fetch(entry))
    return 0


def _path(arguments: argparse.Namespace) -> int:
    from weights.registry import find, places

    entry = _entry(arguments.name)
    path = find(entry)
    if path is None:
        looked = " or ".join(str(place) for place in places(entry))
        raise InputError(f"{entry.name}: not at {looked}; covidcxnet weights fetch {entry.name}")
    print(path)
    return 0


def _entries() -> dict[str, Any]:
    from weights.manifest import read

    return read()


def _entry(name: str) -> Any:
    entries = _entries()
    if name not in entries:
        raise InputError(f"{name}: no such released weights; there are {_join(entries)}")
    return entries[name]


def _join(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _place(entry: Any) -> str:
    import weights
    from weights.registry import places

    path = next((path for path in places(entry) if path.is_file()), None)
    if path is None:
        return "to fetch" if entry.url else "missing"
    return "package" if path.parent == weights.FOLDER else "cache"


def _size(entry: Any) -> str:
    return "" if entry.size is None else f"{entry.size / 1e6:.1f} MB"
