"""Every claim of the papers as a number, on a bench where truth is known: the pocket model and its world.

`bench` says which subjects and prompts, `measures` what is looked at, `methods` what is compared, `cells` trains and
samples one method on one subject (kept on disk, so that a run can be cut off), `intervals` makes intervals of them,
`claims` says what the papers lead one to expect, `report` writes it all down.

    python -m comfyui_personalize.benchmarks.evidence --quick
"""
