"""batching.py: what is accepted is answered, in few batches; what is too much is refused at once."""

import asyncio
import threading

import pytest

from mmrec_helpers.serving.batching import Batcher, Limits, Overloaded
from mmrec_helpers.serving.pipeline import Request


class Model:
    """Answers a request with its k; may be held up, or fail."""

    def __init__(self):
        self.batches, self.goes, self.fails = [], threading.Event(), False
        self.goes.set()

    def __call__(self, requests):
        self.batches.append([request.k for request in requests])
        assert self.goes.wait(60)
        if self.fails:
            raise RuntimeError("the model fails")
        return [[(request.k, 0.0)] for request in requests]


def run(scenario, **limits):
    """Run a scenario with a model and its batcher."""

    async def main():
        model = Model()
        await scenario(model, Batcher(model, Limits(**limits)))
        return model

    return asyncio.run(main())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_requests_that_arrive_together_are_answered_together_each_by_its_own():
    async def scenario(model, batcher):
        answers = await asyncio.gather(*(batcher.submit(Request(k=k)) for k in range(100)))
        assert answers == [[(k, 0.0)] for k in range(100)]
        await batcher.stop()

    assert [len(batch) for batch in run(scenario, batch_size=64, wait=0.05).batches] == [64, 36]


def test_a_batch_takes_what_arrived_during_the_one_before():
    async def scenario(model, batcher):
        model.goes.clear()
        first = batcher.submit(Request(k=0))
        await until(lambda: model.batches)
        others = [batcher.submit(Request(k=k)) for k in range(1, 6)]
        await asyncio.sleep(0)
        model.goes.set()
        await asyncio.gather(first, *others)
        await batcher.stop()

    assert run(scenario, wait=0).batches == [[0], [1, 2, 3, 4, 5]]


def test_a_full_queue_refuses_and_loses_nothing():
    async def scenario(model, batcher):
        model.goes.clear()
        tasks = [batcher.submit(Request(k=0))]
        await until(lambda: model.batches)
        tasks += [batcher.submit(Request(k=k)) for k in range(1, 5)]
        for _ in range(5):
            with pytest.raises(Overloaded):
                batcher.submit(Request(k=9))
        model.goes.set()
        assert await asyncio.gather(*tasks) == [[(k, 0.0)] for k in range(5)]
        await batcher.stop()

    run(scenario, waiting=4, wait=0)


def test_nothing_is_computed_for_a_caller_who_has_gone():
    async def scenario(model, batcher):
        model.goes.clear()
        first = batcher.submit(Request(k=0))
        await until(lambda: model.batches)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(batcher.submit(Request(k=1)), 0.001)
        last = batcher.submit(Request(k=2))
        await asyncio.sleep(0)
        model.goes.set()
        await asyncio.gather(first, last)
        await batcher.stop()

    assert run(scenario, wait=0).batches == [[0], [2]]


def test_a_failure_reaches_its_batch_and_no_other():
    async def scenario(model, batcher):
        model.fails = True
        failed = await asyncio.gather(*(batcher.submit(Request(k=k)) for k in range(3)), return_exceptions=True)
        assert [str(error) for error in failed] == ["the model fails"] * 3
        model.fails = False
        assert await batcher.submit(Request(k=3)) == [(3, 0.0)]
        await batcher.stop()

    run(scenario)


def test_stop_answers_what_was_accepted_and_refuses_the_rest():
    async def scenario(model, batcher):
        accepted = [batcher.submit(Request(k=k)) for k in range(10)]
        await asyncio.sleep(0)
        stopped = asyncio.create_task(batcher.stop())
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            batcher.submit(Request(k=99))
        assert await asyncio.gather(*accepted) == [[(k, 0.0)] for k in range(10)]
        await stopped

    assert [k for batch in run(scenario, batch_size=4).batches for k in batch] == list(range(10))
