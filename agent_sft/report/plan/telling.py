"""The plan with its costs, the scoreboard and the final report, as parts of a document."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from agent_sft.report.document import Code, Section
from agent_sft.report.numbers import counted, duration, moment, money, p_value, places_for, plain, signed
from agent_sft.report.plan.record import (
    Candidate,
    Deployed,
    Inspection,
    Judged,
    Judgement,
    ModelFacts,
    PlanRecord,
    Scoreboard,
)
from agent_sft.report.tables import Table

NONE = "–"


@dataclass(frozen=True)
class Spent:
    """What a phase really took."""

    seconds: float
    device_hours: float


def plan_sections(plan: PlanRecord, inspection: Inspection) -> list[Section]:
    """Return the plan: what is in the data, what is tried, what it takes."""
    return [
        Section("The data", [*_data(inspection), parts_table(inspection), models_table(plan.models)]),
        Section("What is done", [*_done(plan), candidates_table(plan.candidates)]),
        Section("What it takes", [costs_table(plan), *plan.memory]),
        *([Section("What to know", [f"- {note}" for note in plan.notes])] if plan.notes else []),
    ]


def scoreboard_sections(board: Scoreboard, plan: PlanRecord) -> list[Section]:
    """Return the scoreboard: who is best, and how sure that is."""
    return [Section("The candidates", [" ".join(board.sentences), board_table(board, plan)])]


def final_sections(
    plan: PlanRecord,
    inspection: Inspection,
    board: Scoreboard,
    judged: Judgement,
    deployed: Deployed | None,
    spent: Mapping[str, Spent],
    provenance: Sequence[tuple[str, str]],
) -> list[Section]:
    """Return the final report.

    Args:
        plan: as it was approved.
        inspection: of the data.
        board: of the candidates.
        judged: the final model.
        deployed: where it is served; None where it is not.
        spent: what each phase took, by its name.
        provenance: what was made of what: names and values.
    """
    winner = next(one for one in plan.candidates if one.number == judged.candidate)
    trained = (
        f"Trained on all {inspection.part('training').rows:,} conversations with the settings of candidate "
        f"{winner.number}: {settings_words(winner)}."
        if judged.trained
        else f"Candidate {winner.number} as it was tried: {settings_words(winner)}."
    )
    figures = [f"{judged.steps:,} steps"]
    figures += [f"training loss {judged.train_loss:.4f}"] if judged.train_loss is not None else []
    where: list[str | Code] = ["It is not served: `agent-sft deploy` does that at any time."]
    if deployed is not None:
        where = [f"Served as `{deployed.name}` since {moment(deployed.at)}.", Code(deployed.lines)]
    return [
        Section("The answer", [*judged.sentences, trained, judged_table(judged), f"{', '.join(figures)}."]),
        *scoreboard_sections(board, plan),
        Section("Where it answers", where),
        Section("What it took", [spent_table(plan, spent)]),
        Section("Where it comes from", [Table("Made of", ["", ""], [list(pair) for pair in provenance])]),
        *plan_sections(plan, inspection),
    ]


def settings_words(one: Candidate) -> str:
    """Return a candidate's settings in words."""
    rank = f"LoRA rank {one.rank}, " if one.rank is not None else "all weights, "
    return f"{one.model}, {rank}learning rate {one.rate:g}, batch {one.batch}, {_epochs(one.epochs)}"


def _data(found: Inspection) -> list[str]:
    rows = ", ".join(f"{count:,} {fate}" for fate, count in found.rows.items() if count)
    tools = ", ".join(f"{name} ({count:,})" for name, count in list(found.tools.items())[:8]) or "none"
    grouped = f"by {found.grouped_by}" if found.grouped_by else "by what they ask"
    lines = [
        f"{', '.join(found.sources)} ({found.form}): {rows}. Pipeline: {found.pipeline}.",
        f"{counted(found.turns, 'turn')} to train on; tools called: {tools}. "
        f"{counted(found.duplicates, 'duplicate')}; {counted(found.groups, 'group')} {grouped}.",
    ]
    if found.rejected:
        reasons = "; ".join(found.first_rejects[:3])
        lines.append(f"{counted(found.rejected, 'row')} cannot be used (data/all/rejects.jsonl): {reasons}")
    if found.leaks:
        lines.append(f"{counted(found.leaks, 'conversation')} left out: the evaluation data ask the same.")
    lines.append(
        f"Answers can be checked by a program: {found.checkable}, in {found.checked:,}."
        if found.checkable
        else f"Answers cannot be checked by a program: {found.why_not_checkable}."
    )
    return lines


