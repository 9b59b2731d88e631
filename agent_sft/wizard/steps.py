"""The questions of the wizard, in their order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent_sft.config.distill import KEY_VARIABLE
from agent_sft.config.secrets import environment_with_secrets
from agent_sft.config.tiny import is_made_here
from agent_sft.engines.llamafactory.memory import GIB
from agent_sft.errors import UserError, nearest
from agent_sft.report.numbers import counted
from agent_sft.runs.devices import gpu_processes, visible_gpus
from agent_sft.stages.evaluators.customer import is_address
from agent_sft.wizard import found, models
from agent_sft.wizard.places import place_questions
from agent_sft.wizard.questions import Answers, Choice, Question
from agent_sft.wizard.settings import Settings, computed

FILE, DISTILL = "file", "distill"
OTHER = "other"
ACCEPT = "accept"
YES, NO = "yes", "no"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def questions() -> list[Question]:
    """Return all questions; which are asked depends on the answers before."""
    return [
        Question(
            "scenario",
            "What do you want to do?",
            _one_of(FILE, DISTILL),
            choices=lambda _: (
                Choice(FILE, "train a model on a file of conversations"),
                Choice(DISTILL, "have a larger model answer prompts, and train a smaller one on its answers"),
            ),
            default=lambda _: None,
        ),
        *_data_questions("data", "conversations", FILE, found.conversations),
        *_data_questions("prompts", "prompts", DISTILL, found.prompts),
        Question(
            "teacher",
            "Who answers them? An address (http://HOST:PORT/v1#NAME), a run, a model's folder or hub name:",
            _teacher,
            asked=_distils,
        ),
        Question(
            "key_variable",
            "Which environment variable holds its key?",
            _key_variable,
            default=lambda _: KEY_VARIABLE,
            asked=lambda answers: _distils(answers) and is_address(answers["teacher"]),
        ),
        Question("samples", "How many answers to each prompt, at most?", _count, default=lambda _: "1", asked=_distils),
        Question(
            "max_tokens_total",
            "How many tokens may all of it take? (0: no ceiling)",
            _count_or_none,
            default=lambda _: "0",
            asked=_distils,
        ),
        Question(
            "model",
            "Which model is trained?",
            _model,
            choices=lambda _: models.offered(visible_gpus()),
            default=lambda _: None,
            notes=_machine,
        ),
        Question(
            "other_model",
            "Which one? A folder, or a name on the hub:",
            lambda _, given: models.checked_model(_text(given)),
            asked=lambda answers: answers["model"] == OTHER,
        ),
        Question(
            "template",
            "Nothing tells which chat template belongs to it. Which of LLaMA-Factory's is it?",
            lambda _, given: models.checked_template(_text(given)),
            asked=lambda answers: models.derived_template(model_of(answers)) is None,
        ),
        *place_questions(),
        Question("name", "What is it called? (a folder of that name is made)", _name),
        Question(
            "settings",
            "These settings?",
            _settings,
            choices=_settings_choices,
            default=lambda _: ACCEPT,
            notes=_settings_notes,
        ),
        Question(
            "changes",
            "Its new value:",
            lambda answers, given: {**answers.get("changes", {}), answers["settings"]: _changed(answers, given)},
            asked=lambda answers: answers["settings"] in Settings.model_fields,
            then="settings",
        ),
    ]


def run_question(text: str, default: str) -> Question:
    """Return the question whether something is to be run now."""

    def check(_: Answers, given: Any) -> bool:
        return given if isinstance(given, bool) else _one_of(YES, NO)(_, given) == YES

    choices = (Choice(YES, "yes"), Choice(NO, "no"))
    return Question("run", text, check, choices=lambda _: choices, default=lambda _: default)


def model_of(answers: Answers) -> str:
    """Return the model that is trained."""
    return str(answers["other_model"] if answers["model"] == OTHER else answers["model"])


def data_of(answers: Answers) -> found.Data:
    """Return the data: conversations, or prompts."""
    key = "data" if answers["scenario"] == FILE else "prompts"
    chosen = answers[f"{key}_file"] if answers.get(key) == OTHER else answers[key]
    assert isinstance(chosen, found.Data)
    return chosen


def settings_of(answers: Answers) -> Settings:
    """Return the settings: those that follow from the rows, with what was changed."""
    settings = computed(data_of(answers).rows, tiny=is_made_here(model_of(answers)))
    return settings.all_changed(answers.get("changes", {}))


def held_memory() -> Iterator[str]:
    """Yield who holds memory of the GPUs that are used, and what to do about it."""
    held = gpu_processes()
    told = False
    for gpu in visible_gpus():
        for process in held.get(gpu.uuid, ()):
            size = f"{process.used_bytes / GIB:.1f} GiB" if process.used_bytes is not None else "memory"
            yield f"GPU {gpu.index} ({gpu.name}): process {process.pid} ({process.owner}) holds {size}"
            told = True
    if told:
        yield "  wait for it, end it if it is yours (kill PID), or choose other GPUs with CUDA_VISIBLE_DEVICES"


def _data_questions(key: str, what: str, scenario: str, read: Callable[[str], found.Data]) -> tuple[Question, Question]:
    """Return the questions for a file: one of those that are there, or another."""

    @cache
    def there() -> tuple[list[found.Data], int]:
        return found.search(Path(), read)

    def choices(_: Answers) -> list[Choice]:
        return [*(Choice(one.path, one.title) for one in there()[0]), Choice(OTHER, "another file")]

    def notes(_: Answers) -> list[str]:
        usable, looked_at = there()
        return [f"{counted(looked_at, 'file')} here read to the end; {what} in {len(usable)} of them"]

    def check(_: Answers, given: Any) -> found.Data | str:
        return OTHER if given == OTHER else read(_text(given))

    return (
        Question(
            key,
            f"Which {what}?",
            check,
            choices=choices,
            asked=lambda answers: answers["scenario"] == scenario,
            notes=notes,
        ),
        Question(
            f"{key}_file",
            "Which file? A path, a glob, NAME@VERSION or hf:NAME:",
            lambda _, given: read(_text(given)),
            asked=lambda answers: answers["scenario"] == scenario and answers[key] == OTHER,
        ),
    )


def _distils(answers: Answers) -> bool:
    return bool(answers["scenario"] == DISTILL)


def _text(given: Any) -> str:
    text = str(given).strip()
    if not text:
        raise UserError("this needs an answer")
    return text


def _one_of(*values: str) -> Callable[[Answers, Any], str]:
    def check(_: Answers, given: Any) -> str:
        if given not in values:
            raise UserError(f"'{given}' is no answer", fix=nearest(str(given), values) or f"give {' or '.join(values)}")
        return str(given)

    return check


def _teacher(_: Answers, given: Any) -> str:
    text = _text(given)
    if is_address(text):
        place = urlsplit(text)
        if not place.hostname or not place.path.rstrip("/"):
            raise UserError(
                f"'{text}' is no address", fix="give it up to /v1: http://HOST:PORT/v1, with #NAME behind it"
            )
        return text
    return models.checked_model(text)


def _key_variable(answers: Answers, given: Any) -> str:
    name = _text(given)
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise UserError("this is no name of a variable", fix="give the variable's name, never the key itself")
    if name != KEY_VARIABLE and not environment_with_secrets().get(name):
        raise UserError(f"there is no variable {name}", fix="export it, or write it into .env, in another terminal too")
    return name


def _count(_: Answers, given: Any) -> int:
    text = _text(given)
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"'{text}' is no number from 1 on")
    return int(text)


def _count_or_none(answers: Answers, given: Any) -> int | None:
    return None if str(given).strip() == "0" else _count(answers, given)


def _model(_: Answers, given: Any) -> str:
    return OTHER if given == OTHER else models.checked_model(_text(given))


def _machine(_: Answers) -> Iterator[str]:
    gpus = visible_gpus()
    for gpu in gpus:
        free = f"{(gpu.free_bytes or 0) / GIB:.0f} of {(gpu.total_bytes or 0) / GIB:.0f} GiB free"
        yield f"this machine has GPU {gpu.index}: {gpu.name}, {free}"
    if not gpus:
        yield "this machine has no GPU"
    yield from held_memory()


def _name(_: Answers, given: Any) -> str:
    name = _text(given)
    if not NAME.fullmatch(name):
        raise UserError(f"'{name}' cannot be the name", fix="small letters, digits, - and _, such as support-001")
    if Path(name).exists():
        raise UserError("is there already", where=name, fix="choose another name")
    return name


def _settings(answers: Answers, given: Any) -> str:
    if isinstance(given, Mapping):
        changed = settings_of(answers).all_changed(given)
        answers["changes"] = {name: getattr(changed, name) for name in given}
        return ACCEPT
    return _one_of(ACCEPT, *Settings.model_fields)(answers, given)


def _settings_choices(answers: Answers) -> list[Choice]:
    return [Choice(ACCEPT, "take them"), *(Choice(name, f"change {name} ({value})") for name, value in _shown(answers))]


def _settings_notes(answers: Answers) -> Iterator[str]:
    data = data_of(answers)
    rows = counted(data.rows, "conversation" if _distils(answers) else "row")
    if _distils(answers):
        rows += ", if every prompt gets an answer"
    yield f"for {rows}, template {template_of(answers)}:"
    yield from (f"  {name:<16}{value}" for name, value in _shown(answers))


def _shown(answers: Answers) -> list[tuple[str, str]]:
    """Return the settings that count, as people write them."""
    values = settings_of(answers).model_dump()
    if values["finetuning_type"] != "lora":
        del values["lora_rank"]
    return [(name, f"{value:g}" if isinstance(value, float) else str(value)) for name, value in values.items()]


def _changed(answers: Answers, given: Any) -> Any:
    name = answers["settings"]
    return getattr(settings_of(answers).changed(name, given), name)


def template_of(answers: Answers) -> str:
    """Return the chat template."""
    return answers.get("template") or models.derived_template(model_of(answers)) or ""
