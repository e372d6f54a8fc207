"""Bracketed form encoding, as Stripe's libraries send it, to nested dicts. Leaves out types: everything is text."""

import re
from urllib.parse import parse_qsl

from .errors import Json, invalid

DEPTH_LIMIT = 10
_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def decode(text: str) -> Json:
    """`a[b]=1&c[0]=2&d[]=3` becomes `{"a": {"b": "1"}, "c": {"0": "2"}, "d": {"0": "3"}}`.

    Lists stay dicts with numbered keys, because only the schema knows whether `metadata[0]` is a list.
    Refuses keys that are malformed or that contradict one another.
    """
    tree: Json = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        match = _KEY.fullmatch(key)
        if match is None:
            raise invalid(f"Invalid parameter name: {key}", param=key)
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        if len(path) > DEPTH_LIMIT:
            raise invalid(f"Parameter is nested too deeply: {key}", param=key)
        node = tree
        for step in path[:-1]:
            child = node.setdefault(step or str(len(node)), {})
            if not isinstance(child, dict):
                raise invalid(f"Invalid parameter: {key} contradicts an earlier parameter.", param=key)
            node = child
        last = path[-1] or str(len(node))
        if isinstance(node.get(last), dict):
            raise invalid(f"Invalid parameter: {key} contradicts an earlier parameter.", param=key)
        node[last] = value
    return tree
