"""vLLM: serving a model to many callers at once."""
