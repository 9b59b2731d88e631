#!/usr/bin/env python3
"""Validates conversations and writes the data file and the dataset_info.json that LLaMA-Factory reads.

Usage: python prepare_sft_data.py --input data.json --dataset-name tau2_sft --output-dir ./workdir
"""

from agent_sft.bootstrap import reexec_in_core

if __name__ == "__main__":
    reexec_in_core("prepare")
