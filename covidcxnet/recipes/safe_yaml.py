"""The one reader of YAML: plain values, or an `InputError` for what is none, grows without bound or has no meaning."""

from __future__ import annotations

import functools
import re
from typing import Any

from enhancement.errors import InputError, one_line

LONGEST = 1_000_000
"""Characters of a text; our largest recipe has some 3,000."""

# Values after all aliases are followed; nine lists of nine aliases each make 400 million of 300 bytes.
_MOST_VALUES = 10_000
# YAML 1.1 reads 010 as eight and 1:30 as ninety, which nobody means; YAML 1.2 as ten and as text.
_LEADING_ZERO = re.compile(r"[-+]?0[0-7_]+")
BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z")


def load_yaml(text: str, *, texts: bool = False) -> Any:
    """Values of a YAML text; with `texts` every one of them is text, also ``no``, ``0`` and ``007``.

    `InputError` says what is wrong with the text, and leaves the file's name to the caller.
    """
    import yaml

    if len(text) > LONGEST:
        raise InputError(f"{len(text):,} characters; at most {LONGEST:,} expected")
    try:
        loader = (yaml.BaseLoader if texts else _loader())(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except InputError:
        raise
    except RecursionError:  # YAML nests without a limit
        raise InputError("nested too deep") from None
    except yaml.YAMLError as error:
        raise InputError(_reason(error)) from None
    except (ValueError, OverflowError):
        raise InputError("a number of it is too long, or a date does not exist") from None


@functools.cache
def _loader() -> type[Any]:
    """PyYAML's safe loader with the whole numbers of YAML 1.2; texts that PyYAML writes come back as they were."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_yaml_int(self, node: Any) -> int:
            text = self.construct_scalar(node)
            decimal = _LEADING_ZERO.fullmatch(text)
            return int(text.replace("_", "")) if decimal else super().construct_yaml_int(node)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    # The first pattern that fits decides.
    sexagesimal = ("tag:yaml.org,2002:str", BASE_60)
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    digits = {first: [sexagesimal, *resolvers[first]] for first in "-+0123456789"}
    Loader.yaml_implicit_resolvers = resolvers | digits
    return Loader


def _reason(error: Any) -> str:
    """What PyYAML has to say of a text, without what it says of itself."""
    import yaml

    if isinstance(error, yaml.reader.ReaderError):
        return "a character that no text has; save it as UTF-8"
    mark = getattr(error, "problem_mark", None)
    where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    if isinstance(error, yaml.constructor.ConstructorError):
        return f"a tag or key that stands for no plain value{where}; text, numbers, lists and keys expected"
    return f"{one_line(getattr(error, 'problem', None) or 'not YAML')}{where}"


def _check_keys(node: Any) -> None:
    keys = set()
    for key, _ in node.value:
        if isinstance(key.value, str):
            if key.value in keys:
                raise InputError(f"the key {key.value!r:.80} is given twice (line {key.start_mark.line + 1})")
            keys.add(key.value)


def _count(node: Any, counts: dict[int, int]) -> int:
    """Values in a node with its aliases followed."""
    if id(node) not in counts:
        counts[id(node)] = 0  # until all below it is counted
        inside = node.value if isinstance(node.value, list) else []
        if inside and isinstance(inside[0], tuple):
            _check_keys(node)  # of two equal ones the last would count, unnoticed
        parts = [part for item in inside for part in (item if isinstance(item, tuple) else (item,))]
        counts[id(node)] = 1 + sum(_count(part, counts) for part in parts)
    elif not counts[id(node)]:
        raise InputError("an alias in it leads back to itself")
    if counts[id(node)] > _MOST_VALUES:
        raise InputError(f"its aliases make more than {_MOST_VALUES:,} values of it")
    return counts[id(node)]
