import sys
sys.path.insert(0,".")
from hypothesis import *
from hypothesis import strategies as st
from tests.plan.spec_programs import apps
from actorflow import App, SpecError
from actorflow.plan.spec.building import app_from_text
from actorflow.plan.spec.exporting import data_of_app
from actorflow.plan.spec.printing import printed
def bad(app):
    d=data_of_app(app); t=printed(d,"yaml")
    try: r=app_from_text(t,"yaml",make=App,python=True)
    except SpecError as e: print(e, file=sys.stderr); return True
    return dict(r.streams)!=dict(app.streams)
try:
    a=find(apps(),bad,settings=settings(max_examples=3000,suppress_health_check=list(HealthCheck)))
except errors.NoSuchExample: print("none")
else:
    sys.stderr.flush()
    print(printed(data_of_app(a),"yaml"))
    for t in a.streams.values():
        for s in t.steps: print(s)
        for e in t.edges: print(e)
        break
