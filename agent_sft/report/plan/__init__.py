"""What a plan tells: the plan itself with its costs, the scoreboard of its candidates, the final report."""