def _done(plan: PlanRecord) -> list[str]:
    final = (
        "the winner is deployed as it is"
        if plan.skip_final
        else f"the winner's settings are trained on all data for {_epochs(plan.final_epochs)}"
    )
    serve = ", then served" if plan.deploy else ""
    return [
        f"{counted(len(plan.candidates), 'candidate')}, {plan.at_once} at a time on {plan.machine}; {plan.search}; "
        f"{final}, and judged beside the untrained model{serve}.",
        f"Judged by {plan.judged_by}.",
    ]


def parts_table(found: Inspection) -> Table:
    """Return the parts of the data."""
    what = {
        "training": "the final run trains on it",
        "search": "candidates train on it",
        "choosing": "chooses the winner",
        "judging": "judges the final model; nothing is trained or chosen by it",
    }
    rows = [[one.name, f"{one.rows:,}", f"{one.groups:,}", what[one.name], one.file] for one in found.parts]
    return Table("Parts of the data", ["part", "conversations", "groups", "what it does", "file"], rows)


def models_table(models: Sequence[ModelFacts]) -> Table:
    """Return the models with the tokens of the data."""
    rows = [
        [
            one.name,
            one.template,
            _millions(one.parameters),
            f"{one.tokens:,}",
            f"{one.loss_tokens:,}",
            f"{one.median:,}",
            f"{one.longest:,}",
            f"{one.longer:,}",
        ]
        for one in models
    ]
    head = ["model", "template", "parameters", "tokens of a pass", "with loss", "median", "longest", "over the cutoff"]
    return Table("The data as models read it", head, rows)


def candidates_table(candidates: Sequence[Candidate]) -> Table:
    """Return the settings that are tried."""
    rows = [
        [
            f"{one.number}",
            one.model,
            f"{one.rank}" if one.rank is not None else "all weights",
            f"{one.rate:g}",
            plain(one.epochs),
            f"{one.batch}",
            f"{one.steps:,}",
        ]
        for one in candidates
    ]
    head = ["candidate", "model", "LoRA rank", "learning rate", "epochs", "batch", "steps"]
    return Table("Candidates", head, rows)


def _epochs(number: float) -> str:
    return f"{plain(number)} epoch{'' if number == 1 else 's'}"


def costs_table(plan: PlanRecord) -> Table:
    """Return what each phase is expected to take."""
    rows = [
        [one.phase, duration(one.seconds), f"{one.device_hours:.3g}", _money(one.device_hours, plan), one.detail]
        for one in plan.costs
    ]
    rows.append(["together", duration(plan.seconds), f"{plan.device_hours:.3g}", _money(plan.device_hours, plan), ""])
    how = (
        "by twenty measured steps of each model" if plan.measured else "by formula: right within a factor of two or so"
    )
    notes = [f"estimated {how}"]
    if not plan.on_gpus:
        notes.append("there is no GPU here: hours, and the price, are of this machine")
    if plan.budget_hours is not None:
        notes.append(f"budget: {plan.budget_hours:.3g} hours{_priced(plan.budget_hours, plan)}")
    table = Table("Expected", ["phase", "time", _unit(plan), "cost", ""], rows, notes)
    return _without_common(table, ("cost",))


def spent_table(plan: PlanRecord, spent: Mapping[str, Spent]) -> Table:
    """Return what each phase took, beside what was expected; what nobody expected, such as the probe, below the sum."""
    expected = {one.phase: Spent(one.seconds, one.device_hours) for one in plan.costs}
    taken = [spent[phase] for phase in expected if phase in spent]
    whole = Spent(plan.seconds, plan.device_hours)
    total = Spent(sum(one.seconds for one in taken), sum(one.device_hours for one in taken))
    lines: list[tuple[str, Spent | None, Spent | None]] = [
        *((phase, before, spent.get(phase)) for phase, before in expected.items()),
        ("together", whole, total),
        *((phase, None, after) for phase, after in spent.items() if phase not in expected),
    ]
    rows = []
    for phase, before, after in lines:
        both = (before, after)
        times = [duration(one.seconds) if one else NONE for one in both]
        hours = [f"{one.device_hours:.3g}" if one else NONE for one in both]
        money = [_money(one.device_hours, plan) if one else NONE for one in both]
        rows.append([phase, *times, *hours, *money])
    unit = _unit(plan)
    head = ["phase", "expected time", "time", f"expected {unit}", unit, "expected cost", "cost"]
    return _without_common(Table("Expected and real", head, rows), ("expected cost", "cost"))


