"""Ray Core: which machines a cluster has, and commands placed on them."""
