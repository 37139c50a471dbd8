"""A script with an event loop of its own."""

import asyncio

import flare_async.client as flare


async def main():
    async for task in flare.tasks():
        assert task.name == "train"
        model = task.model
        ticks = asyncio.create_task(asyncio.sleep(0))
        model.params["w"] += 1
        await task.send(model)
        await ticks


asyncio.run(main())
