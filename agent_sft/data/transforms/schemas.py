"""A tool's JSON schema against the arguments it was called with, and the repairs that have one possible meaning."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agent_sft.data.transforms.chat import json_text, shown
from agent_sft.data.turns import Unusable

if TYPE_CHECKING:  # its import takes longer than a small file, and data without tools never need it
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

LITERAL = re.compile(r"\^((?:\\[^\w\s]|[^\\.^$*+?{}\[\]|()])+)")
"""The characters that every text begins with that a pattern finds: up to the first that is not itself."""

COMBINED = ("allOf", "anyOf", "oneOf", "not", "$ref", "if", "patternProperties", "unevaluatedProperties")

MOST_REPAIRS = 50


@dataclass(frozen=True)
class Repair:
    """A repair that the user knows to be right: a text of a wrong form is written in the right one."""

    argument: str
    """The name of the argument, at any depth."""
    pattern: re.Pattern[str]
    """What the whole text looks like."""
    replace: str
    """What it becomes, in the words of `re.sub`."""


class ToolSchemas:
    """The schemas of a set of tools."""

    def __init__(self, tools: Sequence[Any], *, closed: bool) -> None:
        self._parameters: dict[str, Any] = {}
        for number, tool in enumerate(tools, start=1):
            function = tool.get("function", tool) if isinstance(tool, dict) else None
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                raise Unusable(f"tool {number} has no name")
            parameters = function.get("parameters")
            self._parameters[function["name"]] = parameters if parameters is not None else {}
        self._closed = closed
        self._validators: dict[str, Draft202012Validator] = {}

    @property
    def names(self) -> list[str]:
        """The tools' names."""
        return list(self._parameters)

    def errors(self, name: str, arguments: Any) -> list[ValidationError]:
        """Return what is wrong with the arguments of a call, in the order of the arguments.

        Raises:
            Unusable: the tool's schema is none, or refers to something that is not in it.
        """
        from referencing.exceptions import Unresolvable

        try:
            return list(self._validator(name).iter_errors(arguments))
        except Unresolvable as error:
            raise Unusable(f"the schema of '{name}' refers to {error}, which is not in it") from error

    def _validator(self, name: str) -> Draft202012Validator:
        if name not in self._validators:
            from jsonschema import Draft202012Validator
            from jsonschema.exceptions import SchemaError
            from referencing import Registry

            schema = self._parameters[name]
            try:
                Draft202012Validator.check_schema(schema)
            except SchemaError as error:
                raise Unusable(f"the schema of '{name}' is no JSON schema: {shown(error.message)}") from error
            # With an empty registry nothing is ever fetched.
            self._validators[name] = Draft202012Validator(
                close(schema) if self._closed else schema, registry=Registry()
            )
        return self._validators[name]


@lru_cache(maxsize=64)
def schemas_of(tools: str, closed: bool) -> ToolSchemas:
    """Return the schemas of tools given as a JSON text: most rows of a file have the same."""
    return ToolSchemas(json.loads(tools), closed=closed)


def close(schema: Any) -> Any:
    """Return a schema in which an object has the properties that are named and no others.

    Objects that say themselves what else they take, and those put together of several schemas, stay as they are.
    """
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    if isinstance(schema.get("properties"), dict):
        closed["properties"] = {key: close(value) for key, value in schema["properties"].items()}
        if "additionalProperties" not in schema and not any(key in schema for key in COMBINED):
            closed["additionalProperties"] = False
    if isinstance(schema.get("items"), dict):
        closed["items"] = close(schema["items"])
    return closed


