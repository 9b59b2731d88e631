#!/usr/bin/env python3
"""Merges consecutive turns of the same role and trims trailing human turns.

Usage: python merge_consecutive_turns.py --input data.json --output data_merged.json
"""

from agent_sft.bootstrap import reexec_in_core

if __name__ == "__main__":
    reexec_in_core("merge")
