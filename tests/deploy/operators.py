"""What deployed specifications name in the tests."""

from __future__ import annotations

from actorflow import App, Operator

app = App("counting")
table = app.table("hits", key="page", value=int)


class Hit(Operator):
    hits = table.owned()

    def process(self, page: str) -> int:
        self.hits[page] = self.hits.get(page, 0) + 1
        return self.hits[page]
