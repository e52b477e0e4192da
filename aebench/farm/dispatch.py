"""Send chains to Dask's workers, and tell how they come on."""

import contextlib
import math
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed import Future, fire_and_forget
from distributed.client import ClosedClientError
from tqdm import tqdm

from aebench.errors import AebenchError, first_line
from aebench.farm import sent
from aebench.farm.suites import Chain, Store, Suite
from aebench.staleness import in_words
from aebench.workspace import sha256

if TYPE_CHECKING:
    from distributed import Client

# Of the environment these alone go to workers: by them libraries choose their kernels.
SENT = "CUBLAS_WORKSPACE_CONFIG", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OPENBLAS_CORETYPE"
RETRIES = 2  # of a chain whose machine failed
PATIENCE = 15  # seconds without a worker that may compute, before that is said


@dataclass
class Task:
    """A chain on its way. `future` None: it is not sent, or has ended."""

    chain: Chain
    suite: Suite
    seconds: float | None  # that it is likely to take
    future: "Future | None" = None
    state: str = ""  # what of it runs; "": nothing
    address: str = ""  # of the worker that has it
    name: str = ""  # of that worker


class Dispatch:
    """The chains of some suites on the workers of a client.

    `token`: see `sent.Request`; `versions`: what a worker must have; `threads`: of a chain;
    `estimates`: seconds that a chain has taken before; `left`: their keys, which are removed as the
    chains end.
    """

    def __init__(
        self,
        client: "Client",
        suites: Sequence[Suite],
        store: Store,
        token: str,
        versions: Mapping[str, str],
        threads: int | None,
        one_a_host: bool,
        estimates: Mapping[Chain, float | None],
        left: set[str],
    ) -> None:
        self.client = client
        self.keys_left = left
        environment = {name: os.environ[name] for name in SENT if name in os.environ}
        # The same name when the farm is started again with the same.
        content = [suite.snapshot.name for suite in suites], store, environment, versions
        name = sha256(repr((*content, threads, one_a_host)).encode())[:12]
        self.request = sent.Request(
            name=f"aebench-{name}",
            versions=dict(versions),
            snapshots=[asdict(suite.snapshot) for suite in suites],
            store=asdict(store),
            token=token,
            environment=environment,
            threads=threads,
            one_a_host=one_a_host,
        )
        pairs = [(suite, chain) for suite in suites for chain in suite.chains]
        # The longest first; one that uses what another one trains comes after it.
        pairs.sort(key=lambda pair: (pair[0] is not suites[0], -(estimates.get(pair[1]) or 0)))
        self.tasks: dict[str, Task] = {}  # in the order to send; two suites may have the same chain
        for suite, chain in pairs:
            self.tasks.setdefault(chain.key, Task(chain, suite, estimates.get(chain)))
        self.workers: dict[str, bool] = {}  # address of those that have answered -> whether fit
        self.trained: set[str] = set()  # of the chains that have ended: see `Chain.training`
        self.taken: list[float] = []  # seconds of the chains that have ended
        self.failed: list[str] = []
        self.interrupts = self.answered = 0  # by Ctrl-C
        self.served = time.monotonic()  # when there was a worker at last; inf: told that none is
        self.events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def run(self) -> None:
        """All of them; Ctrl-C once lets those end that have begun, twice stops these, too.

        KeyboardInterrupt after that. AebenchError if a chain failed, no worker is fit, or the
        scheduler has gone.
        """
        cloudpickle.register_pickle_by_value(sent)
        before = signal.signal(signal.SIGINT, self.interrupted)
        address = self.client.scheduler.address  # type: ignore[union-attr]
        try:
            self.client.subscribe_topic(self.request.name, self.heard)
            with tqdm(total=len(self.tasks), unit="chain", disable=None) as self.bar:
                self.register()
                while self.left():
                    self.step()
            self.client.unregister_worker_plugin(self.request.name)
            self.client.unsubscribe_topic(self.request.name)
        except (OSError, ClosedClientError) as error:
            raise AebenchError(
                f"{address}: the scheduler has gone ({first_line(error)}); what was computed is "
                "kept: start it, and run `aebench farm` again"
            ) from None
        finally:
            signal.signal(signal.SIGINT, before)
        if self.interrupts:
            raise KeyboardInterrupt
        if self.failed:
            again = "what was computed is kept: run `aebench farm` again for the rest"
            raise AebenchError("\n".join([*self.failed, again]))

    def register(self) -> None:
        """Let workers look whether they are fit, those too that come later."""
        try:
            self.client.register_plugin(sent.Fitness(self.request))
        except (OSError, ClosedClientError):
            raise
        except Exception as error:  # whatever a worker says that cannot read it
            python = self.request.versions["python"]
            raise AebenchError(
                f"a worker cannot read what it is sent ({type(error).__name__}: "
                f"{first_line(error)}); allowed: Python {python} and the Dask of this environment "
                "on each: end that worker, and run `aebench farm` again"
            ) from None

    def left(self) -> list[Task]:
        """Those that have not ended."""
        return [task for key, task in self.tasks.items() if key in self.keys_left]

    def step(self) -> None:
        """Take in what has happened, or wait a moment for it."""
        with contextlib.suppress(queue.Empty):
            self.events.get(timeout=0.5)()
        live = self.live()
        if self.answered < self.interrupts:
            self.answered = self.interrupts
            self.let_go()
        elif self.workers and not any(self.workers.values()) and live <= self.workers.keys():
            self.cancel(self.left())
            raise AebenchError("no worker is fit, see above; nothing was computed")
        else:
            self.feed(live)
        self.look_for_workers(live)
        self.bar.set_description_str(self.in_words(live), refresh=False)
        self.bar.refresh()

    def live(self) -> set[str]:
        """The addresses of the workers that there are."""
        found: Any = self.client.nthreads()
        return set(found)

    def look_for_workers(self, live: set[str]) -> None:
        """Say that it waits, where there has been none for a while that is fit, or may be."""
        if any(self.workers.get(worker, True) for worker in live):
            self.served = time.monotonic()
        elif time.monotonic() > self.served + PATIENCE:
            self.served = math.inf
            scheduler = self.client.scheduler
            self.say(f"no worker: waiting for one at {scheduler and scheduler.address}")

    def feed(self, live: set[str]) -> None:
        """Send as many chains as there are fit workers.

        Dask leaves what it has given to a worker there, when others come and its end is not known.
        """
        fit = sum(self.workers.get(worker, False) for worker in live)
        training = [task.chain.training for task in self.left() if task.future]
        for task in self.left():
            if len(training) >= fit or self.interrupts:
                break
            if task.future is None and task.chain.training not in training:
                self.submit(task)
                training.append(task.chain.training)  # others with the same wait for it

    def submit(self, task: Task) -> None:
        """Send it: its worker goes on if this process ends."""
        chain, snapshot = task.chain, task.suite.snapshot
        remote = bool(self.request.store["remote"])
        order = sent.Order(
            key=chain.key,
            copy=f"aebench-{snapshot.name}",
            place=snapshot.place,
            given=chain.given,
            targets=chain.targets,
            remote=remote,
            # What another worker has trained, DVC finds by what the remote remembers.
            pull=remote and chain.training in self.trained,
        )
        small = replace(self.request, snapshots=[])  # these the workers have
        future = self.client.submit(
            sent.chain,
            order,
            small,
            key=chain.key,
            retries=RETRIES,
            resources={small.name: 1},
            pure=False,
        )
        task.future, task.state = future, ""
        future.add_done_callback(lambda future: self.events.put(lambda: self.ended(future)))
        fire_and_forget(future)

    def cancel(self, tasks: Iterable[Task]) -> None:
        """Take them back from Dask."""
        futures = []
        for task in tasks:
            futures += [task.future] if task.future else []
            task.future = None
        self.client.cancel(futures, force=True)

    def fit(self, address: str) -> None:
        """A worker is. If it is alone, take back what no worker has that is still there.

        Dask looks for a worker when one comes, and not when one offers what a chain needs.
        """
        live = self.live()
        others = [one for one, fit in self.workers.items() if fit and one in live - {address}]
        self.workers[address] = True
        if not others:
            self.cancel(task for task in self.left() if not task.state or task.address not in live)
            # A farm that was killed may have sent some, also for what no worker offers any more.
            waiting = {task.chain.key: task for task in self.left() if task.future is None}
            known: Any = self.client.run_on_scheduler(sent.computed, list(waiting))
            over = [key for key, computed in known.items() if not computed]
            self.client.cancel([Future(key, self.client) for key in over], force=True)
            for key in known.keys() - set(over):
                self.submit(waiting[key])

    def heard(self, event: tuple[float, dict[str, Any]]) -> None:
        """In Dask's thread: a worker told something."""
        self.events.put(lambda: self.told(event[1]))

    def told(self, message: dict[str, Any]) -> None:
        """A worker is fit or not, or a chain goes on. `worker`: the address, as Dask adds it."""
        address, name = message["worker"], message["name"]
        if "key" in message:
            task = self.tasks[message["key"]]
            task.state, task.address, task.name = message["state"], address, name
        elif message["waits"]:
            self.say(f"worker {name} waits: one chain a host")
        elif faults := message["faults"]:
            self.workers[address] = False
            self.say("\n".join(f"worker {name} gets no chain: {fault}" for fault in faults))
        else:
            self.fit(address)

    def ended(self, future: "Future") -> None:
        """A chain has, in whichever way."""
        task = self.tasks[str(future.key)]
        if task.future is not future or future.status not in ("finished", "error"):
            return  # it was sent anew, or is not wanted any more
        task.future = None
        self.trained.add(task.chain.training)
        self.keys_left.discard(task.chain.key)
        found: Any = future.result() if future.status == "finished" else future.exception()
        if isinstance(found, BaseException):
            words = f"{task.chain.name}: {lost(found)}"
            if task.state:
                words += f" (in {task.state}, on {task.name})"
            self.failed.append(words)
            self.say(words)
        else:
            self.taken.append(found["seconds"])
            what = ", ".join(found["ran"] + found["failed"]) or "all was there"
            self.say(f"{task.chain.name}: {what}: {found['name']}, {found['seconds']:.1f} s")
        self.bar.update()

    def interrupted(self, number: int, frame: object) -> None:
        """Ctrl-C. What follows from it does not happen here: Dask's locks may be held."""
        self.interrupts += 1

    def let_go(self) -> None:
        """Take back what has not begun; after the second Ctrl-C all."""
        tasks = self.left()
        if self.interrupts > 1:
            self.say("Ctrl-C again: stopped; what has ended is kept")
        else:
            number = sum(bool(task.state) for task in tasks)
            tasks = [task for task in tasks if not task.state]
            self.say(f"Ctrl-C: no new chains; {number} end first (Ctrl-C again stops them)")
        self.cancel(tasks)
        if self.interrupts > 1:
            self.client.run(sent.stop, self.request.name)
        self.keys_left.difference_update(task.chain.key for task in tasks)

    def in_words(self, live: set[str]) -> str:
        """How many run, and how long it may take."""
        left = self.left()
        fit = sum(self.workers.get(worker, False) for worker in live)
        running = sum(bool(task.state) for task in left)
        mean = sum(self.taken) / len(self.taken) if self.taken else None
        known = [mean if task.seconds is None else task.seconds for task in left]
        sure = [seconds for seconds in known if seconds is not None]
        about = f", {in_words(sum(sure) / fit)} left" if fit and sure == known else ""
        return f"{running} of {fit} workers busy{about}"

    def say(self, line: str) -> None:
        """Above the bar."""
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()


def lost(error: BaseException) -> str:
    """Why a chain did not come back."""
    if isinstance(error, AebenchError):
        return first_line(error)
    if type(error).__name__ == "KilledWorker":
        return "its worker was killed, and the others that tried it, too: too little memory?"
    return f"{type(error).__name__}: {first_line(error)}"
