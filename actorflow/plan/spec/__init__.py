"""An app as data."""
