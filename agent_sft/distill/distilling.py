"""A distillation from its options to a dataset: checked, asked, judged, written; gone on with where it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from agent_sft.config.distill import KEY_VARIABLE, DistillConfig
from agent_sft.config.secrets import environment_with_secrets
from agent_sft.data.store import REFERENCE, VERSION, Store, check_name
from agent_sft.distill.answers import ANSWERS, Spent
from agent_sft.distill.asking import gateway, wait_for_last_answers
from agent_sft.distill.choosing import Choice, choose
from agent_sft.distill.gateway import Status
from agent_sft.distill.prompts import Prompts, read_prompts
from agent_sft.distill.sampling import Sampler, make_sampler
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import digest_file, digest_value, read_json, write_atomic, write_json
from agent_sft.report.numbers import counted
from agent_sft.runs.directory import check_is_directory
from agent_sft.runs.lock import run_lock
from agent_sft.runs.processes import StopSignal
from agent_sft.stages.evaluating import serve_request
from agent_sft.stages.evaluators.customer import is_address, model_at
from agent_sft.stages.reporting import EvaluationReporter
from agent_sft.stages.serving import serve

CONVERSATIONS, FAILURES, RECORD = "conversations.jsonl", "failures.jsonl", "distillation.json"
HOME = Path("distilled")
_FILE = re.compile(r".+\.jsonl")


@dataclass(frozen=True)
class Target:
    """Where the conversations go."""

    text: str
    """As it was given."""
    dataset: str | None
    version: str | None

    @property
    def folder(self) -> Path:
        """Where the work goes unless another place is named: the same one for all versions."""
        return HOME / (self.dataset or Path(self.text).stem)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: `distillation.json`."""

    request: str
    """The digest of all that was asked for."""
    to: str
    teacher: str
    prompts: int
    """Prompts that a conversation was made of."""
    conversations: int
    rejected: int
    """Prompts whose answers were not good enough."""
    unanswered: int
    not_asked: int
    unusable: int
    repeated: int
    samples: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    """None without prices."""
    ended_by: str | None
    """The ceiling that was reached."""
    digest: str
    """Of `conversations.jsonl`."""

    @property
    def open(self) -> int:
        """Prompts that may still become conversations."""
        return self.unanswered + self.not_asked


@dataclass(frozen=True)
class Outcome:
    """How a distillation ended."""

    folder: Path
    record: Record
    ran: bool
    """False where everything was done before."""
    written: bool
    """Whether the dataset is there."""
    first_failure: str | None


def target_of(config: DistillConfig) -> Target:
    """Return where the conversations are to go.

    Raises:
        UserError: it is neither NAME@VERSION nor a file.
    """
    text = config.to
    if (match := REFERENCE.fullmatch(text)) is not None:
        check_name(match["name"], where="--to")
        if not VERSION.fullmatch(match["version"]):
            raise UserError(f"'{match['version']}' is no version", where="--to", fix="three numbers, such as 0.1.0")
        return Target(text, match["name"], match["version"])
    if not _FILE.fullmatch(text):
        raise UserError(f"'{text}' is neither NAME@VERSION nor FILE.jsonl", where="--to")
    check_is_directory(Path(text).parent)
    return Target(text, None, None)


@dataclass(frozen=True)
class Work:
    """A distillation that was checked."""

    config: DistillConfig
    target: Target
    folder: Path
    prompts: Prompts | None
    sampler: Sampler
    key: str

    @property
    def request(self) -> str:
        """The digest of all that its outcome depends on."""
        asked = self.config.model_dump(mode="json", exclude={"concurrency", "key_variable", "out", "allow_missing"})
        return digest_value([asked, str(self.sampler.folder)])


def check(config: DistillConfig, reporter: EvaluationReporter, stop: StopSignal) -> Work:
    """Find what is wrong with a request before anything is spent.

    Raises:
        UserError: saying what, and what to do.
    """
    target = target_of(config)
    folder = config.out or target.folder
    check_is_directory(folder)
    for other in config.reuse:
        if not (other / ANSWERS).is_file():
            raise UserError(f"holds no {ANSWERS}", where=f"--reuse {other}", fix="name the folder of a distillation")
    environment = environment_with_secrets()
    key = environment.get(config.key_variable, "")
    if not key and config.key_variable != KEY_VARIABLE:
        fix = "export it, or write it into .env"
        raise UserError(f"there is no variable {config.key_variable}", where="--key-variable", fix=fix)
    if is_address(config.teacher) and config.serve:
        raise UserError("a teacher at an address is served already", where="--serve", fix="leave it out")
    if not is_address(config.teacher):
        serve_request(config.teacher, config.serve)
    prompts = read_prompts(config) if config.task is None else None
    sampler = make_sampler(config, folder, prompts, environment=environment, reporter=reporter, stop=stop)
    work = Work(config, target, folder, prompts, sampler, key)
    _check_target(work)
    return work


