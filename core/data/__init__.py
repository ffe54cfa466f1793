"""Photos to batches: examples, crops, the order they are drawn in, the noise they are given."""
