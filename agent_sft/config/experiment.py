"""An experiment in one file: the question, the data, the model, how it is trained and what it is scored on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agent_sft.config.benchmark import BenchmarkConfig
from agent_sft.config.callbacks import CallbackConfig
from agent_sft.config.process import TransformConfig
from agent_sft.config.yaml_files import read_mapping
from agent_sft.errors import UserError, nearest, wrong_value

BACKENDS = ("local",)
ALGORITHMS = ("sft",)
SOURCES = ("jsonl", "json", "parquet", "in_memory", "hub", "store")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Part):
    """What is trained on."""

    source_kind: str = "jsonl"
    """`jsonl`, `json`, `parquet`: files; `in_memory`: `rows`; `hub`: a data set there; `store`: NAME@VERSION."""

    path: tuple[str, ...] = ()
    """Files or globs, relative to where the command is run; or the name."""

    rows: tuple[dict[str, Any], ...] = ()
    """The rows themselves, of `in_memory`."""

    transforms: tuple[TransformConfig, ...] = ()
    """They run in this order; none: what the data is decides, as for `run_sft.sh`."""

    eval_path: str | None = None
    """Conversations held out for the evaluation loss; they go through no transforms."""

    @field_validator("path", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (str(given),) if isinstance(given, str | Path) else given

    @field_validator("transforms", mode="before")
    @classmethod
    def _bare_kinds(cls, given: Any) -> Any:
        return [{"kind": one} if isinstance(one, str) else one for one in given] if isinstance(given, list) else given

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if self.source_kind not in SOURCES:
            hint = nearest(self.source_kind, SOURCES) or f"there are {', '.join(SOURCES)}"
            raise ValueError(f"there is no source_kind '{self.source_kind}': {hint}")
        if (self.source_kind == "in_memory") != bool(self.rows) or bool(self.rows) == bool(self.path):
            raise ValueError("needs `path`, or `rows` with source_kind: in_memory")
        return self


class ModelConfig(_Part):
    """What is trained."""

    name: str
    """Hub name or folder; `tiny` makes a small random one from the data, and so does a YAML file that describes it."""

    template: str | None = None
    """LLaMA-Factory's chat template; the model's own when not given."""

    renderer_name: str | None = None
    """The name of the template elsewhere; not used here."""


class BackendConfig(_Part):
    """Where it is trained."""

    kind: str = "local"

    params: dict[str, Any] = Field(default_factory=dict)
    """`deepspeed`, `nproc_per_node`: as for `run_sft.sh`."""


class AlgorithmConfig(_Part):
    """How it is trained."""

    kind: str

    params: dict[str, Any] = Field(default_factory=dict)


class SFTParams(_Part):
    """The parameters of the algorithm `sft`."""

    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate."""

    num_epochs: float = Field(1, gt=0)
    """Passes over the data."""

    max_steps: int | None = Field(None, gt=0)
    """Optimizer steps; when given, it replaces `num_epochs`."""

    batch_size: int = Field(4, gt=0)
    """Conversations of an optimizer step, on each device."""

    grad_accum: int = Field(1, gt=0)
    """Forward passes that a step's `batch_size` conversations are spread over."""

    finetuning_type: Literal["lora", "full"] = "lora"
    """Train a LoRA adapter, or every weight."""

    lora_rank: int = Field(8, gt=0)
    """Rank of the adapter's matrices."""

    lora_alpha: int | None = Field(None, gt=0)
    """Scale of the adapter; twice the rank when not given."""

    lora_target: str = "all"
    """Modules that get an adapter."""

    max_seq_len: int = Field(2048, gt=0)
    """Longest training example, in tokens."""

    on_overflow: Literal["trim", "split", "drop", "error"] = "trim"
    """What becomes of a longer one."""

    supervise: Literal["all_assistant", "last_assistant", "final_answer", "tool_calls"] = "all_assistant"
    """Which of the agent's turns carry loss."""

    save_every: int = Field(0, ge=0)
    """Save, and keep, a checkpoint after every so many steps; 0: at `save_at_fractions`."""

    save_at_fractions: tuple[float, ...] = ()
    """Save, and keep, checkpoints at these shares of all steps; none: after each epoch, and the newest is kept."""

    best_by: str | None = None
    """The metric whose best checkpoint becomes the trained model: `NAME`, `NAME/METRIC` or `SPLIT/NAME/METRIC` of a
    benchmark with `run_every`, or `eval_loss`."""

    val_size: float | None = Field(None, gt=0)
    """Share or number of rows held out for the evaluation loss."""

    adam_beta1: float | None = None
    adam_beta2: float | None = None
    adam_eps: float | None = None

    allow_rejects: bool = False
    """Train on the usable rows where others had to be rejected."""

    fast: bool = False
    """The faster settings, where machine and model allow."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Any other LLaMA-Factory keys."""

    seed: int = 42

    callbacks: tuple[CallbackConfig, ...] = ()
    """More callbacks, such as `early_stopping`."""

    wandb_project: str | None = None
    """The same as the callback `wandb` with this project."""

    wandb_name: str | None = None

    renderer_name: str | None = None
    """Not used here."""

    enable_thinking: bool | None = None
    """As LLaMA-Factory's key of this name."""

    @field_validator("save_at_fractions")
    @classmethod
    def _shares(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < share <= 1 for share in given):
            raise ValueError("shares lie above 0 and up to 1")
        return given


