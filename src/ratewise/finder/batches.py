"""Looking ahead in a stream of batches without taking anything from it."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any


class Lookahead(Iterator[Any]):
    """An iterator whose coming batches can be looked at; they still come.

    Train from it and give it to the finder: what the finder looked at stays in memory until training takes it.
    The source is asked earlier than training would have, so if it makes its batches with a global random generator,
    they are others than without the finder; a source with a generator of its own, or of stored data, is not affected.

    Args:
        source: Any iterable, also without length or end.

    Example:
        >>> stream = Lookahead(iter(range(4)))
        >>> next(stream), [batch for batch, _ in zip(stream.coming(), range(2))], next(stream)
        (0, [1, 2], 1)
    """

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = iter(source)
        self._ahead: deque[Any] = deque()

    def __next__(self) -> Any:
        return self._ahead.popleft() if self._ahead else next(self._source)

    def coming(self) -> Iterator[Any]:
        """Yield the batches to come, up to the end of the source, without taking them."""
        seen = 0
        while True:
            if seen == len(self._ahead):
                try:
                    self._ahead.append(next(self._source))
                except StopIteration:
                    return
            yield self._ahead[seen]
            seen += 1
