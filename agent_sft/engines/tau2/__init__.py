"""Sierra's tau2: its command line in 0.2 and 1.x, and the files it writes."""
