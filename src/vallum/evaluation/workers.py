"""Who works the cells: this process, several, or a Ray cluster over a shared folder. The rows are the same."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from vallum.data.data import Data
from vallum.defences.base import surfaces_of
from vallum.errors import UserError
from vallum.evaluation import fitting
from vallum.evaluation.measure import attacking, fresh, measure
from vallum.evaluation.plan import Cell, Fit, Plan
from vallum.evaluation.store import Store
from vallum.faults import in_own_code
from vallum.models.model import Model
from vallum.threats.base import Threat
from vallum.threats.universal.base import Fitted
from vallum.torchvision_shim import ensure_torchvision

TRIES = 3  # a cell during which a worker dies this often is given up


@dataclass
class Job:
    """All that a worker needs; models, data and threats are the objects themselves."""

    plan: Plan
    store: Store
    models: Sequence[Model]
    threats: Sequence[Threat]
    data: Data

    def work(self, cell: Cell) -> None:
        """Measure one cell and store it, unless it is there already."""
        if self.store.is_done(cell):
            return None
        model, threat = self.models[cell.model].to(self.plan.device), self.threats[cell.threat]
        if isinstance(threat, Fitted):
            if isinstance(cell, Fit):
                return self._fit(cell, threat, model)
            fit = self.plan.fit_of(cell)
            if fit is not None:
                threat = fitting.ready(threat, self.store.path(fit))
        rows, finished, pictures = measure(cell, self.plan, model, self.data, threat)
        self.store.write_pictures(cell, pictures)  # first: a cell that has its rows is done
        self.store.write(cell, rows, finished)
        return None

    def _fit(self, cell: Fit, threat: Fitted, model: Model) -> None:
        surface = next(s for s in surfaces_of(model) if s.name == cell.surface)
        here = surface.here(threat)
        assert isinstance(here, Fitted)  # the plan has no such cell
        names = {"model": self.plan.models[cell.model].name, "threat": threat.spec, "surface": cell.surface}
        where = fitting.source(threat, self.data, self.plan.images, self.plan.seed)
        with attacking(self.plan, cell, surface):
            fitting.fit(here, fresh(surface, model).through, where, names, self.store.path(cell))

    def packed(self) -> bytes:
        try:
            return pickle.dumps(self)
        except (pickle.PicklingError, AttributeError, TypeError) as problem:
            raise UserError(
                f"the model, data or threat cannot be sent to another process ({problem})",
                remedy="use workers=1, or name it by a string, as 'my_package:build_model'",
            ) from None


class ThreadCount:
    """Each cell runs on the planned number of threads, for that number changes rounding; put back afterwards."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        settle(self.threads)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)


def settle(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False  # it may choose another algorithm, with other rounding, from run to run
    torch.backends.cudnn.deterministic = True


def here(job: Job, cells: Iterable[Cell], done: Callable[[Cell], None]) -> None:
    """Work the cells in this process, one after the other."""
    with ThreadCount(job.plan.threads):
        for cell in cells:
            job.work(cell)
            done(cell)


def in_processes(job: Job, cells: Sequence[Cell], done: Callable[[Cell], None], workers: int) -> None:
    """Work the cells in `workers` processes. When one dies, those that were under way are tried again."""
    with tempfile.TemporaryDirectory() as folder:
        # By way of a file: handed over through the pipe of its start, a job of some size blocks whoever starts a
        # worker for good, if that worker dies before it has read it.
        packed = Path(folder) / "job"
        packed.write_bytes(job.packed())
        _pool(job, packed, {cell.id: cell for cell in cells}, done, workers)


def _pool(job: Job, packed: Path, left: dict[str, Cell], done: Callable[[Cell], None], workers: int) -> None:
    deaths: Counter[str] = Counter()
    others = set(multiprocessing.active_children())
    while left:
        context = multiprocessing.get_context("spawn")  # a fork would copy locked threads
        pool = ProcessPoolExecutor(min(workers, len(left)), context, _enter, (packed,))
        under_way: dict[Future[None], Cell] = {}
        queue = iter(list(left.values()))
        try:
            for cell in queue:
                under_way[pool.submit(_work, cell)] = cell
                if len(under_way) < 2 * workers:
                    continue  # one waits for each that works: whatever dies, few are under way
                _collect(under_way, left, done)
            while under_way:
                _collect(under_way, left, done)
        except BrokenProcessPool:
            for cell in under_way.values():
                deaths[cell.id] += 1
                if deaths[cell.id] >= TRIES:
                    raise UserError(
                        f"a worker died {TRIES} times on the same images ({job.plan.threats[cell.threat].spec})",
                        "it was killed, or ran out of memory",
                        "use a smaller batch size or fewer workers; finished cells are kept",
                    ) from None
        except KeyboardInterrupt:
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()  # a cell may take minutes more, and is worked again anyway
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _collect(under_way: dict[Future[None], Cell], left: dict[str, Cell], done: Callable[[Cell], None]) -> None:
    finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
    for future in finished:
        future.result()
        cell = under_way.pop(future)
        done(left.pop(cell.id))


_packed = Path()  # the job of this worker process


def _enter(packed: Path) -> None:
    # Unpacked at the first cell and not here: what goes wrong there comes back as an error and not as a death.
    global _packed
    _packed = packed


@lru_cache(maxsize=1)
def _job(packed: Path) -> Job:
    return _unpacked(packed.read_bytes())


def _work(cell: Cell) -> None:
    try:
        _job(_packed).work(cell)
    except Exception as error:  # its places do not get across to the process that waits
        raise in_own_code(error) or error from error


def _unpacked(packed: bytes) -> Job:
    ensure_torchvision()  # the models inside may need it
    job: Job = pickle.loads(packed)
    settle(job.plan.threads)
    return job


def on_ray(job: Job, cells: Sequence[Cell], done: Callable[[Cell], None], address: str) -> None:
    """Work the cells on the Ray cluster at `address`, over a run folder that all its machines share."""
    try:
        import ray
    except ImportError:
        raise UserError("Ray is not installed", remedy='pip install "vallum[ray]"') from None
    try:
        ray.init(address=None if address == "local" else address, ignore_reinit_error=True, log_to_driver=False)
    except (ValueError, ConnectionError) as problem:
        remedy = "give the address that `ray start --head` printed, or local for this machine alone"
        raise UserError(f"no Ray cluster answers at {address!r}", str(problem).splitlines()[0], remedy) from None
    # The other machines have their own working directories: the shared folder is named from the root.
    packed = ray.put(replace(job, store=Store(job.store.folder.absolute())).packed())
    gpus = 1 if job.plan.device.startswith("cuda") else 0
    task = ray.remote(num_cpus=job.plan.threads, num_gpus=gpus, max_retries=TRIES)(_work_remotely)
    waiting = {task.remote(packed, cell): cell for cell in cells}
    try:
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1)
            for reference in ready:
                try:
                    ray.get(reference)
                except ray.exceptions.RayTaskError as problem:
                    raise problem.cause from None
                done(waiting.pop(reference))
    finally:
        ray.shutdown()


_remote = lru_cache(maxsize=1)(_unpacked)  # once in each process of a cluster


def _work_remotely(packed: Any, cell: Cell) -> None:
    _remote(packed).work(cell)
