"""The `actorflow` command and its commands."""

from __future__ import annotations

import click

from actorflow.cli import asking, beginning, deploying, planning, serving, specs, storing


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="actorflow")
def main() -> None:
    """Run apps of dataflow streams, and send them requests.

    \b
    actorflow new shop                                         make a project that runs
    actorflow run examples.shop:app                            start an app on http://127.0.0.1:7700
    actorflow call payment '{"card": "4711", "cents": 450}'    send a request, print the reply
    actorflow top                                              watch its operators at work
    actorflow check examples.shop:app                          find every fault before anything starts
    actorflow graph examples.shop:app checkout --svg > a.svg   draw a stream
    """  # noqa: D301 - click looks for that control character


for command in (
    serving.run,
    serving.host,
    deploying.deploy,
    deploying.undeploy,
    deploying.apps,
    asking.call,
    asking.ps,
    asking.top,
    asking.requests,
    asking.dead_letters,
    asking.state,
    planning.check,
    planning.graph,
    planning.streams,
    specs.export,
    specs.import_,
    specs.schema,
    storing.store,
    beginning.new,
    beginning.doctor,
):
    main.add_command(command)
