#!/usr/bin/env python3
"""For maintainers: prepare a weights file for a release.

``tools/weights.py halve FILE OUT`` copies it with its kernels in half precision; ``tools/weights.py register FILE
--licence TERMS`` enters it in ``weights/manifest.json``; ``tools/weights.py topology NAME`` then writes what OpenVINO
needs to run it without Keras.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

# Run as a script, this folder comes first on the path, and its weights.py is not the package.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *(p for p in sys.path if p != str(Path(__file__).parent))]

from enhancement.errors import InputError  # noqa: E402
from enhancement.parallel import sha256  # noqa: E402
from weights import manifest  # noqa: E402
from weights.format import SUFFIX, read_metadata  # noqa: E402
from weights.hdf5 import new_hdf5, open_plain  # noqa: E402

# What float16 can lose of a number: half a step of its 11 bits, or half of its smallest step near zero.
_RELATIVE, _ABSOLUTE = 2.0**-11, 2.0**-25


def halve(source: str | Path, target: str | Path) -> Path:
    """Copy a weights file with its kernels (arrays of two and more axes) in float16, whole or not at all.

    Keras casts them back to float32 on loading. Biases and batch norms, few and sensitive, keep float32.

    Raises
    ------
    InputError
        If the source is no weights file, or a kernel holds numbers beyond float16.
    """
    import h5py

    with open_plain(source) as original, new_hdf5(target) as copy:
        copy.attrs.update(original.attrs)

        def take_over(name: str, item) -> None:
            if isinstance(item, h5py.Group):
                copy.require_group(name).attrs.update(item.attrs)
                return
            values = item[()]
            if getattr(values, "ndim", 0) > 1 and values.dtype == np.float32:
                with np.errstate(over="ignore"):
                    half = values.astype(np.float16)
                loss = np.abs(half.astype(np.float32) - values)
                if not (loss <= _RELATIVE * np.abs(values) + _ABSOLUTE).all():
                    largest = np.abs(values).max()
                    raise InputError(f"{source}: {name} holds numbers beyond float16 (largest {largest:g})")
                values = half
            copy.create_dataset(name, data=values)
            copy[name].attrs.update(item.attrs)

        original.visititems(take_over)
    return Path(target)


def register(
    path: str | Path,
    *,
    licence: str,
    card: str = "",
    name: str | None = None,
    summary: str = "",
    url: str = "",
    target: str | Path | None = None,
) -> manifest.Entry:
    """Enter a weights file in the manifest, from the metadata that it carries.

    Parameters
    ----------
    path : str or Path
        A ``.weights.h5`` file; it must lie in the package's ``weights/`` folder unless `url` is given.
    licence : str
        Terms of the file, which follow from its training data.
    card : str
        File name of its card beside it; ``NAME.md`` by default.
    name : str, optional
        By default the file's name without its ending.
    summary, url : str
    target : str or Path, optional
        Manifest to write; by default the package's own.

    Raises
    ------
    InputError
        If it is not such a file, or the card is missing.
    """
    path = Path(path)
    metadata = read_metadata(path)
    name = name or path.name.removesuffix(SUFFIX)
    if not url and path.resolve().parent != manifest.FOLDER.resolve():
        raise InputError(f"{path}: lies outside {manifest.FOLDER}; put it there, or give the url where it can be found")
    card = card or f"{name}.md"
    if not (path.parent / card).is_file():
        raise InputError(f"{path.parent / card}: no such card; released weights need one")
    target = manifest.PATH if target is None else Path(target)
    try:
        entry = manifest.Entry(
            name=name,
            file=path.name,
            kind=str(metadata.get("kind")),
            summary=summary,
            licence=licence,
            architecture=metadata["architecture"],
            input=metadata["input"],
            labels=tuple(metadata["conventions" if metadata.get("kind") == "segmenter" else "classes"]),
            card=card,
            url=url,
            size=path.stat().st_size,
            sha256=sha256(path),
        )
    except KeyError as error:
        raise InputError(f"{path}: its metadata lack {error}") from error
    manifest.write({**(manifest.read(target) if target.is_file() else {}), name: entry}, target)
    return entry


def write_topology(name: str) -> Path:
    """Write what OpenVINO needs of a released network beside its weights, so that it is built without Keras."""
    from covidcxnet.classifier import PROBABILITIES
    from covidcxnet.explain.cam import facts_of
    from covidcxnet.pretrained import load_model
    from segmentation.engines import describe, topology_path
    from segmentation.segmenter import LungSegmenter

    entry = manifest.read()[name]
    if entry.kind == "segmenter":
        segmenter = LungSegmenter(name, engine="keras")
        kind, network = segmenter.network_kind, describe(segmenter.with_features(), {})
    else:
        model = load_model(name, engine="keras").model
        kind, network = PROBABILITIES, describe(model, facts_of(model))
    path = topology_path(name)
    text = json.dumps({"sha256": entry.sha256, "kind": kind, "network": network}, separators=(",", ":"))
    path.write_text(text.replace('{"kind":', '\n{"kind":') + "\n", encoding="utf-8")
    return path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    action = actions.add_parser("halve", help="copy a weights file with its kernels in half precision")
    action.add_argument("file", metavar="FILE")
    action.add_argument("out", metavar="OUT", help=f"new file that ends in {SUFFIX}")
    action = actions.add_parser("register", help="enter a weights file in the manifest")
    action.add_argument("file", metavar="FILE")
    action.add_argument("--licence", required=True, help="terms of the file, which follow from its training data")
    action.add_argument("--card", default="", metavar="FILE.md", help="card beside the file; default NAME.md")
    action.add_argument("--name", help="default: the file's name without its ending")
    action.add_argument("--summary", default="", help="one line")
    action.add_argument("--url", default="", help="where it can be downloaded, if it is not in the package")
    action.add_argument("--manifest", metavar="FILE", help="default: the package's own")
    action = actions.add_parser("topology", help="write what OpenVINO needs of a registered network beside its weights")
    action.add_argument("name", metavar="NAME")
    given = parser.parse_args(argv)
    try:
        if given.action == "topology":
            path = write_topology(given.name)
            print(f"{path}: {path.stat().st_size:,} bytes")
            return 0
        if given.action == "halve":
            read_metadata(given.file)
            if not given.out.endswith(SUFFIX) or Path(given.out).exists():
                raise InputError(f"{given.out}: name a new file that ends in {SUFFIX}")
            path = halve(given.file, given.out)
            print(f"{path}: {path.stat().st_size:,} bytes of {Path(given.file).stat().st_size:,}")
        else:
            facts = {key: getattr(given, key) for key in ("licence", "card", "name", "summary", "url")}
            entry = register(given.file, **facts, target=given.manifest)
            print(f"{entry.name}: {entry.size:,} bytes, SHA-256 {entry.sha256}")
    except InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
