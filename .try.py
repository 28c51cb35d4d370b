import sys
from actorflow import App
from actorflow.plan.spec.building import *
from actorflow.plan.spec.exporting import data_of_app
from actorflow.plan.spec.printing import printed
import importlib

for m in sys.argv[1:]:
    mod, _, a = m.partition(":")
    app = getattr(importlib.import_module(mod), a)
    try:
        d = data_of_app(app)
    except SpecError as e:
        print("\n".join(e.faults))
        continue
    for f in ("yaml", "json", "toml"):
        t = printed(d, f)
        if f != "json":
            print(t)
        back = app_from_text(t, f, make=App, python=True)
        assert dict(back.streams) == dict(app.streams), f
        assert data_of_app(back) == d
