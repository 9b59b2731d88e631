"""`python -m agent_sft` is `agent-sft`."""

from agent_sft.cli.main import main

main()
