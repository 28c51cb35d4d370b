"""The page for people: files that the gateway serves, without any build step."""
