"""Questions, one at a time: asked on a terminal, where one can go back and quit, or answered by a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agent_sft.config.yaml_files import read_mapping
from agent_sft.errors import UserError, nearest

Answers = dict[str, Any]
"""What was answered so far, by the questions' keys."""


class Back(Exception):
    """The one before is to be asked again."""


class Quit(Exception):
    """No more questions are wanted."""


@dataclass(frozen=True)
class Choice:
    """One of several answers."""

    value: str
    title: str


def _always(_answers: Answers) -> bool:
    return True


def _nothing(_answers: Answers) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Question:
    """One question."""

    key: str
    text: str
    check: Callable[[Answers, Any], Any]
    """Turns what was answered into the value that is kept. Raises `UserError`: it is asked again."""
    choices: Callable[[Answers], Sequence[Choice]] | None = None
    """None where the answer is free."""
    default: Callable[[Answers], str | None] = lambda _answers: None
    """None where somebody has to say it."""
    asked: Callable[[Answers], bool] = _always
    """Whether it makes sense after these answers."""
    notes: Callable[[Answers], Iterable[str]] = _nothing
    """What is told before it is asked."""
    then: str | None = None
    """The question that follows, by its key; the next one when None."""


class Prompter(Protocol):
    """Asks people."""

    def say(self, text: str) -> None:
        """Show a line."""

    def choose(self, text: str, choices: Sequence[Choice], default: str | None) -> str:
        """Return the value of the choice.

        Raises:
            Back, Quit: that was chosen.
        """

    def write(self, text: str, default: str | None) -> str:
        """Return what was written.

        Raises:
            Back, Quit: that was written.
        """


def ask(questions: Sequence[Question], prompter: Prompter) -> Answers:
    """Ask the questions in their order until all are answered; an answer that cannot be used is asked for again.

    Raises:
        Quit: no more are wanted.
    """
    answers: Answers = {}
    way: list[tuple[int, Answers]] = []
    keys = [question.key for question in questions]
    number = 0
    while number < len(questions):
        question = questions[number]
        if not question.asked(answers):
            number += 1
            continue
        before = dict(answers)
        try:
            answers[question.key] = _answer(question, answers, prompter)
        except Back:
            if way:
                number, answers = way.pop()
            else:
                prompter.say("this is the first question")
            continue
        way.append((number, before))
        number = number + 1 if question.then is None else keys.index(question.then)
    return answers


def _answer(question: Question, answers: Answers, prompter: Prompter) -> Any:
    for note in question.notes(answers):
        prompter.say(note)
    choices = question.choices(answers) if question.choices is not None else None
    while True:
        default = question.default(answers)
        if choices is not None:
            given = prompter.choose(question.text, choices, default)
        else:
            given = prompter.write(question.text, default)
        try:
            return question.check(answers, given)
        except UserError as error:
            prompter.say(f"  {error}")


def answered_by_file(questions: Sequence[Question], path: Path) -> Answers:
    """Answer the questions from a YAML file; what it does not say is left to the defaults.

    Raises:
        UserError: it cannot be read, has a key that is no question, lacks an answer, or has a wrong one.
    """
    given = read_mapping(path, "answers, each by the name of its question")
    known = {question.key: question for question in questions}
    for key in given:
        if key not in known:
            hint = nearest(str(key), known) or f"there are {', '.join(known)}"
            raise UserError(f"there is no question '{key}'", where=str(path), fix=hint)
    answers: Answers = {}
    for question in questions:
        if question.asked(answers):
            answers[question.key] = _from_file(question, answers, given, path)
        elif question.key in given:
            raise UserError(f"'{question.key}' is not asked after these answers", where=str(path), fix="leave it out")
    return answers


def _from_file(question: Question, answers: Answers, given: Mapping[str, Any], path: Path) -> Any:
    value = given.get(question.key, question.default(answers))
    if value is None:
        raise UserError(f"there is no answer to '{question.key}'", where=str(path), fix=question.text)
    try:
        return question.check(answers, value)
    except UserError as error:
        where = f"{path}, {question.key}" + (f": {error.where}" if error.where else "")
        raise UserError(error.what, where=where, fix=error.fix) from error
