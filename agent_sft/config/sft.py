"""What one fine-tuning run is asked to do: the options of `run_sft.sh`, each with its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agent_sft.config.benchmark import BenchmarkConfig
from agent_sft.config.callbacks import CallbackConfig
from agent_sft.errors import UserError, wrong_value

Reporter = Literal["wandb", "tensorboard", "mlflow", "swanlab", "trackio"]


class SFTConfig(BaseModel):
    """The options of one run. Field names are the flags' names with underscores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: tuple[str, ...] = ()
    """The conversations: files in any form that `agent-sft prepare` reads, globs, NAME@VERSION, hf:NAME."""

    dataset: tuple[str, ...] = ()
    """More of them: named in a way that goes with `trajectory_dataset`."""

    trajectory_dataset: tuple[str, ...] = ()
    """Rollouts of an agent, trained on beside the others: tau2 result files, Inspect logs."""

    format: str | None = None
    """What the rows of the input are; recognised from them when not given."""

    min_reward: float | None = None
    """Leave out rollouts with a reward below it; asked of `trajectory_dataset`, of all rows where none is given."""

    model: str = "Qwen/Qwen2.5-7B-Instruct"
    """Hub name or folder of the model to start from; `tiny` makes a small random one from the data, and so
    does a YAML file that says what it is like."""

    template: str = "qwen"
    """LLaMA-Factory's chat template; checked against the model's family."""

    force_template: bool = False
    """Use `template` also where it does not fit the model."""

    output_dir: Path | None = None
    """Where the trained model and the run's record go; `saves/<model>/<dataset>` when not given."""

    dataset_name: str = "tau2_sft"
    """Name of the dataset in `dataset_info.json`."""

    epochs: float = Field(2, gt=0)
    """Passes over the data."""

    steps: int | None = Field(None, gt=0)
    """Optimizer steps; when given, it replaces `epochs`."""

    lr: float = Field(0.000005, gt=0)
    """Peak learning rate."""

    batch_size: int = Field(1, gt=0)
    """Conversations per device and forward pass."""

    grad_accum: int = Field(2, gt=0)
    """Forward passes per optimizer step."""

    cutoff_len: int = Field(12000, gt=0)
    """Longest training example, in tokens."""

    on_overflow: Literal["trim", "split", "drop", "error"] = "trim"
    """What becomes of a conversation that is longer: its last turns go, windows are made of it, it goes, or the run
    stops."""

    supervise: Literal["all_assistant", "last_assistant", "final_answer", "tool_calls"] = "all_assistant"
    """Which of the agent's turns carry loss, where the data does not say it turn by turn."""

    finetuning_type: Literal["full", "lora"] = "full"
    """Train every weight, or a LoRA adapter."""

    lora_rank: int = Field(8, gt=0)
    """Rank of the adapter's matrices."""

    lora_alpha: int | None = Field(None, gt=0)
    """Scale of the adapter; twice the rank when not given."""

    lora_target: str = "all"
    """Names of the modules that get an adapter, separated by commas; `all` linear ones."""

    deepspeed: Path | None = None
    """A DeepSpeed configuration, such as `ds_configs/ds_zero3.json`."""

    fast: bool = False
    """Apply `configs/sft_fast.yaml` where the machine and the model allow."""

    capability: str | None = None
    """A system prompt and tools that are put before every conversation: NAME@VERSION, or the folder of one."""

    process: Path | None = None
    """A pipeline of transforms for the input; chosen by what the input is when not given."""

    skip_process: bool = False
    """The input is processed already: go straight to preparing it."""

    data_from: tuple[Path, ...] = ()
    """Runs whose processed and prepared data, and what was counted of it, is taken over where it would be the same."""

    allow_rejects: bool = False
    """Train on the usable rows when others had to be rejected."""

    allow_template_drift: bool = False
    """Train also where the server will render other prompts than those trained on."""

    config: Path | None = None
    """The user's own LLaMA-Factory YAML."""

    eval_dataset: str | None = None
    """Conversations held out for the evaluation loss, named as `input` is."""

    val_size: float | None = Field(None, gt=0)
    """Share (below 1) or number of the training rows held out for the evaluation loss."""

    checkpoint_interval: int | None = Field(None, gt=0)
    """Save, and keep, a checkpoint every so many optimizer steps."""

    save_at: tuple[float, ...] = ()
    """Save, and keep, checkpoints at these shares of all steps instead."""

    benchmark: tuple[BenchmarkConfig, ...] = ()
    """What the model is scored on while it trains, or when it has been trained."""

    benchmark_every: int | None = Field(None, gt=0)
    """Score the benchmarks that say nothing of it after every so many optimizer steps, and after the last one."""

    best_by: str | None = None
    """The metric whose best checkpoint becomes the trained model: `NAME`, `NAME/METRIC` or `SPLIT/NAME/METRIC` of a
    benchmark that is scored while it trains, or `eval_loss`."""

    callbacks: tuple[CallbackConfig, ...] = ()
    """What watches the training; without any, benchmarks are logged by `local_logger`."""

    pause_at: int | None = Field(None, gt=0)
    """Stop after this optimizer step, with a checkpoint from which a later run goes on; what is trained stays the
    same, its learning-rate schedule too."""

    nproc_per_node: int | None = Field(None, gt=0)
    """Processes on this machine; one for each visible GPU when not given."""

    nnodes: int = Field(1, gt=0)
    """Machines that train together."""

    node_rank: int = Field(0, ge=0)
    """Which of them this one is, from 0."""

    master_addr: str = "127.0.0.1"
    """Address of machine 0."""

    master_port: int | None = Field(None, gt=0, lt=65536)
    """Port on machine 0 where all of them meet."""

    report_to: tuple[Reporter, ...] = ()
    """Experiment trackers that also get the metrics."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Any other LLaMA-Factory keys."""

    seed: int = 42
    """Seed of the data order, the dropout and a `tiny` model's weights."""

    dry_run: bool = False
    """Print what would run, and touch nothing."""

    fresh: bool = False
    """Set an earlier result in the output directory aside and start over."""

    given: tuple[str, ...] = ()
    """Names of the options that were given, in order: they win over `config` as `docs/training.md` says."""

    @field_validator("input", "dataset", "trajectory_dataset", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        names = (given,) if isinstance(given, str | Path) else given
        return tuple(map(str, names)) if isinstance(names, list | tuple) else names

    @field_validator("benchmark", mode="before")
    @classmethod
    def _one_benchmark(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str | Path | dict) else given

    @field_validator("eval_dataset", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return str(given) if isinstance(given, Path) else given

    @model_validator(mode="after")
    def _some_data(self) -> SFTConfig:
        if not (self.input or self.dataset or self.trajectory_dataset):
            raise ValueError("no data was given: name INPUT, --dataset or --trajectory-dataset")
        return self

    @model_validator(mode="after")
    def _benchmarks(self) -> SFTConfig:
        names = [one.name for one in self.benchmark]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two benchmarks are called '{name}': name them by other folders")
        if self.benchmark_every is not None and not self.benchmark:
            raise ValueError("--benchmark-every needs --benchmark: what is scored")
        if self.save_at and self.checkpoint_interval is not None:
            raise ValueError("save_at and checkpoint_interval both say when to save: give one of them")
        if self.benchmark and self.nnodes > 1:
            raise ValueError("benchmarks are scored where one machine trains: leave --benchmark out with --nnodes")
        return self

    @model_validator(mode="after")
    def _several_machines(self) -> SFTConfig:
        if self.node_rank >= self.nnodes:
            raise ValueError(f"--node-rank {self.node_rank} does not exist with --nnodes {self.nnodes}: count from 0")
        if self.nnodes > 1 and self.master_port is None:
            raise ValueError(
                f"--nnodes {self.nnodes} needs --master-port: the same free port of machine 0 on every machine"
            )
        return self

    @model_validator(mode="after")
    def _one_held_out_set(self) -> SFTConfig:
        if self.eval_dataset is not None and self.val_size is not None:
            raise ValueError("--eval-dataset and --val-size are two ways to hold data out: give one of them")
        if self.val_size is not None and self.val_size > 1 and self.val_size != int(self.val_size):
            raise ValueError(f"--val-size {self.val_size} is neither a share below 1 nor a whole number of rows")
        return self

    @model_validator(mode="after")
    def _processed_or_not(self) -> SFTConfig:
        if self.process is not None and self.skip_process:
            raise ValueError("--process and --skip-process contradict each other: give one of them")
        return self

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> SFTConfig:
        """Validate options as the command line gives them.

        Raises:
            UserError: naming the flag and what is wrong with its value.
        """
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            flag = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else None
            raise UserError(wrong_value(first), where=flag) from error

    @property
    def benchmarks(self) -> tuple[BenchmarkConfig, ...]:
        """The benchmarks, each with how often it is scored."""
        every = {"run_every": self.benchmark_every}
        return tuple(one if one.run_every else one.model_copy(update=every) for one in self.benchmark)
