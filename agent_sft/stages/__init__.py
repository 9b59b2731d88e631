"""What a run is made of: process, prepare, train."""
