"""agent-sft: recorded agent conversations to a fine-tuned, served and evaluated model."""

__version__ = "0.1.0"
