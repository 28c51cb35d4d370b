"""The page for people: static files that the gateway serves. `app.js` begins, `host.js` is all it knows of HTTP."""