class RunConfig(_Part):
    """One training."""

    name: str | None = None
    """Names the run's folder in `output_dir`; the experiment's name when not given."""

    data: DataConfig
    model: ModelConfig
    backend: BackendConfig = BackendConfig()
    algorithm: AlgorithmConfig

    eval: dict[str, Any] = Field(default_factory=dict)
    """Not used here: `benchmarks` say what is scored."""


class MetadataConfig(BaseModel):
    """What else is said of an experiment; further keys are kept and not looked at."""

    model_config = ConfigDict(frozen=True, extra="allow")

    hypothesis: str | None = None
    benchmark: tuple[BenchmarkConfig, ...] = ()
    success_metric: str | None = None

    @field_validator("benchmark", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return [given] if isinstance(given, Mapping) else given


class ExperimentConfig(_Part):
    """An experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    """Names it."""

    description: str | None = None
    """What it is, in a sentence."""

    hypothesis: str | None = None
    """What is expected, in words; `val/pass@1 >= 0.8` in it is held against the numbers."""

    output_dir: Path = Path("outputs")
    """Gets `experiment.md`, and a folder for the run."""

    callbacks: tuple[CallbackConfig, ...] = ()
    """What watches the training: loggers, trackers, early stopping."""

    run: RunConfig
    """What is trained."""

    benchmarks: tuple[BenchmarkConfig, ...] = ()
    """What it is scored on; `metadata.benchmark` is the same."""

    metadata: MetadataConfig = MetadataConfig()

    log_store: dict[str, Any] = Field(default_factory=dict)
    """Not used here: `callbacks` say what is logged."""

    @model_validator(mode="after")
    def _told_apart(self) -> ExperimentConfig:
        names = [one.name for one in self.all_benchmarks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two benchmarks are called '{name}': give each a name of its own")
        return self

    @property
    def all_benchmarks(self) -> tuple[BenchmarkConfig, ...]:
        """The benchmarks, wherever in the file they stand."""
        return (*self.benchmarks, *self.metadata.benchmark)

    @property
    def expected(self) -> str | None:
        """The hypothesis, wherever in the file it stands."""
        return self.hypothesis or self.metadata.hypothesis

    @property
    def run_name(self) -> str:
        """The name of the run."""
        return self.run.name or self.name


_MODELS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): ExperimentConfig,
    ("run",): RunConfig,
    ("run", "data"): DataConfig,
    ("run", "data", "transforms"): TransformConfig,
    ("run", "model"): ModelConfig,
    ("run", "backend"): BackendConfig,
    ("run", "algorithm"): AlgorithmConfig,
    ("benchmarks",): BenchmarkConfig,
    ("metadata", "benchmark"): BenchmarkConfig,
    ("callbacks",): CallbackConfig,
}


def read_experiment(path: Path) -> ExperimentConfig:
    """Read an experiment file.

    Raises:
        UserError: it is missing, no YAML, or a key or value in it is wrong, with the nearest known key.
    """
    content = read_mapping(path, "an experiment: name, run, benchmarks, callbacks")
    try:
        return ExperimentConfig.model_validate(content)
    except ValidationError as error:
        raise wrong_key(error, str(path), _MODELS) from error


def read_params(config: ExperimentConfig, source: str) -> SFTParams:
    """Return the algorithm's parameters, with the kinds of algorithm and backend checked.

    Raises:
        UserError: a kind or a parameter is unknown (with the nearest one), or a value is wrong.
    """
    run = config.run
    for what, kind, known in (("backend", run.backend.kind, BACKENDS), ("algorithm", run.algorithm.kind, ALGORITHMS)):
        if kind not in known:
            hint = nearest(kind, known) or f"write kind: {known[0]}"
            raise UserError(f"there is no {what} of the kind '{kind}'", where=f"{source}, run.{what}.kind", fix=hint)
    try:
        return SFTParams.model_validate(run.algorithm.params)
    except ValidationError as error:
        where = f"{source}, run.algorithm.params"
        raise wrong_key(error, where, {(): SFTParams, ("callbacks",): CallbackConfig}) from error


def wrong_key(error: ValidationError, where: str, models: Mapping[tuple[str, ...], type[BaseModel]]) -> UserError:
    """Return what is wrong with a file, by the first thing that its model says.

    Args:
        error: the model's.
        where: the file, or the place in it.
        models: the model of each place, for the known names of keys; numbers in lists left out.
    """
    # A key that is not known comes before one that is missing: it is mostly what that was meant to be.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        above = tuple(str(part) for part in first["loc"][:-1] if not isinstance(part, int))
        known = models[above].model_fields if above in models else {}
        hint = nearest(str(first["loc"][-1]), known) or (f"there are {', '.join(known)}" if known else None)
        return UserError(f"{place}: there is no such key", where=where, fix=hint)
    if first["type"] == "missing":
        return UserError(f"{place} is missing", where=where)
    return UserError(f"{place}: {wrong_value(first)}".removeprefix(": "), where=where)
