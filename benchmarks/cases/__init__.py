"""Programs of the published cases, written on actorflow: they double as examples of its API."""
