"""The one reader of YAML: plain values, or an `InputError` for what is none, grows without bound or has no meaning."""

from __future__ import annotations

from typing import Any

from enhancement.errors import InputError, one_line

LONGEST = 1_000_000
"""Characters of a text; our largest recipe has some 3,000."""

# Values after all aliases are followed; nine lists of nine aliases each make 400 million of 300 bytes.
_MOST_VALUES = 10_000


def load_yaml(text: str, *, texts: bool = False) -> Any:
    """Values of a YAML text; with `texts` every one of them is text, also ``no``, ``0`` and ``007``.

    `InputError` says what is wrong with the text, and leaves the file's name to the caller.
    """
    import yaml

    if len(text) > LONGEST:
        raise InputError(f"{len(text):,} characters; at most {LONGEST:,} expected")
    try:
        loader = (yaml.BaseLoader if texts else yaml.SafeLoader)(text)
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
    except (yaml.YAMLError, RecursionError) as error:  # YAML nests without a limit
        raise InputError("nested too deep" if isinstance(error, RecursionError) else one_line(error)) from None
    except (ValueError, OverflowError):
        raise InputError("a number of it is too long, or a date does not exist") from None


def _count(node: Any, counts: dict[int, int]) -> int:
    """Values in a node with its aliases followed."""
    if id(node) not in counts:
        counts[id(node)] = 0  # until all below it is counted
        inside = node.value if isinstance(node.value, list) else []
        parts = [part for item in inside for part in (item if isinstance(item, tuple) else (item,))]
        counts[id(node)] = 1 + sum(_count(part, counts) for part in parts)
    elif not counts[id(node)]:
        raise InputError("an alias in it leads back to itself")
    if counts[id(node)] > _MOST_VALUES:
        raise InputError(f"its aliases make more than {_MOST_VALUES:,} values of it")
    return counts[id(node)]
