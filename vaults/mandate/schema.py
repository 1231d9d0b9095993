"""The JSON Schema of a mandate's YAML, for editors: what may stand where, in which units, with which defaults."""

from collections.abc import Mapping
from typing import Any

from ringfence.vaults.mandate.terms import POSITIONS_MAX, Defaults, Mandate

__all__ = ["json_schema"]


def json_schema(strategies: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of a mandate as written, `defaults` included.

    `strategies` are the known strategies' own schemas by name; with them an editor offers the names and parameters.
    The schema says less than the loader: contradictions between values and the venue's limits are found by `check`.
    """
    written = Mandate.model_json_schema(by_alias=True)
    defaults = Defaults.model_json_schema(by_alias=True)
    sections = {**defaults.pop("$defs"), **written.pop("$defs")}
    sections["Defaults"] = defaults
    written["properties"]["defaults"] = {"$ref": "#/$defs/Defaults"}
    written["properties"]["positions"] |= {"minProperties": 1, "maxProperties": POSITIONS_MAX}
    written["required"] = [key for key in written["required"] if key != "title"]
    position = sections["Position"]
    position["required"] = [key for key in position["required"] if key != "strategy"]  # it may stand under defaults
    if strategies is not None:
        sections |= _strategies(sections["StrategyTerms"], strategies)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Ringfence mandate"}
    return {**_as_written({**written, "$defs": sections}), **head}


def _strategies(terms: dict[str, Any], strategies: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The definition of a strategy's terms with a branch for each known name, and what the branches refer to."""
    shared: dict[str, Any] = {}
    branches = []
    for name, schema in sorted(strategies.items()):
        shared |= schema.get("$defs", {})
        named = {"properties": {"name": {"const": name}}, "required": ["name"]}
        properties = {"name": {"const": name}, **schema.get("properties", {})}
        then = {"properties": properties, "required": schema.get("required", []), "additionalProperties": False}
        branches.append({"if": named, "then": then})
    name_schema = {**terms["properties"]["name"], "enum": sorted(strategies)}
    return {**shared, "StrategyTerms": {**terms, "properties": {"name": name_schema}, "allOf": branches}}


def _as_written(schema: Any) -> Any:
    """Without what YAML mandates cannot say: null, and defaults in the program's own units."""
    if isinstance(schema, list):
        return [_as_written(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _as_written(part) for key, part in schema.items() if not _unwritable(key, part)}
    choices = kept.get("anyOf")
    if isinstance(choices, list):
        choices = [choice for choice in choices if choice != {"type": "null"}]
        if len(choices) == 1:
            return {**choices[0], **{key: part for key, part in kept.items() if key != "anyOf"}}
        kept["anyOf"] = choices
    return kept


def _unwritable(key: str, part: Any) -> bool:
    return key == "default" and (part is None or isinstance(part, dict))
