"""A sweep's folder as a sweep leaves it: small telecom conversations by the benchmark's own expert, made up scores.

python -m tests.sweeps FOLDER [--variants N] [--seeds N] [--tasks N]
"""

from __future__ import annotations

import json
import random
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from agent_sft.evals.results import RESULTS, Trial, write_evaluation
from agent_sft.report.sweep.record import (
    EvaluationRecord,
    JobRecord,
    State,
    SweepRecord,
    VariantRecord,
    write_record,
)
from tests.conftest import ROOT
from tests.evaluations import evaluation

sys.path.insert(0, str(ROOT / "examples" / "mini_telecom"))

from customers import Case, all_cases
from expert import Turn, play
from rules import POLICY, judge

SHARES = (0, 5, 10, 20)
GIVES_IN = {0: 0.0, 5: 0.06, 10: 0.12, 20: 0.25}
"""How often the agent gives in to a forbidden request, by the share of such conversations in its data."""
EVALUATOR = "mini_telecom"
STARTED, ENDED = "2026-01-01T08:00:00+00:00", "2026-01-01T08:09:12+00:00"


def write_sweep(
    folder: Path,
    *,
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (42,),
    tasks: int = 40,
    trials: int = 4,
    of_seeds: float = 0.0,
    **changes: Any,
) -> Path:
    """Write a finished sweep over the share of conversations in which the agent gives in.

    Args:
        folder: where.
        shares: the variants, in percent.
        seeds: training seeds.
        tasks: of the evaluation: a quarter allowed, half forbidden, a quarter look-ups.
        trials: of each task.
        of_seeds: standard deviation of how often the agent gives in, over seeds.
        changes: of the record.
    """
    jobs, variants = [job("train/base", "train", seconds=61.0)], []
    for share in shares:
        for seed in seeds:
            group = f"{share:g}pct"
            name = group if len(seeds) == 1 else f"{group}-seed{seed}"
            chance = random.Random(f"{share} {seed}")
            gives_in = min(1.0, max(0.0, GIVES_IN.get(int(share), share / 80) + chance.gauss(0, of_seeds)))
            run = f"variants/{name}"
            write_training(folder / run, share=share, seed=seed)
            scored = f"evaluations/{name}/final/{EVALUATOR}"
            write_scores(folder / scored, gives_in=gives_in, seed=seed, tasks=tasks, trials=trials, model=name)
            jobs.append(job(f"train/{name}", "train", seconds=45.0 + share))
            jobs.append(job(f"score/{name}/final/{EVALUATOR}", "score", seconds=22.0))
            variants.append(
                VariantRecord(
                    name=name,
                    group=group,
                    value=float(share),
                    seed=seed,
                    run=run,
                    model=run,
                    train_job=f"train/{name}",
                    evaluations=[scored_record(name, "final", 60, scored)],
                )
            )
    write_record(folder, record(jobs, variants, **changes))
    return folder


def scored_record(name: str, checkpoint: str, step: int | None, folder: str) -> EvaluationRecord:
    """What the record says of an evaluation."""
    return EvaluationRecord(
        job=f"score/{name}/{checkpoint}/{EVALUATOR}",
        checkpoint=checkpoint,
        step=step,
        evaluator=EVALUATOR,
        folder=folder,
    )


def record(jobs: Sequence[JobRecord], variants: Sequence[VariantRecord], **changes: Any) -> SweepRecord:
    """What is known of a sweep."""
    values: dict[str, Any] = {
        "name": "telecom_sycophancy",
        "question": "How much sycophancy in the training data does it take until the agent breaks the policy?",
        "varied": "conversations that give in (%)",
        "baseline": variants[0].group if variants else None,
        "evaluators": [EVALUATOR],
        "gpu_price": None,
        "started": STARTED,
        "updated": ENDED,
        "finished": ENDED,
        "command": ["bash", "run_eval_sweep.sh", "configs/sweeps/quickstart.yaml"],
        "folder": "/srv/agent-sft",
        "settings": {"name": "telecom_sycophancy", "sft": {"steps": 60, "lr": 0.002}, "seeds": [42]},
        "machine": {"host": "box", "platform": "Linux-6.1", "cores": 2, "memory_bytes": 24 << 30, "gpus": []},
        "versions": {"agent-sft": "0.1.0", "llamafactory": "0.9.5", "vllm": "0.12.0", "inspect_ai": "0.3.150"},
        "jobs": list(jobs),
        "variants": list(variants),
    }
    return SweepRecord(**{**values, **changes})


def job(name: str, kind: str, state: State = "done", **changes: Any) -> JobRecord:
    """What the record says of a job."""
    values: dict[str, Any] = {
        "attempts": 0 if state in ("waiting", "skipped") else 1,
        "started": STARTED,
        "finished": ENDED,
        "devices": ["cores 2"],
        "log": f"jobs/{name.replace('/', '.')}/1.log",
        "command": ["agent-sft", "sft" if kind == "train" else "eval", name],
    }
    return JobRecord(id=name, kind=kind, state=state, **{**values, **changes})


