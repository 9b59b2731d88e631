"""`json_schema`: the answer is JSON of a given shape."""

from __future__ import annotations

from typing import Annotated, Any

from jsonschema import SchemaError
from jsonschema.validators import validator_for
from pydantic import AfterValidator

from agent_sft.evals.verifiers.json_answer import JsonAnswer
from agent_sft.evals.verifiers.registry import register_verifier


def _checked(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"is no JSON schema: {error.message}") from error
    return schema


@register_verifier("json_schema")
class JsonSchema(JsonAnswer):
    """Accepts an answer that is JSON, as it is or between fences, and valid by the schema."""

    class Config(JsonAnswer.Config):
        """Its parameters."""

        expected: Annotated[dict[str, Any], AfterValidator(_checked)]
        """The schema."""

    def fault(self, value: Any) -> str | None:
        """Return the first fault, with its place."""
        schema = self.config.expected
        found = next(iter(validator_for(schema)(schema).iter_errors(value)), None)
        return None if found is None else f"{found.json_path}: {found.message}"[:200]
