"""The one thread in which models work, and the bounded number of questions before it."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pfedmoap.serving.bodies import Receive
from pfedmoap.serving.refusals import Departed, Refusal
from pfedmoap.serving.service import Abandoned, Proceed

T = TypeVar("T")


class Workplace:
    """Runs questions one by one outside the event loop.

    A question keeps its place until the thread is done with it, also where its asker has left, so
    that asking and leaving cannot pile up work.

    Args:
        questions: Places, that of the question at work included.
    """

    def __init__(self, questions: int) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._places = threading.BoundedSemaphore(questions)
        self._ended = threading.Event()

    async def run(self, work: Callable[[Proceed], T], receive: Receive) -> T:
        """Do one question's work; it stops soon after its asker left or this call is cancelled.

        Args:
            work: Calls its argument between slices.
            receive: Says that the asker has left.

        Returns:
            What the work gives.

        Raises:
            Refusal: All places are taken.
            Departed: The asker has left.
        """
        if not self._places.acquire(blocking=False):
            raise Refusal(503, "too many questions at once")
        stop = threading.Event()

        def proceed() -> None:
            if stop.is_set() or self._ended.is_set():
                raise Abandoned

        def begin() -> T:
            proceed()
            return work(proceed)

        try:
            job = self._thread.submit(begin)
        except RuntimeError as error:  # the thread has been closed
            self._places.release()
            raise Refusal(503, "the server is ending") from error
        job.add_done_callback(lambda _: self._places.release())
        answer = asyncio.wrap_future(job)
        gone = asyncio.ensure_future(_departure(receive))
        either: set[asyncio.Future[Any]] = {answer, gone}  # of two types
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise Departed
        except Abandoned as error:
            raise Refusal(503, "the server is ending") from error
        finally:
            stop.set()
            answer.cancel()
            gone.cancel()

    def close(self) -> None:
        """End the thread, which stops at its next slice; what waits is dropped."""
        self._ended.set()
        self._thread.shutdown(wait=True, cancel_futures=True)


async def _departure(receive: Receive) -> None:
    """Wait until the asker has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
