"""The `agent-sft` command: finds the command asked for and turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import signal
import sys
from typing import NoReturn

import click

from agent_sft import __version__
from agent_sft.cli.lazy import LazyGroup

COMMANDS = {
    "init": "From nothing to a training: one question after the other.",
    "sft": "Fine-tune a model on a file of conversations (what run_sft.sh runs).",
    "train": "Submit a training as a job that goes on by itself.",
    "jobs": "List, wait for, look at, end and retry jobs, and see what else runs.",
    "prepare": "Validate conversations and write dataset_info.json.",
    "data": "Look at conversations: what is in them, and exactly what is trained on.",
    "distill": "Ask a teacher for answers to prompts, and keep the good ones as a dataset.",
    "capability": "Keep system prompts and tools by name and version, for training and serving.",
    "eval": "Score models, report what was found, and compare them.",
    "experiment": "Run an experiment that is described in one file.",
    "validate": "Check an experiment file before anything is spent.",
    "sweep": "Train, serve, score and compare variants (what run_eval_sweep.sh runs).",
    "plan": "From data to a deployed model: inspected, priced, approved, searched, judged.",
    "merge": "Merge consecutive turns of the same role and trim trailing human turns.",
    "serve": "Serve a model with vLLM at an OpenAI-compatible address on this machine.",
    "deploy": "Serve a model until it is stopped, started again when it dies; or export it.",
    "deployments": "List, look at and stop what is deployed.",
    "doctor": "Find out in seconds what would fail in an hour.",
    "setup": "Make the environments that the engines run in.",
}
"""Each lives in the module `agent_sft.cli.NAME`, which is imported when it is asked for."""


_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@click.group(
    cls=LazyGroup, known=COMMANDS, prefix="agent_sft.cli.", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="agent-sft")
def group() -> None:
    """Recorded agent conversations to a fine-tuned and served model, around LLaMA-Factory and vLLM."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as from a batch scheduler: what is half written is taken away as after Ctrl-C."""


def main(args: list[str] | None = None, program: str = "agent-sft") -> None:
    """Run the command line and exit: 0 done, 1 the work failed, 2 the request was wrong."""
    from agent_sft.errors import UserError, WorkFailed

    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = group.main(args, prog_name=program, standalone_mode=False)
    except (UserError, WorkFailed) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as stopped:
        click.echo("stopped", err=True)
        sys.exit(143 if isinstance(stopped.__cause__ or stopped, Terminated) else 130)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does: nothing is wrong.
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        place = error.filename or "a file of the run"
        click.echo(f"error: {place}: {error.strerror}\n  make room, or choose another --output-dir", err=True)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated
