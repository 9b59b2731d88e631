"""Who plays the customer: the base model on the same server, a model behind an address, or a provider's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent_sft.engines.endpoint import Refused
from agent_sft.engines.nothing import CUSTOMER
from agent_sft.engines.served import ServedModel, known_by_address
from agent_sft.errors import UserError, WorkFailed, nearest
from agent_sft.stages.evaluators.contract import NOTHING, EvalRun

SCRIPTED, LOCAL = "scripted", "local"
USER_KEY = "AGENT_SFT_USER_API_KEY"
"""Holds the key of a customer's address."""
KEY_VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "azure": "AZURE_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "fireworks": "FIREWORKS_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "google": "GOOGLE_API_KEY",
    "groq": "GROQ_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "together": "TOGETHER_API_KEY",
    "together_ai": "TOGETHERAI_API_KEY",
    "xai": "XAI_API_KEY",
}
"""Where each provider's key is looked for; Inspect and litellm spell some providers differently."""


@dataclass(frozen=True)
class Provided:
    """A provider's model, by `PROVIDER/NAME`; its key stands in the environment."""

    name: str


Customer = ServedModel | Provided


def is_address(text: str) -> bool:
    """Tell whether a model is named by the address of its server."""
    return text.startswith(("http://", "https://"))


def check_customer(run: EvalRun) -> None:
    """Find what is wrong with `--user-model` before anything starts.

    Raises:
        UserError: the provider is unknown, or there is no key for it; an address serves no such model.
        WorkFailed: nothing answers at the address.
    """
    text = run.user_model
    if text is None or text in (SCRIPTED, LOCAL, NOTHING):
        return
    if is_address(text):
        _at_address(text, run)
        return
    provider, slash, name = text.partition("/")
    if not slash or not name:
        raise UserError(
            f"'{text}' is no customer",
            where="--user-model",
            fix=nearest(text, (SCRIPTED, LOCAL)) or "give PROVIDER/NAME, an address, local or scripted",
        )
    if provider not in KEY_VARIABLES:
        hint = nearest(provider, KEY_VARIABLES) or f"known are {', '.join(KEY_VARIABLES)}; another one by its address"
        raise UserError(f"there is no provider '{provider}'", where="--user-model", fix=hint)
    if not run.environment.get(KEY_VARIABLES[provider]):
        raise UserError(
            f"there is no API key for {provider}",
            where=f"--user-model {text}",
            fix=f"set {KEY_VARIABLES[provider]}, or write it into .env",
        )


def customer_of(run: EvalRun, agent: ServedModel) -> Customer | None:
    """Return the model that plays the customer; None where the benchmark's own script does.

    Raises:
        UserError: its address serves several models, or none of the name.
    """
    text = run.user_model
    if text is None or text == SCRIPTED:
        return None
    if text == NOTHING:
        return replace(agent, name=CUSTOMER)
    if text == LOCAL:
        return replace(agent, name=agent.base or agent.name)
    if not is_address(text):
        return Provided(text)
    return _at_address(text, run)


def _at_address(text: str, run: EvalRun) -> ServedModel:
    return model_at(text, run.environment.get(USER_KEY, ""), where="--user-model", key_variable=USER_KEY)


def model_at(text: str, key: str, *, where: str, key_variable: str) -> ServedModel:
    """Return the model at an address, `http://HOST:PORT/v1` or `http://HOST:PORT/v1#NAME`.

    Args:
        text: the address.
        key: sent with each request; may be empty.
        where: the option, for messages.
        key_variable: the variable that holds the key, for messages.

    Raises:
        UserError: the server refuses the key, serves several models or none of this name.
        WorkFailed: nothing answers there.
    """
    from agent_sft.engines.chat import served_names

    url, _, name = text.partition("#")
    url = url.rstrip("/")
    try:
        names = served_names(url, key)
    except Refused as refused:
        if refused.status in (401, 403):
            what = "the server refuses the key" if key else "the server wants a key"
            raise UserError(what, where=f"{where} {url}", fix=f"set {key_variable}, or write it into .env") from None
        if name and refused.status in (404, 405, 501):  # it lists no models: the name cannot be checked
            return known_by_address(name, url, key)
        raise WorkFailed(f"{url} does not list its models ({refused})") from refused
    except OSError as error:
        raise WorkFailed(f"nothing answers at {url} ({error})", fix="start the server, or mend the address") from error
    if not name and len(names) == 1:
        name = names[0]
    if name not in names:
        what = f"the server has no model '{name}'" if name else "the server has several models"
        hint = nearest(name, names) if name else ""
        raise UserError(
            what, where=f"{where} {url}", fix=hint or f"name one, {url}#NAME: {', '.join(names) or '(none)'}"
        )
    return known_by_address(name, url, key)
