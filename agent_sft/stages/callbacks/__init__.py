"""What watches a training: loggers, trackers, early stopping."""
