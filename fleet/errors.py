"""What can go wrong, in the words of the person who wrote the plan."""

from __future__ import annotations


class PlanError(ValueError):
    """The plan, or a row of its table, cannot be run. The message names every place."""

    def __init__(self, problems: list[str]):
        self.problems = problems
        super().__init__("\n".join(problems))


class JobFailed(RuntimeError):
    """A job's graph was refused or raised: another try of the same job may well end the same way."""


class JobStopped(RuntimeError):
    """A job was interrupted by the person at the terminal; it goes on where it was when the plan is run again."""


class WorkerLost(RuntimeError):
    """A worker, its server or its machine is gone: the job is as good as before."""


class UnlikeWorkers(RuntimeError):
    """Workers of one fleet have different code, ComfyUI or models."""
