"""Doing groups of jobs on a Ray cluster: an actor per GPU, pictures come back to this process (extra: vqclip[ray])."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from vqclip.batch.jobs import Job
from vqclip.batch.local import POLL
from vqclip.batch.retry import Retries
from vqclip.batch.work import JobResult, Worker
from vqclip.common.errors import OutputError, UsageError
from vqclip.hub.access import Access


class RayCluster:
    """Workers as Ray actors. A lost node or a killed actor is replaced, and its jobs are done again one by one.

    `address` is `auto` for the cluster of this machine, HOST:PORT, or None for a Ray of our own here. `count` actors
    are made, or one per GPU of the cluster (per CPU core where there is none).

    Raises:
        UsageError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(
        self, address: str | None, count: int | None, threads: int | None, access: Access = Access.HERE
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise UsageError("--engine ray needs another package: pip install 'vqclip[ray]'.") from error
        self.ray: Any = ray
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise UsageError(f"Ray at {address or 'this machine'} does not answer: {reason}.") from error
        resources = ray.cluster_resources()
        self.gpus = int(resources.get("GPU", 0))
        self.count = count or self.gpus or max(1, int(resources.get("CPU", 1)))
        self.sharing = -(-self.count // max(1, len(ray.nodes())))
        self.threads, self.access = threads, access

    def results(self, groups: Iterable[Sequence[Job]], stop: Callable[[], bool]) -> Iterator[JobResult]:
        """Yield what came of every job as the actors finish their groups."""
        waiting, retries = deque(groups), Retries()
        running: dict[Any, tuple[Any, Sequence[Job]]] = {}
        idle = [self._spawn() for _ in range(min(self.count, len(waiting)))]
        try:
            while (waiting and not stop()) or running:
                while idle and waiting and not stop():
                    actor, group = idle.pop(), waiting.popleft()
                    running[actor.make.remote(group)] = (actor, group)
                ready, _ = self.ray.wait(list(running), timeout=POLL)
                for answer in ready:
                    actor, group = running.pop(answer)
                    try:
                        yield from self.ray.get(answer)
                        idle.append(actor)
                    except self.ray.exceptions.RayError as error:
                        if isinstance(cause := getattr(error, "cause", None), OutputError):
                            raise cause from error
                        idle.append(self._spawn())
                        again, given_up = retries.after(group, type(error).__name__)
                        waiting.extendleft(reversed(again))
                        yield from given_up
                if stop():
                    return
        finally:
            for actor in [*idle, *(actor for actor, _ in running.values())]:
                self.ray.kill(actor)
            self.ray.shutdown()

    def _spawn(self) -> Any:
        needs = {"num_gpus": 1} if self.gpus else {"num_cpus": 1}
        return self.ray.remote(**needs, max_restarts=0)(Actor).remote(self.threads, self.access, self.sharing)


class Actor:
    """A worker in a process of Ray's."""

    def __init__(self, threads: int | None, access: Access, sharing: int) -> None:
        from vqclip.common.runtime import set_threads

        set_threads(threads)
        self.worker = Worker(access, sharing=sharing)

    def make(self, group: Sequence[Job]) -> list[JobResult]:
        """Make the pictures of a group."""
        return self.worker.make(group) or []
