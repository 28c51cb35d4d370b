"""`python -m actorflow` is the `actorflow` command."""

from actorflow.cli.main import main

main()
