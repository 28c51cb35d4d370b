"""Plain values as a document in YAML, JSON or TOML, which `reading` reads as the very same values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import tomli_w
import yaml

from actorflow.plan.spec.faults import Faults, Path
from actorflow.plan.spec.forms import VERBS
from actorflow.plan.spec.reading import Form, is_word

WIDTH = 120


def printed(data: Mapping[str, Any], form: Form) -> str:
    """Return the text of an app that is data. Raises: SpecError for TOML, when there is a null in it."""
    if form == "json":
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if form == "toml":
        faults = Faults()
        values = _without_null(data, (), faults)
        faults.raise_any()
        return tomli_w.dumps(values)
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes text in quotes where it would be read as something else, and nothing for null."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if is_word(text) or not text.isprintable() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _null(dumper: yaml.SafeDumper, _: None) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:null", "")


_Dumper.add_representer(str, _text)
_Dumper.add_representer(type(None), _null)


def _without_null(data: Any, path: Path, faults: Faults) -> Any:
    """Return values as TOML has them: a verb without a value is true, and any other null cannot be written."""
    if isinstance(data, Mapping):
        return {key: _without_null(value, (*path, key), faults) for key, value in data.items()}
    if isinstance(data, list):
        return [_without_null(value, (*path, index), faults) for index, value in enumerate(data)]
    if data is None and path[-1] in VERBS and len(path) > 1 and isinstance(path[-2], int) and path[-3] == "steps":
        return True
    if data is None:
        faults.add(path, "TOML has no null: write the app as YAML or JSON")
    return data
