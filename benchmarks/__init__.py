"""What is claimed about speed, as commands. See README.md beside this."""
