"""Independent pieces of work in parallel on Ray, results as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray

from actors.coordinator import unwrap
from actors.threads import one_thread

Item = TypeVar("Item")
Result = TypeVar("Result")


@ray.remote(num_cpus=1, max_retries=2)
def _call(function: Callable[[Any], Any], item: Any) -> Any:
    one_thread()
    return function(item)


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Apply a module-level function to each item, one CPU each; yields (item, result) in order of completion.

    The function runs in another process and must depend on its item alone.
    """
    waiting = {_call.remote(function, item): item for item in items}
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1)
        for reference in ready:
            yield waiting.pop(reference), unwrap(lambda ref=reference: ray.get(ref))
