"""Processes that have an engine imported, from which its programs are forked."""
