"""`json_schema`: the answer is JSON of a given shape."""

from __future__ import annotations

from typing import Annotated, Any

from jsonschema import SchemaError
from jsonschema.validators import validator_for
from pydantic import AfterValidator

from agent_sft.evals.verifiers import contract
from agent_sft.evals.verifiers.contract import ACCEPTED, Answer, Verdict, Verifier, rejected
from agent_sft.evals.verifiers.registry import register_verifier
from agent_sft.evals.verifiers.texts import Pattern, counted_part, parse_json


def _checked(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"is no JSON schema: {error.message}") from error
    return schema


@register_verifier("json_schema")
class JsonSchema(Verifier):
    """Accepts an answer that is JSON, as it is or between fences, and valid by the schema."""

    class Config(contract.Config):
        """Its parameters."""

        expected: Annotated[dict[str, Any], AfterValidator(_checked)]
        """The schema."""
        pattern: Pattern | None = None
        """Only what this matches last counts: its first group, or all of it."""

    def verify(self, answer: Answer) -> Verdict:
        """Return whether the value is valid."""
        part = counted_part(answer.text, self.config.pattern)
        if part is None:
            return rejected(f"nothing in it matches {self.config.pattern}")
        try:
            value = parse_json(part)
        except ValueError as error:
            return rejected(f"is no JSON: {error}")
        schema = self.config.expected
        error_found = next(iter(validator_for(schema)(schema).iter_errors(value)), None)
        if error_found is None:
            return ACCEPTED
        return rejected(f"{error_found.json_path}: {error_found.message}"[:200])
