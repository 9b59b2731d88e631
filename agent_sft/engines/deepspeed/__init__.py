"""DeepSpeed: the configurations that LLaMA-Factory trains under."""