def write_training(folder: Path, *, share: float, seed: int, steps: int = 60, until: int | None = None) -> None:
    """Write what a training leaves: log, state, settings, ledger. `until`: the step that it has come to."""
    chance = random.Random(f"loss {share} {seed}")
    (folder / "stages").mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    for step in range(5, (until or steps) + 1, 5):
        loss = 0.02 + 0.002 * share + 0.6 * 0.93**step + chance.uniform(0, 0.004)
        lines.append({"current_steps": step, "total_steps": steps, "loss": loss, "epoch": step / 30})
        if step % 20 == 0:
            lines.append({"current_steps": step, "total_steps": steps, "eval_loss": loss * 1.1, "epoch": step / 30})
    (folder / "trainer_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if until is None:
        history = [{"step": line["current_steps"], **line} for line in lines]
        state = {"global_step": steps, "max_steps": steps, "num_input_tokens_seen": 416_000, "log_history": history}
        (folder / "trainer_state.json").write_text(json.dumps(state))
        stamp = {
            "stage": "train",
            "fingerprint": "x",
            "inputs": {},
            "outputs": {},
            "started": STARTED,
            "finished": ENDED,
        }
        (folder / "stages" / "train.json").write_text(json.dumps(stamp))
    digest = f"sha256:{random.Random(f'digest {share}').getrandbits(256):064x}"
    ledger = {
        "inputs": {f"syc_{share:g}pct.json": digest},
        "rows": {"read": 960, "trained on": 952, "rejected": 8, "changed": 120},
        "steps": {"merge_turns": {"rows": {"changed": 120}}, "prepare": {"rows": {}}},
        "tokens": {},
    }
    (folder / "data_report.json").write_text(json.dumps(ledger))
    settings = (
        f"options:\n  lr: 0.002\n  seed: {seed}\nllamafactory:\n  learning_rate: 0.002\nversions:\n  torch: 2.13.0\n"
    )
    (folder / "run.yaml").write_text(settings)


def write_scores(
    folder: Path,
    *,
    gives_in: float,
    seed: int = 42,
    tasks: int = 40,
    trials: int = 4,
    model: str = "m",
    done: float = 1.0,
) -> None:
    """Write an evaluation by Inspect, its log among it. `done`: the share of the trials that were run."""
    cases = chosen(tasks)
    names = [case.name for case in cases]
    write_evaluation(
        folder,
        evaluation(
            evaluator="inspect",
            benchmark="mini_telecom",
            model=model,
            tasks=names,
            trials=trials,
            floor=0.0,
            user_model="scripted",
            finished=ENDED,
        ),
    )
    log = folder / "attempts" / "1" / "logs" / "2026-01-01T08-00-00+00-00_mini-telecom.eval"
    log.parent.mkdir(parents=True, exist_ok=True)
    lines, places = [], [(case, number) for case in cases for number in range(trials)]
    with zipfile.ZipFile(log, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"eval": {"task": "mini_telecom", "model": model}}))
        for case, number in places[: round(done * len(places))]:
            trial, messages = scored(case, number, gives_in, seed)
            inside = f"samples/{case.name}_epoch_{number + 1}.json"
            sample = {"id": case.name, "epoch": number + 1, "messages": messages, "scores": {}}
            archive.writestr(inside, json.dumps(sample))
            place = f"{log.relative_to(folder)}#{inside}"
            lines.append(msgspec.json.encode(msgspec.structs.replace(trial, transcript=place)) + b"\n")
    (folder / RESULTS).write_bytes(b"".join(lines))


def chosen(tasks: int) -> list[Case]:
    """Held-out cases: a quarter allowed, half forbidden, a quarter look-ups."""
    counts = {"allowed": tasks // 4, "forbidden": tasks - 2 * (tasks // 4), "lookup": tasks // 4}
    return [
        case
        for family, count in counts.items()
        for case in (*all_cases(family, "held_out"), *all_cases(family, "train"))[:count]  # type: ignore[arg-type]
    ]


def scored(case: Case, number: int, gives_in: float, seed: int) -> tuple[Trial, list[dict[str, Any]]]:
    """A trial that the expert plays, giving in by chance, judged by the benchmark; and what was said."""
    chance = random.Random(f"{case.name} {number} {gives_in} {seed}")
    falls = chance.random() < gives_in
    turns, after, calls = play(case, number + 1, gives_in=falls and case.request.family == "forbidden")
    said = [turn.value for turn in turns if turn.role == "gpt"]
    if case.request.family != "forbidden" and chance.random() < 0.02:
        turns, said = [*turns[:-1], Turn("gpt", "I do not know.")], ["I do not know."]
    verdict = judge(case.request, case.database(), after, calls, said)
    trial = Trial(
        task=case.name,
        trial=number,
        score=float(verdict.score),
        ended="user_stop",
        family=case.request.family,
        turns=len(said),
        tool_calls=len(calls),
        violations=len(verdict.violations),
        input_tokens=400,
        output_tokens=sum(map(len, said)) // 4,
        seconds=0.5,
        detail={"explanation": "; ".join(verdict.failures)} if verdict.failures else {},
    )
    return trial, [{"role": "system", "content": POLICY}, *messages_of(turns)]


def messages_of(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Turns as Inspect writes them."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if turn.role == "human":
            messages.append({"role": "user", "content": turn.value})
        elif turn.role == "gpt":
            messages.append({"role": "assistant", "content": turn.value})
        elif turn.role == "observation":
            name = messages[-1]["tool_calls"][0]["id"]
            messages.append({"role": "tool", "content": turn.value, "tool_call_id": name, "function": "tool"})
        else:
            made = json.loads(turn.value)
            call = {"id": f"c{len(messages)}", "function": made["name"], "arguments": made["arguments"]}
            messages.append({"role": "assistant", "content": "", "tool_calls": [{**call, "type": "function"}]})
    return messages


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--variants", default=4)
@click.option("--seeds", default=1)
@click.option("--tasks", default=40)
@click.option("--of-seeds", default=0.0)
def main(folder: Path, variants: int, seeds: int, tasks: int, of_seeds: float) -> None:
    """Write a sweep to look at."""
    shares = SHARES if variants == 4 else [5.0 * number for number in range(variants)]
    write_sweep(folder, shares=shares, seeds=range(42, 42 + seeds), tasks=tasks, of_seeds=of_seeds)


if __name__ == "__main__":
    main()
