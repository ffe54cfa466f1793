"""What a queued graph tells before anything runs, and how a node answers."""
