"""The smallest app: one stream, one operator, one request.

python -m examples.hello
actorflow run examples.hello:app, then: actorflow call hello '"world"'
"""

import asyncio

from actorflow import App, Operator

app = App("hello")


class Greet(Operator):
    def process(self, name: str) -> str:
        return f"Hello, {name}!"


hello = app.stream("hello", str).then(Greet)


async def main() -> None:
    async with app.local() as client:
        print(await client.request(hello, "world"))


if __name__ == "__main__":
    asyncio.run(main())
