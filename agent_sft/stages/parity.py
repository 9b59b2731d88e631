"""Before the first step: are the prompts that are trained on those that the server will render?

The trainer compares a sample of the prepared data before it loads the model: it has the engine loaded already, so
this costs a fraction of a second. What it finds is stamped, and looked at again only when something changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent_sft import __version__
from agent_sft.engines.llamafactory.encoding import encoding_settings
from agent_sft.engines.llamafactory.parity import Parity, check_parity, sample_rows
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import read_json, write_json
from agent_sft.runs.directory import Stamp
from agent_sft.stages.base_model import model_identity
from agent_sft.stages.doctor_case import Finding, failed
from agent_sft.stages.inputs import names
from agent_sft.stages.looking import looked_at
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.stage import Stage

SAMPLE_ROWS = 16
SAMPLE_BYTES = 500_000
"""Of prepared data, so that the check takes well below a second whatever the conversations' length."""
ENGINES = ("llamafactory", "transformers")
ALLOW = "--allow-template-drift"


def parity_stage(plan: TrainingPlan, prepared: Stamp | None) -> Stage:
    """Return the check and all that its outcome depends on."""
    files = prepared.outputs["files"] if prepared else {}
    settings = encoding_settings(plan.arguments)
    settings.pop("model_name_or_path", None)
    inputs = {
        "data": files.get(f"{plan.examples_dir.name}/{plan.dataset}.jsonl", {}).get("digest"),
        "settings": settings,
        "model": model_identity(plan, plan.run.stamp("base") if plan.is_tiny else None),
        "versions": {name: plan.versions.get(name) for name in ENGINES},
        "agent-sft": __version__,
    }
    return Stage("parity", inputs)


@dataclass
class ParityCheck:
    """The check of one training: ordered before the trainer starts, judged while it loads."""

    plan: TrainingPlan
    prepared: Stamp
    reporter: Reporter
    outcome: dict[str, Any] | None = None
    """What was found, for the record; None while that is not known."""

    def __post_init__(self) -> None:
        """Judge by what was found before, if nothing has changed since.

        Raises:
            WorkFailed: there was a difference, and it is not allowed.
        """
        self._stage = parity_stage(self.plan, self.prepared)
        self._answer: Path | None = None
        stamp = self._stage.done(self.plan.run, self.plan.elsewhere) if self._applies else None
        if stamp is not None:
            self._judge(stamp.outputs["lines"], stamp.outputs["parity"])

    def order(self, attempt: Path) -> None:
        """Leave in the attempt's folder what the trainer has to compare, if anything."""
        if not self._applies or self.outcome is not None:
            return
        rows = sample_rows(
            self.plan.examples_dir / f"{self.plan.dataset}.jsonl",
            SAMPLE_ROWS,
            int(self.plan.arguments["seed"]),
            most_bytes=SAMPLE_BYTES,
        )
        write_json(attempt / "parity.order.json", {"rows": rows, "allow": self.plan.config.allow_template_drift})
        self._answer = attempt / "parity.json"

    def look(self) -> None:
        """Take the trainer's answer once it is there.

        Raises:
            WorkFailed: there is a difference, or it could not be found out, and that is not allowed.
        """
        if self._answer is None or (found := read_json(self._answer)) is None:
            return
        self._answer = None
        if "error" in found:
            self._judge([f"could not be checked: {found['error']}"], {"equal": None, "error": found["error"]})
            return
        parity = Parity.of(found)
        lines, record = list(parity.lines()), parity.as_json()
        self._stage.perform(self.plan.run, lambda: ([], {"lines": lines, "parity": record}))
        self._judge(lines, record)

    @property
    def _applies(self) -> bool:
        """Whether this machine checks: the first one, where the data is ours to read."""
        return self.plan.trains_on_input and self.plan.launch.node_rank == 0

    def _judge(self, lines: list[str], record: Mapping[str, Any]) -> None:
        self.outcome = {key: record.get(key) for key in ("equal", "rows", "different", "causes")}
        if record["equal"] or self.plan.config.allow_template_drift:
            for line in lines[:1] if record["equal"] else lines:
                self.reporter.say(f"parity: {line}")
            return
        raise WorkFailed(
            "\n  ".join(["the prompts trained on are not those that the server will render", *lines]),
            fix=f"mend the data or choose another template; {ALLOW} trains all the same",
        )


def parity_finding(plan: TrainingPlan) -> Finding:
    """Return what the doctor says of the plan's data; the engine takes some 8 s to load."""
    model, template = str(plan.arguments["model_name_or_path"]), str(plan.arguments["template"])
    settings = encoding_settings(plan.arguments)
    try:
        with looked_at(
            names(plan.inputs),
            model=model,
            template=template,
            settings=settings,
            force_template=plan.config.force_template,
        ) as look:
            assert look.python is not None
            rows = sample_rows(look.report.data_path, SAMPLE_ROWS, int(plan.arguments["seed"]), SAMPLE_BYTES)
            rows = [(look.origins.rows[number - 1], row) for number, row in rows]
            lines = list((parity := check_parity(look.python, look.settings, rows)).lines())
    except UserError as error:
        return failed("parity", error)
    except WorkFailed as error:
        return Finding("fail", "parity", str(error))
    if parity.equal:
        return Finding("ok", "parity", lines[0])
    level: Literal["warn", "fail"] = "warn" if plan.config.allow_template_drift else "fail"
    return Finding(level, "parity", "\n".join(lines), f"see docs/data/parity.md; {ALLOW} trains all the same")
