"""`make torture`: runs that are killed, disks that are full, files that rot, prompts that nobody would write.

One file per kind of trial. Each has `TITLE`, `CLAIM`, `trials(size)` (the names of its trials, for "full", "quick" or
"small") and `ready(work)`, a context whose value makes one trial and gives a `record.Result`.
"""
