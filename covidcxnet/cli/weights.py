"""The command `covidcxnet weights`: which released weights there are, where they are, whether they are intact."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

import weights
from covidcxnet.cli._common import add_action
from covidcxnet.reporting.table import Table
from enhancement.command_line import Parser, command, did_you_mean
from enhancement.errors import InputError
from weights import manifest, registry


@command("covidcxnet weights")
def main(argv: list[str], prog: str) -> int:
    """Run one action: 0 done, 1 a file is missing or not the released one (`verify`), 2 a file cannot be had."""
    parser = Parser(
        prog=prog,
        description="Released weights: this package's own, and public files that are downloaded once and verified.",
        epilog="COVIDCXNET_HOME names the folder of the cache; COVIDCXNET_OFFLINE=1 forbids downloads.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    action = add_action(actions, "list", _list, "list all released weights and where each file is")
    action.add_argument("--json", action="store_true", help="print all entries as JSON")
    for name, work, nargs, text in (
        ("show", _show, None, "show everything known about a file"),
        ("verify", _verify, "*", "compare files with the manifest: those named, or all on this machine"),
        ("fetch", _fetch, "+", "download files into the cache and verify them; a wrong file is replaced"),
        ("path", _path, None, "print the path of a file; nothing is downloaded"),
    ):
        names = "names" if nargs else "name"
        add_action(actions, name, work, text).add_argument(names, nargs=nargs, metavar="NAME")
    arguments = parser.parse_args(argv)
    return arguments.action(arguments)


def _list(arguments: argparse.Namespace) -> int:
    entries = manifest.read().values()
    if arguments.json:
        print(json.dumps({entry.name: {**dataclasses.asdict(entry), "place": _place(entry)} for entry in entries}))
        return 0
    sizes = ["" if entry.size is None else f"{entry.size / 1e6:.1f} MB" for entry in entries]
    rows = [(e.name, e.kind, size, _place(e), e.summary) for e, size in zip(entries, sizes, strict=True)]
    print(Table(("name", "kind", "size", "place", "summary"), rows).text())
    return 0


def _show(arguments: argparse.Namespace) -> int:
    entry = _entry(arguments.name)
    facts = {key: value for key, value in dataclasses.asdict(entry).items() if value not in ("", None, (), {})}
    for key, value in facts.items():
        print(f"{key:<13} {json.dumps(value) if isinstance(value, dict | tuple | list) else value}")
    print(f"{'place':<13} {_place(entry)}")
    for path in registry.candidates(entry):
        print(f"{'looked for at':<13} {path}")
    if entry.card:
        print(f"{'card at':<13} {weights.FOLDER / entry.card}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    entries = [_entry(name) for name in arguments.names] or list(manifest.read().values())
    wrong = files = 0
    for entry in entries:
        present = [path for path in registry.candidates(entry) if path.is_file()]
        files += len(present)
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
    if not files and not wrong:
        print("no released weights on this machine")
    return 1 if wrong else 0


def _fetch(arguments: argparse.Namespace) -> int:
    for entry in [_entry(name) for name in arguments.names]:
        try:
            path = registry.find(entry)
        except InputError as error:
            print(error, file=sys.stderr)
            path = None
        print(path or registry.fetch(entry))
    return 0


def _path(arguments: argparse.Namespace) -> int:
    entry = _entry(arguments.name)
    path = registry.find(entry)
    if path is None:
        candidates = " or ".join(map(str, registry.candidates(entry)))
        raise InputError(f"{entry.name}: not at {candidates}; covidcxnet weights fetch {entry.name}")
    print(path)
    return 0


def _entry(name: str) -> manifest.Entry:
    entries = manifest.read()
    if name not in entries:
        there = ", ".join(entries) or "none"
        raise InputError(f"{name}: no such released weights; there are {there}{did_you_mean(name, entries)}")
    return entries[name]


def _place(entry: manifest.Entry) -> str:
    path = next((path for path in registry.candidates(entry) if path.is_file()), None)
    if path is None:
        return "to fetch" if entry.url else "missing"
    return "package" if path.parent == weights.FOLDER else "cache"
