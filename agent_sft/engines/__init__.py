"""The only code that knows an engine's flags, files and quirks: one folder per engine."""