def board_table(board: Scoreboard, plan: PlanRecord) -> Table:
    """Return the candidates with their figures, in their order."""
    scored = board.measure != "loss"
    rows = []
    for line in board.lines:
        one = line.candidate
        ends = line.low is not None and line.high is not None
        places = places_for((line.high or 0) - (line.low or 0), 2) if ends else 4
        interval = f"{line.low:.{places}f} to {line.high:.{places}f}" if ends else NONE
        rank = f"{one.rank}" if one.rank is not None else "all"
        cells = [f"{one.number}", one.model, rank, f"{one.rate:g}", plain(one.epochs)]
        cells.append(f"{line.loss:.{4 if scored else places}f}" if line.loss is not None else NONE)
        cells += [f"{line.score:.2f}" if line.score is not None else NONE] if scored else []
        cells += [interval, line.against or line.state, _against(line.difference, line.p, places)]
        cells += [duration(line.seconds) if line.seconds else NONE, _money(line.device_hours, plan)]
        rows.append(cells)
    notes = [f"candidate {line.candidate.number}: {line.reason}" for line in board.lines if line.reason]
    head = ["candidate", "model", "rank", "rate", "epochs", "loss"]
    head += [board.measure] if scored else []
    head += ["95 % interval", "verdict", "against the best", "time", "cost"]
    return _without_common(Table(f"Scoreboard: loss in {board.unit}", head, rows, notes), ("model", "epochs", "cost"))


def _without_common(table: Table, columns: Collection[str]) -> Table:
    """Return a table without those of these columns that are the same in all rows; a note says what they hold."""
    notes, kept = list(table.notes), []
    for place, column in enumerate(table.columns):
        values = {row[place] for row in table.rows}
        if column not in columns or len(values) != 1:
            kept.append(place)
        elif (value := values.pop()) != NONE:
            notes.append(f"{column} of all: {value}")
    rows = [[row[place] for place in kept] for row in table.rows]
    return Table(table.title, [table.columns[place] for place in kept], rows, notes)


def judged_table(judged: Judgement) -> Table:
    """Return the final model beside the untrained one."""
    scored = judged.measure != "loss"

    def cells(one: Judged) -> list[str]:
        ends = one.low is not None and one.high is not None
        places = places_for((one.high or 0) - (one.low or 0), 2) if ends else 4
        found = [one.name, f"{one.loss:.{4 if scored else places}f}" if one.loss is not None else NONE]
        found += [f"{one.score:.2f}" if one.score is not None else NONE] if scored else []
        return [*found, f"{one.low:.{places}f} to {one.high:.{places}f}" if ends else NONE]

    head = ["model", f"held-out loss ({judged.unit})", *([judged.measure] if scored else []), "95 % interval"]
    return Table("On conversations that nothing was trained or chosen by", head, [cells(one) for one in judged.models])


def _against(difference: float | None, p: float | None, places: int) -> str:
    return f"{signed(difference, places)}, p {p_value(p)}" if difference is not None and p is not None else ""


def _unit(plan: PlanRecord) -> str:
    return "GPU-hours" if plan.on_gpus else "machine-hours"


def _money(hours: float, plan: PlanRecord) -> str:
    return money(hours * plan.gpu_price) if plan.gpu_price is not None else NONE


def _priced(hours: float, plan: PlanRecord) -> str:
    return f", {money(hours * plan.gpu_price)} of money" if plan.gpu_price is not None else ""


def _millions(parameters: int | None) -> str:
    if parameters is None:
        return "unknown"
    return f"{parameters / 1e9:.1f} B" if parameters >= 1e9 else f"{parameters / 1e6:.1f} M"