def distill(work: Work, reporter: EvaluationReporter, stop: StopSignal) -> Outcome:
    """Ask the teacher for what is missing, choose, and write the dataset if no prompt is left open.

    Raises:
        UserError: the teacher's server refuses the key, or the target cannot be written.
        WorkFailed: the teacher cannot be asked.
        Interrupted: the user stopped it.
    """
    if (record := _finished(work)) is not None:
        return Outcome(work.folder, record, ran=False, written=True, first_failure=None)
    lock = work.folder / "lock"
    wait_for_last_answers(lock, stop, reporter.say)
    with run_lock(lock, "wait for it to end, stop it, or choose another --out") as held:
        status = _asked(work, held, reporter, stop)
        choice = choose(work.sampler, work.prompts)
        write_atomic(work.folder / CONVERSATIONS, choice.content())
        write_atomic(work.folder / FAILURES, choice.listed())
        record = _record(work, choice, status)
        write_json(work.folder / RECORD, msgspec.to_builtins(record))
        written = bool(choice.conversations) and (not choice.open or work.config.allow_missing)
        if written:
            _write(work)
    failure = next((one.why for one in choice.failures if one.kind in ("unanswered", "not asked", "rejected")), None)
    return Outcome(work.folder, record, ran=True, written=written, first_failure=failure)


def _asked(work: Work, lock: int, reporter: EvaluationReporter, stop: StopSignal) -> Status | None:
    """Ask for what is missing; return what the gateway tells, None where nothing was missing."""
    if not work.sampler.pending():
        return None
    with (
        _teacher(work, reporter, stop) as (teacher, why_dead),
        gateway(teacher, work.config, work.folder, hold=lock, stop=stop, say=reporter.say) as asked,
    ):
        sampler = replace(work.sampler, run=replace(work.sampler.run, why_dead=why_dead))
        sampler.sample(asked)
        return asked.status()


@contextmanager
def _teacher(
    work: Work, reporter: EvaluationReporter, stop: StopSignal
) -> Iterator[tuple[ServedModel, Callable[[], str | None]]]:
    """Yield the teacher and what tells why its server is gone."""
    config = work.config
    if is_address(config.teacher):
        yield model_at(config.teacher, work.key, where="--teacher", key_variable=config.key_variable), lambda: None
        return
    request = serve_request(config.teacher, config.serve)
    with serve(request, place=work.folder / "server", stop=stop, reporter=reporter) as server:
        yield server.model, lambda: None if server.alive() else server.why_dead()


def _check_target(work: Work) -> None:
    """Refuse a version that holds something else: it would be found out when all was paid for."""
    target = work.target
    if target.dataset is None or all(card.reference != target.text for card in Store.at().cards()):
        return
    if _finished(work) is None:
        raise UserError(f"{target.text} exists: versions do not change", where="--to", fix="name a new version")


def _finished(work: Work) -> Record | None:
    """Return what came of the same request, if nothing was left open and what it made is there."""
    known = read_json(work.folder / RECORD)
    try:
        record = msgspec.convert(known, Record)
        made = digest_file(work.folder / CONVERSATIONS)
        if work.target.dataset is None:
            written = digest_file(Path(work.target.text))
        else:
            written = Store.at().card(work.target.text).digest
    except (msgspec.ValidationError, OSError, UserError):
        return None
    done = record.request == work.request and not record.open
    return record if done and made == written == record.digest else None


def _record(work: Work, choice: Choice, status: Status | None) -> Record:
    known = read_json(work.folder / RECORD) or {}
    if status is None:  # nothing was asked: it is as it was
        status = Status(input_tokens=known.get("input_tokens", 0), output_tokens=known.get("output_tokens", 0))
    spent = Spent(0, status.input_tokens, status.output_tokens)
    config = work.config
    priced = config.price_in is not None and config.price_out is not None
    return Record(
        request=work.request,
        to=work.target.text,
        teacher=config.teacher,
        prompts=choice.prompts,
        conversations=len(choice.conversations),
        rejected=choice.count("rejected"),
        unanswered=choice.count("unanswered"),
        not_asked=choice.count("not asked"),
        unusable=choice.count("unusable"),
        repeated=choice.count("repeated"),
        samples=choice.samples,
        input_tokens=spent.input_tokens,
        output_tokens=spent.output_tokens,
        cost=spent.cost(config.price_in or 0, config.price_out or 0) if priced else None,
        ended_by=status.ended_by,
        digest=digest_file(work.folder / CONVERSATIONS),
    )


def _write(work: Work) -> None:
    made = work.folder / CONVERSATIONS
    if work.target.dataset is None:
        write_atomic(Path(work.target.text), made.read_bytes())
        return
    rows: Iterator[Any] = (msgspec.json.decode(line) for line in made.read_bytes().splitlines())
    assert work.target.version is not None
    Store.at().push(
        made,
        work.target.dataset,
        work.target.version,
        rows=rows,
        origin=f"distilled from {work.config.teacher}",
        transforms=("distill",),
    )


def check_complete(outcome: Outcome) -> None:
    """Refuse to take a distillation for done that is not.

    Raises:
        WorkFailed: with what is left and how it goes on.
    """
    record = outcome.record
    if outcome.written:
        return
    listed = outcome.folder / FAILURES
    if not record.open:
        why = f": {outcome.first_failure}" if outcome.first_failure else ""
        raise WorkFailed(f"no answer was accepted{why}", fix=f"all are listed in {listed}; lower what is asked of them")
    what = f"no answer to {counted(record.open, 'prompt')}; {record.to} is not written"
    if record.ended_by is not None:
        raise WorkFailed(
            f"stopped at {record.ended_by}: {what}",
            fix="with a higher ceiling the same command goes on; --allow-missing writes what there is",
        )
    raise WorkFailed(
        f"{what}: {outcome.first_failure}",
        fix=f"the same command asks them again (all in {listed}); --allow-missing writes what there is",
    )
