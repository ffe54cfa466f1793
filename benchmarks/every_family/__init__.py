"""Every text-to-image family that ComfyUI loads: can it learn a subject? Measured on tiny random networks of its true
structure, against ComfyUI's own sampling.

    python -m comfyui_personalize.benchmarks.every_family [NAME ...]

`cases/` says what a family is, the other files what is measured of it.
"""
