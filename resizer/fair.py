"""Waiting things of several clients, in turn. Pure.

Round robin (Nagle, RFC 970): each client has a queue of its own, and one thing of each is taken a
round. A client that sends a hundred waits for itself and for nobody else's hundred. There are never
more clients here than things.
"""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class FairQueue(Generic[Thing]):
    """Unbounded: whoever puts knows the bound. put, put_back and take are O(1)."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Thing]] = OrderedDict()
        self.size = 0  # things of all clients; for reading

    def __len__(self) -> int:
        return self.size

    def of(self, client: str) -> int:
        """How many of this client wait."""
        return len(self._queues.get(client, ()))

    def put(self, client: str, thing: Thing) -> None:
        self._queues.setdefault(client, deque()).append(thing)
        self.size += 1

    def put_back(self, client: str, thing: Thing) -> None:
        """What was taken and not begun is the next to be taken."""
        self._queues.setdefault(client, deque()).appendleft(thing)
        self._queues.move_to_end(client, last=False)
        self.size += 1

    def take(self) -> Thing | None:
        if not self._queues:
            return None
        client, queue = next(iter(self._queues.items()))
        thing = queue.popleft()
        self.size -= 1
        if queue:
            self._queues.move_to_end(client)
        else:
            del self._queues[client]
        return thing

    def withdraw(self, client: str, thing: Thing) -> bool:
        """False when it does not wait here (any more)."""
        queue = self._queues.get(client)
        if queue is None or thing not in queue:
            return False
        queue.remove(thing)
        self.size -= 1
        if not queue:
            del self._queues[client]
        return True

    def newest_of_greediest(self) -> Thing | None:
        """The last thing of the client with the most. O(clients)."""
        longest = max(self._queues.values(), key=len, default=None)
        return None if longest is None else longest[-1]