def mend(
    schemas: ToolSchemas, name: str, arguments: dict[str, Any], repairs: Sequence[Repair] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Return arguments that the tool's schema allows, and the repairs that it took.

    Raises:
        Unusable: something is wrong whose meaning is not certain.
    """
    notes: list[str] = []
    mended = arguments
    if repairs and (found := list(_configured(mended, repairs))):
        mended = copy.deepcopy(mended)
        for path, old, right in found:
            _put(mended, path, right)
            notes.append(_note(path, old, right))
    for _ in range(MOST_REPAIRS):
        errors = schemas.errors(name, mended)
        if not errors:
            return mended, notes
        repaired = next(((error, new) for error in errors if (new := _certain(error)) is not None), None)
        if repaired is None:
            break
        error, new = repaired
        if mended is arguments:
            mended = copy.deepcopy(arguments)
        notes.append(_note(error.absolute_path, error.instance, new[0]))
        if not error.absolute_path:
            break
        _put(mended, list(error.absolute_path), new[0])
    raise Unusable("; ".join(explain(error) for error in errors[:3]))


def explain(error: ValidationError) -> str:
    """Return in words what is wrong with an argument."""
    place = _named(error.absolute_path)
    known: Any = error.validator_value
    schema: Any = error.schema
    given: Any = error.instance
    value = shown(json_text(given))
    if error.validator == "required":
        missing = [key for key in known if key not in given]
        return f"{place + ' ' if place else ''}lacks {', '.join(repr(key) for key in missing)}"
    if error.validator == "additionalProperties":
        unknown = [key for key in given if key not in schema.get("properties", {})]
        return (
            f"{place + ' ' if place else ''}has {', '.join(repr(key) for key in unknown)}, which the tool does not take"
        )
    if error.validator == "enum":
        return f"{place} is {value}, none of {shown(known)}"
    if error.validator == "type":
        wanted = " or ".join(known) if isinstance(known, list) else known
        return f"{place or 'it'} is {value}, not of the type {wanted}"
    if error.validator == "pattern":
        return f"{place} is {value}, which does not match {known}"
    return f"{place + ': ' if place else ''}{shown(error.message, 120)}"


def _certain(error: ValidationError) -> tuple[Any] | None:
    """Return the one value that can have been meant, in a tuple; None where there may be several."""
    if error.parent is not None:  # one branch of several: which one was meant is open
        return None
    value: Any = error.instance
    known: Any = error.validator_value
    if error.validator == "pattern" and isinstance(value, str):
        return _completed(value, known)
    if error.validator == "type" and isinstance(known, str):
        return _converted(value, known)
    if error.validator == "enum" and isinstance(value, str):
        same = [item for item in known if isinstance(item, str) and item.lower() == value.strip().lower()]
        return (same[0],) if len(same) == 1 else None
    return None


def _completed(value: str, pattern: str) -> tuple[str] | None:
    """Put back the literal characters that a pattern begins with, where one way of doing so makes it match."""
    literal = LITERAL.match(pattern)
    if literal is None:
        return None
    prefix = re.sub(r"\\(.)", r"\1", literal[1])
    fitting = [
        prefix[:length] + value for length in range(1, len(prefix) + 1) if re.search(pattern, prefix[:length] + value)
    ]
    return (fitting[0],) if len(fitting) == 1 else None


def _converted(value: Any, wanted: str) -> tuple[Any] | None:
    """Return what a text holds where it is the JSON of the type wanted, or the text of a whole number."""
    if wanted == "string" and isinstance(value, int) and not isinstance(value, bool):
        return (str(value),)
    if not isinstance(value, str) or wanted not in ("integer", "number", "boolean", "array", "object"):
        return None
    text = value.strip().lower() if wanted == "boolean" else value
    try:
        parsed = json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    if wanted in ("integer", "number"):
        kinds: tuple[type, ...] = (int,) if wanted == "integer" else (int, float)
        return (parsed,) if isinstance(parsed, kinds) and not isinstance(parsed, bool) else None
    kind = {"boolean": bool, "array": list, "object": dict}[wanted]
    return (parsed,) if isinstance(parsed, kind) else None


def _configured(
    arguments: Any, repairs: Sequence[Repair], path: tuple[Any, ...] = ()
) -> Iterator[tuple[list[Any], str, str]]:
    """Yield where one of the user's repairs applies, the text that stands there, and what it becomes."""
    entries = arguments.items() if isinstance(arguments, dict) else enumerate(arguments)
    for key, value in entries:
        here = (*path, key)
        if isinstance(value, dict | list):
            yield from _configured(value, repairs, here)
        elif isinstance(value, str):
            name = next((part for part in reversed(here) if isinstance(part, str)), None)
            for repair in repairs:
                if repair.argument == name and repair.pattern.fullmatch(value):
                    new = repair.pattern.sub(repair.replace, value, count=1)
                    if new != value:
                        yield list(here), value, new
                    break


def _note(path: Sequence[Any], old: Any, new: Any) -> str:
    return f"{_named(path)}: {shown(json_text(old))} -> {shown(json_text(new))}"


def _put(value: Any, path: Sequence[Any], new: Any) -> None:
    for part in path[:-1]:
        value = value[part]
    value[path[-1]] = new


def _named(path: Sequence[Any]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return f"'{text}'" if text else ""
